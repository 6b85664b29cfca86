"""Pretrained networks: building them, their weights, their layer groups, their checkpoints."""
