"""Pictures and captions in the samples of shards."""

import io
from typing import Any

from PIL import Image

from ..picture_sources import picture_among
from ..preprocess import open_picture


def picture_in(sample: dict[str, Any]) -> Image.Image:
    """The picture of a raw sample. Raises ValueError if it has none, and what `open_picture` raises."""
    kind = picture_among(sample)
    if kind is None:
        raise ValueError("it has no picture (.png, .jpg, …)")
    return open_picture(io.BytesIO(sample[kind]))


def caption_in(sample: dict[str, Any], kind: str = "txt") -> str:
    """A text of a raw sample without what editors put before and after it, which prompts do not have.

    Raises ValueError if it has none.
    """
    if kind not in sample:
        raise ValueError(f"it has no caption (.{kind})")
    return sample[kind].decode("utf-8-sig").strip()
