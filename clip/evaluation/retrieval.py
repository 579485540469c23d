"""Retrieval: how often a picture finds its caption among all, and a caption its picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..picture_sources import Source, embed_sources

if TYPE_CHECKING:
    from ..model import ClipModel

KS = (1, 5, 10)
_AT_ONCE = 1024


def evaluate_retrieval(
    model: ClipModel, pictures: Sequence[Source], captions: Sequence[str], progress: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """The number of "pairs" and `retrieval_recall` of pictures and their captions, long ones cut.

    Also returns a sentence for each picture that cannot be read and was left out.
    """
    texts = model.embed_texts(captions, truncate=True)
    images = embed_sources(model, pictures, progress=progress)
    recall = retrieval_recall(images.vectors, texts[images.kept])
    return {"pairs": len(images.kept), **recall}, [sentence for _, sentence in images.skipped]


@torch.no_grad()
def retrieval_recall(images: Tensor, texts: Tensor) -> dict[str, dict[int, float]]:
    """Recall@k both ways: {"image_to_text": {1: …, 5: …, 10: …}, "text_to_image": {…}}, shares from 0 to 1.

    images [N, D] of length 1 and texts [N, D], each picture's own in its row.
    Ties count against the model: what scores as high as the right answer stands before it, so that a model which gives
    everything one vector finds nothing. Memory is that of 1,024 rows of the N × N similarities.
    Raises ValueError for vectors that do not fit together or are not finite.
    """
    if images.ndim != 2 or images.shape != texts.shape or not len(images):
        raise ValueError(
            f"retrieval needs vectors [N, D] of pictures and as many of texts, not {list(images.shape)} and "
            f"{list(texts.shape)}"
        )
    if not (images.isfinite().all() and texts.isfinite().all()):
        raise ValueError("the vectors hold values that are not finite; the model is broken")
    ranks = {"image_to_text": _ranks(images, texts), "text_to_image": _ranks(texts, images)}
    return {way: {k: float((rank < k).double().mean()) for k in KS} for way, rank in ranks.items()}


def _ranks(queries: Tensor, answers: Tensor) -> Tensor:
    """How many wrong answers score at least as high as the right one, for each query."""
    ranks = []
    for first in range(0, len(queries), _AT_ONCE):
        scores = queries[first : first + _AT_ONCE].float() @ answers.float().T
        ranks.append((scores >= scores.diagonal(first)[:, None]).sum(dim=1) - 1)
    return torch.cat(ranks)
