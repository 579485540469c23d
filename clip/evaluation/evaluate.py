"""How well scores name pictures: top-1, top-5, each class by itself, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..model import ClipModel
    from .labelled_pictures import LabelledPictures


@dataclass(frozen=True)
class Evaluation:
    """`confusion` [C, C]: how many pictures of a class (row) were given each label (column).

    `top5_hits` [C]: how many pictures of a class have it among their five best labels.
    """

    labels: tuple[str, ...]
    confusion: np.ndarray
    top5_hits: np.ndarray

    @property
    def pictures(self) -> int:
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of the pictures whose best label is the right one."""
        return float(np.trace(self.confusion) / self.pictures)

    @property
    def top5(self) -> float:
        """Share of the pictures whose right label is among the five best."""
        return float(self.top5_hits.sum() / self.pictures)

    @property
    def mean_per_class(self) -> float:
        """Top-1 averaged over the classes that have pictures, as for unbalanced data."""
        counts = self.confusion.sum(axis=1)
        seen = counts > 0
        return float((np.diag(self.confusion)[seen] / counts[seen]).mean())

    def classes(self) -> list[dict[str, Any]]:
        """For each class with pictures: label, pictures, top1, top5, and the wrong label given most (or None)."""
        rows = []
        for i, label in enumerate(self.labels):
            count = int(self.confusion[i].sum())
            if not count:
                continue
            wrong = self.confusion[i].copy()
            wrong[i] = 0
            rows.append(
                {
                    "label": label,
                    "pictures": count,
                    "top1": float(self.confusion[i, i] / count),
                    "top5": float(self.top5_hits[i] / count),
                    "taken_for": self.labels[int(wrong.argmax())] if wrong.any() else None,
                }
            )
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Everything but the confusion, ready for JSON."""
        return {
            "pictures": self.pictures,
            "top1": self.top1,
            "top5": self.top5,
            "mean_per_class": self.mean_per_class,
            "classes": self.classes(),
        }


def evaluate_scores(scores: Any, targets: Sequence[int] | np.ndarray, labels: Sequence[str]) -> Evaluation:
    """scores [N, C] (higher is better; equal ones count in the labels' order) against targets [N] from 0 to C - 1.

    Raises ValueError for shapes that do not fit, no pictures, or scores that are not finite.
    """
    from sklearn.metrics import confusion_matrix

    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.shape != (len(targets), len(labels)) or not len(targets):
        raise ValueError(
            f"scores must be [{len(targets)} pictures, {len(labels)} labels] and not empty, not {list(scores.shape)}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("the scores hold values that are not finite; the model is broken")
    if targets.min() < 0 or targets.max() >= len(labels):
        raise ValueError(
            f"targets must be from 0 to {len(labels) - 1}, not {targets.min()} to {targets.max()}"
        )
    confusion = confusion_matrix(targets, scores.argmax(axis=1), labels=np.arange(len(labels)))
    right = np.take_along_axis(scores, targets[:, None], axis=1)
    earlier = np.arange(len(labels)) < targets[:, None]
    before = (scores > right).sum(axis=1) + ((scores == right) & earlier).sum(axis=1)
    return Evaluation(tuple(labels), confusion, np.bincount(targets[before < 5], minlength=len(labels)))


def evaluate_model(
    model: ClipModel,
    data: LabelledPictures,
    templates: Sequence[str] | None = None,
    train: LabelledPictures | None = None,
    progress: bool = False,
) -> tuple[dict[str, Evaluation], list[str]]:
    """Name every picture: "zero-shot" by its nearest label and, given `train`, by "linear probe" and "nearest 20".

    Returns an evaluation by each name, and a sentence for each picture (of either set) that cannot be read and was left
    out. Raises ValueError if none can be read, or `train` lacks a label of `data`.
    """
    from ..picture_sources import embed_sources
    from ..templates import DEFAULT_TEMPLATES, check_templates
    from ..zero_shot import embed_labels
    from .probe import linear_probe, nearest_neighbours

    templates = DEFAULT_TEMPLATES if templates is None else check_templates(templates)
    places = None if train is None else _places(data, train)
    label_vectors = embed_labels(model, data.labels, templates)
    test = embed_sources(model, data.pictures, progress=progress)
    skipped = [sentence for _, sentence in test.skipped]
    targets = data.take(test.kept).targets
    results = {"zero-shot": evaluate_scores(test.vectors @ label_vectors.T, targets, data.labels)}
    if train is not None and places is not None:
        learned = embed_sources(model, train.pictures, progress=progress)
        skipped += [sentence for _, sentence in learned.skipped]
        given = (learned.vectors, train.take(learned.kept).targets, test.vectors, len(train.labels))
        targets = [places[target] for target in targets]
        results["linear probe"] = evaluate_scores(linear_probe(*given), targets, train.labels)
        results["nearest 20"] = evaluate_scores(nearest_neighbours(*given), targets, train.labels)
    return results, list(dict.fromkeys(skipped))


def _places(data: LabelledPictures, train: LabelledPictures) -> dict[int, int]:
    """Where the labels that occur in `data` stand among those of `train`."""
    if data.labels == train.labels:
        return {number: number for number in range(len(data.labels))}
    known = {label: number for number, label in enumerate(train.labels)}
    used = sorted(set(data.targets))
    if missing := next((data.labels[number] for number in used if data.labels[number] not in known), None):
        raise ValueError(
            f"there are no pictures of {missing!r} to train the probe on; give some, or evaluate without it"
        )
    return {number: known[data.labels[number]] for number in used}
