"""Zero-shot classification: which of these labels fits the picture, for labels that nobody trained on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

from .preprocess import Picture
from .templates import DEFAULT_TEMPLATES, check_labels, check_templates
from .tokenizer import TextTooLong

if TYPE_CHECKING:
    from .model import ClipModel

LABELS_AT_ONCE = 1000
_REMEMBERED = 16

Scores = list[dict[str, Any]]


class ZeroShotClassifier:
    """Tells which label fits a picture by comparing it with the label's words in several sentences.

    model: a ClipModel. labels: texts; may be left out here and given with each call. templates: sentences with a "{}".
    The vectors of labels are computed once and remembered (the last 16 sets); after training the model further, make
    a new classifier. Raises ValueError for no labels, one that is blank or there twice, and a template without "{}".
    Source: Radford et al. 2021, section 3.1.4 (prompt ensembles in embedding space).
    """

    def __init__(
        self, model: ClipModel, labels: Sequence[str] | None = None, templates: Sequence[str] | None = None
    ) -> None:
        self.model = model
        self.labels = None if labels is None else check_labels(labels)
        self.templates = DEFAULT_TEMPLATES if templates is None else check_templates(templates)
        self._remembered: dict[tuple[str, ...], Tensor] = {}

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike = "mini",
        *,
        labels: Sequence[str] | None = None,
        templates: Sequence[str] | None = None,
        **options: Any,
    ) -> ZeroShotClassifier:
        """With a model by name, file or folder; `options` (dtype, device) go to ClipModel.from_pretrained."""
        labels = None if labels is None else check_labels(labels)
        templates = None if templates is None else check_templates(templates)
        from .model import ClipModel

        return cls(ClipModel.from_pretrained(os.fspath(model), **options), labels, templates)

    @torch.no_grad()
    def __call__(
        self,
        pictures: Picture | Iterable[Picture],
        labels: Sequence[str] | None = None,
        *,
        top_k: int | None = None,
        batch_size: int = 32,
    ) -> Scores | list[Scores]:
        """[{"label": …, "score": …}, …], best first, for one picture (PIL or path); a list of such for several.

        labels: for this call instead of the classifier's. top_k: only the best so many. Scores are probabilities: over
        all labels together, or, for a model trained with the sigmoid loss, of each label by itself.
        Raises ValueError for no pictures, no labels, or a picture that cannot be read (OSError if it is not there).
        """
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}")
        labels = self._labels(labels)
        one = isinstance(pictures, (str, os.PathLike, Image))
        several = [pictures] if one else list(pictures)
        if not several:
            raise ValueError("there are no pictures; give at least one")
        self.label_vectors(labels)  # first, as a label may be too long
        vectors = self.model.embed_images(several, batch_size=batch_size)
        results = self.rank(vectors, labels, top_k=top_k)
        return results[0] if one else results

    def rank(
        self, vectors: Tensor, labels: Sequence[str] | None = None, *, top_k: int | None = None
    ) -> list[Scores]:
        """The same for vectors [N, D] of pictures; equally probable labels keep their order."""
        labels = self._labels(labels)
        scores = self.probabilities(vectors, labels)
        order = scores.sort(dim=-1, descending=True, stable=True).indices[:, :top_k]
        return [
            [{"label": labels[i], "score": float(row[i])} for i in best.tolist()]
            for row, best in zip(scores, order, strict=True)
        ]

    def probabilities(self, vectors: Tensor, labels: Sequence[str] | None = None) -> Tensor:
        """Probabilities [N, labels] for vectors [N, D] of length 1."""
        logits = self.model.logit_scale * vectors @ self.label_vectors(labels).T
        bias = self.model.logit_bias
        return logits.softmax(dim=-1) if bias is None else (logits + bias).sigmoid()

    def label_vectors(self, labels: Sequence[str] | None = None) -> Tensor:
        """The vectors [labels, D] of labels, length 1; computed on first use."""
        labels = self._labels(labels)
        if labels not in self._remembered:
            self._remembered[labels] = embed_labels(self.model, labels, self.templates)
            if len(self._remembered) > _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        return self._remembered[labels]

    def _labels(self, labels: Sequence[str] | None) -> tuple[str, ...]:
        if labels is not None:
            return check_labels(labels)
        if self.labels is None:
            raise ValueError("there are no labels; give them to the classifier or with the call")
        return self.labels


@torch.no_grad()
def embed_labels(
    model: ClipModel, labels: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES
) -> Tensor:
    """Vectors [labels, D] of length 1: the mean over templates of normalised text vectors, normalised again.

    Raises ValueError naming a label too long for the model.
    """
    vectors = []
    for first in range(0, len(labels), LABELS_AT_ONCE):
        some = labels[first : first + LABELS_AT_ONCE]
        texts = [template.replace("{}", label) for label in some for template in templates]
        try:
            each = model.embed_texts(texts).view(len(some), len(templates), -1)
        except TextTooLong as error:
            label, template = some[error.row // len(templates)], templates[error.row % len(templates)]
            label = label if len(label) <= 60 else f"{label[:57]}…"
            raise ValueError(
                f"the label {label!r} is too long: in the template {template!r} it makes {error.tokens} tokens, and "
                f"the model takes {error.room}; shorten the label or the template"
            ) from None
        vectors.append(F.normalize(each.mean(dim=1), dim=-1))
    return torch.cat(vectors)
