"""What stands behind the thing in a photo: whether there is something, and taking it away."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from PIL.Image import Image

from ..clip.preprocess import to_rgb

# How far the pixels of a picture's border may lie from their median, of 255, and what share of them farther.
PLAIN, STRAY = 24, 0.2


def has_background(picture: Image) -> bool:
    """Whether the border of a picture is of more than one colour. Transparency counts as white."""
    pixels = np.asarray(to_rgb(picture), np.int16)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    far = np.abs(border - np.median(border, axis=0)).max(axis=1) > PLAIN
    return bool(far.mean() > STRAY)


def can_remove_background() -> bool:
    """Whether what `without_background` needs is installed."""
    return find_spec("rembg") is not None


def without_background(picture: Image) -> Image:
    """The thing in a picture on white, as rembg cuts it out; its network is downloaded on first use.

    Raises ModuleNotFoundError if it is not installed.
    """
    if not can_remove_background():
        raise ModuleNotFoundError(
            "taking the background away needs rembg, which is not installed: pip install 'rembg[cpu]'"
        )
    from rembg import remove  # pyright: ignore[reportMissingImports]

    return to_rgb(remove(picture))
