"""Pictures of training samples as a network sees them."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ...clip.preprocess import open_picture

KINDS = ("png", "jpg", "jpeg", "webp")


def caption_of(sample: dict[str, Any]) -> str:
    """A raw sample's `txt` without what editors put before and after it, which prompts do not have."""
    return sample["txt"].decode("utf-8-sig").strip()


def read_picture(sample: dict[str, Any], side: int) -> np.ndarray:
    """The middle square of a raw sample's `png`, `jpg`, `jpeg` or `webp`, reduced to uint8 [3, side, side].

    Raises ValueError for a picture that is too small, and what `open_picture` raises.
    """
    kind = next((kind for kind in KINDS if kind in sample), "png")
    picture = open_picture(io.BytesIO(sample[kind]))
    if min(picture.size) < side:
        raise ValueError(f"it has {picture.width}×{picture.height} pixels, expected at least {side}×{side}")
    picture = ImageOps.fit(picture, (side, side), Image.Resampling.BOX)
    return np.asarray(picture).transpose(2, 0, 1).copy()
