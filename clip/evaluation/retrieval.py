"""Retrieval: how often a picture finds its caption among all, and a caption its picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..picture_sources import Source, embed_sources

if TYPE_CHECKING:
    from ..model import ClipModel

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
def retrieval_recall(
    images: Tensor,
    texts: Tensor,
    ks: Sequence[int] = (1, 5, 10),
    image_of_text: Tensor | Sequence[int] | None = None,
) -> dict[str, dict[int, float]]:
    """Recall@k both ways: {"image_to_text": {1: …, 5: …}, "text_to_image": {…}}, shares from 0 to 1.

    images [N, D] and texts [M, D] of length 1. Text j belongs to picture image_of_text[j]; by default N = M and to
    picture j. A picture with several texts is found right if any of them is among the k best, as is usual for COCO.
    Ties count against the model: what scores as high as the right answer stands before it, so that a model which gives
    everything one vector finds nothing. Memory is that of 1,024 rows of the N × M similarities.
    Raises ValueError for vectors that do not fit together or are not finite, and for a picture without a text.
    """
    owner = _checked(images, texts, ks, image_of_text)
    number = torch.arange(len(images))
    ranks = {
        "image_to_text": _ranks(images, texts, number, owner),
        "text_to_image": _ranks(texts, images, owner, number),
    }
    return {way: {k: float((rank < k).double().mean()) for k in ks} for way, rank in ranks.items()}


def _ranks(queries: Tensor, answers: Tensor, query_group: Tensor, answer_group: Tensor) -> Tensor:
    """How many wrong answers score at least as high as the best right one, for each query."""
    ranks = []
    for first in range(0, len(queries), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        scores = queries[some].float() @ answers.float().T
        right = query_group[some, None] == answer_group
        best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        ranks.append(((scores >= best) & ~right).sum(dim=1))
    return torch.cat(ranks)


def _checked(
    images: Tensor, texts: Tensor, ks: Sequence[int], owner: Tensor | Sequence[int] | None
) -> Tensor:
    if images.ndim != 2 or texts.ndim != 2 or not len(images) or images.shape[1] != texts.shape[1]:
        raise ValueError(
            "retrieval needs vectors [N, D] of pictures and [M, D] of texts, "
            f"not {list(images.shape)} and {list(texts.shape)}"
        )
    if not (images.isfinite().all() and texts.isfinite().all()):
        raise ValueError("the vectors hold values that are not finite; the model is broken")
    if not ks or any(k < 1 for k in ks):
        raise ValueError(f"recall@k needs every k to be at least 1, not {list(ks)}")
    if owner is None:
        if len(images) != len(texts):
            raise ValueError(
                f"there are {len(images)} pictures and {len(texts)} texts; give as many, or say with image_of_text "
                "which picture each text belongs to"
            )
        return torch.arange(len(images))
    owner = torch.as_tensor(owner)
    if owner.shape != (len(texts),) or not torch.equal(owner.unique(), torch.arange(len(images))):
        raise ValueError(
            f"image_of_text needs a picture's number from 0 to {len(images) - 1} for each of {len(texts)} texts, "
            "and every picture at least one text"
        )
    return owner
