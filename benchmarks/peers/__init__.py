"""Ours beside the exercise's script, fastai, Lightning and timm's own parts, on the same image files."""

# timm, fastai and Lightning import torchvision, whose operators may have to be declared first.
import stages.libraries  # noqa: F401
