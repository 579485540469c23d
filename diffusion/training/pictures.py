"""Pictures of training samples as a network sees them."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ...clip.training.pairs import picture_in


def read_picture(sample: dict[str, Any], side: int) -> np.ndarray:
    """The middle square of a raw sample's picture, reduced to uint8 [3, side, side].

    Raises ValueError for a picture that is too small, and what `picture_in` raises.
    """
    picture = picture_in(sample)
    if min(picture.size) < side:
        raise ValueError(f"it has {picture.width}×{picture.height} pixels, expected at least {side}×{side}")
    picture = ImageOps.fit(picture, (side, side), Image.Resampling.BOX)
    return np.asarray(picture).transpose(2, 0, 1).copy()
