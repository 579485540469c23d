"""Which of several pictures fit their words best, by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..clip import ClipModel
    from .base import PictureOutput


def clip_scores(clip: ClipModel, prompt: str, pictures: Sequence[Image]) -> list[float]:
    """How well each picture fits the prompt: the cosine of their vectors, from -1 to 1. A long prompt loses its end.

    Source: DALL·E (Ramesh et al. 2021), section 2.6, draws many and keeps what CLIP ranks first.
    """
    words = clip.embed_texts([prompt], truncate=True)
    return (clip.embed_images(pictures) @ words[0]).tolist()


def ranked(clip: ClipModel, prompt: str, drawn: PictureOutput) -> PictureOutput:
    """The same pictures, PIL, best first (of equal ones the earlier), with "clip_score" in their settings."""
    scores = clip_scores(clip, prompt, drawn.images)
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    settings = [{**drawn.settings[i], "clip_score": f"{scores[i]:.4f}"} for i in order]
    return replace(drawn, images=[drawn.images[i] for i in order], settings=settings)
