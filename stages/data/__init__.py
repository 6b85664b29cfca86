"""Where images come from, how they are split, stored and batched."""
