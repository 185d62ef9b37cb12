"""Refine a pretrained speech encoder after pretraining, and see honestly what changed."""

__version__ = "0.1.0"
