"""The training loop, and one replicate from its first weights to its last."""
