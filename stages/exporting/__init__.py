"""Networks that leave the project: the formats they go in, the check against torch, the model card, and predicting."""
