"""Ours beside the exercise's script, fastai, Lightning and timm's own parts, on the same image files."""
