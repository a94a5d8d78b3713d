"""What pretrained encoders expect of pictures: channel statistics."""

from __future__ import annotations

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the channels red, green and blue in [0, 1]: what is taken off and divided by."""
