"""Pictures and captions in the samples of shards."""

import io
from typing import Any

from PIL import Image

from ..preprocess import open_picture

KINDS = ("png", "jpg", "jpeg", "webp")


def picture_in(sample: dict[str, Any]) -> Image.Image:
    """The picture of a raw sample. Raises ValueError if it has none, and what `open_picture` raises."""
    kind = next((kind for kind in KINDS if kind in sample), None)
    if kind is None:
        raise ValueError(f"it has no picture (.{', .'.join(KINDS)})")
    return open_picture(io.BytesIO(sample[kind]))


def caption_in(sample: dict[str, Any], kind: str = "txt") -> str:
    """A text of a raw sample without what editors put before and after it, which prompts do not have.

    Raises ValueError if it has none.
    """
    if kind not in sample:
        raise ValueError(f"it has no caption (.{kind})")
    return sample[kind].decode("utf-8-sig").strip()
