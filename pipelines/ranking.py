"""Which of several pictures fit their words best, by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..clip import ClipModel


def clip_scores(clip: ClipModel, prompt: str, pictures: Sequence[Image]) -> list[float]:
    """How well each picture fits the prompt: the cosine of their vectors, from -1 to 1. A long prompt loses its end.

    Source: DALL·E (Ramesh et al. 2021), section 2.6, draws many and keeps what CLIP ranks first.
    """
    words = clip.embed_texts([prompt], truncate=True)
    return (clip.embed_images(pictures) @ words[0]).tolist()


def best(scores: Sequence[float], count: int) -> list[int]:
    """Numbers of the `count` highest scores, best first; of equal ones the earlier."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:count]
