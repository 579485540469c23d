"""Classifiers on top of frozen vectors: the linear probe of CLIP's paper, and the nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# openai/CLIP's README has 0.316 for its vectors, which are some 10 long; for ours of length 1 that is a hundredfold.
USUAL_C = 31.6
ITERATIONS = 1000
NEIGHBOURS, TEMPERATURE = 20, 0.07
STRENGTHS = (0.0316, 0.316, 3.16, USUAL_C, 316.0, 3160.0)


def linear_probe(
    train: Any,
    train_targets: Sequence[int],
    test: Any,
    classes: int,
) -> np.ndarray:
    """Logistic regression on vectors of length 1: log-probabilities [M, classes] of `test` [M, D].

    train [N, D] with targets from 0 to classes - 1; a class without pictures gets -1e9. The strength of regularisation
    is the best of six on a held-out fifth of `train`, or the usual one where a fifth would say little: if some class
    has a single picture, or there are fewer than five for each class on average.
    Deterministic. Source: Radford et al. 2021, appendix A.3, and openai/CLIP's README.
    Raises ValueError for fewer than two classes, shapes that do not fit, and vectors that are not finite.
    """
    from sklearn.linear_model import LogisticRegression

    x, y, queries = _checked(train, train_targets, test, classes)
    fitted = LogisticRegression(C=best_strength(x, y), max_iter=ITERATIONS).fit(x, y)
    return _spread(fitted.predict_log_proba(queries), np.asarray(fitted.classes_), classes)


def nearest_neighbours(
    train: Any,
    train_targets: Sequence[int],
    test: Any,
    classes: int,
) -> np.ndarray:
    """Shares of the vote [M, classes] among the 20 nearest of `train` [N, D] by cosine, for `test` [M, D].

    A vote weighs exp(cosine / 0.07). Raises ValueError as `linear_probe` does.
    Source: Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination", section 3.4.
    """
    from sklearn.neighbors import KNeighborsClassifier

    x, y, queries = _checked(train, train_targets, test, classes)

    def weights(distances: np.ndarray) -> np.ndarray:
        # Relative to the nearest, so that the weights neither overflow nor all vanish.
        return np.exp((distances.min(axis=1, keepdims=True) - distances) / TEMPERATURE)

    how: Any = {"weights": weights, "algorithm": "brute", "metric": "cosine"}
    model = KNeighborsClassifier(min(NEIGHBOURS, len(x)), **how)
    return _spread(model.fit(x, y).predict_proba(queries), np.asarray(model.classes_), classes, absent=0.0)


def best_strength(x: np.ndarray, y: np.ndarray) -> float:
    """The C of `linear_probe`, the inverse strength of regularisation; the smaller of equals."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    found, counts = np.unique(y, return_counts=True)
    if counts.min() < 2 or len(y) < 5 * len(found):
        return USUAL_C
    parts = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    fit_x, held_x, fit_y, held_y = parts
    scores = [
        LogisticRegression(C=C, max_iter=ITERATIONS).fit(fit_x, fit_y).score(held_x, held_y)
        for C in STRENGTHS
    ]
    return STRENGTHS[int(np.argmax(scores))]


def _spread(scores: np.ndarray, known: np.ndarray, classes: int, absent: float = -1e9) -> np.ndarray:
    """Columns of the classes that were seen, in their places among all."""
    spread = np.full((len(scores), classes), absent)
    spread[:, known] = np.maximum(scores, absent)
    return spread


def _checked(
    train: Any, targets: Sequence[int], test: Any, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, queries, y = np.asarray(train, np.float32), np.asarray(test, np.float32), np.asarray(targets)
    if x.ndim != 2 or queries.ndim != 2 or x.shape[1] != queries.shape[1] or y.shape != (len(x),):
        raise ValueError(
            "a probe needs train vectors [N, D] with N targets and test vectors [M, D], "
            f"not {list(x.shape)} with {list(y.shape)} and {list(queries.shape)}"
        )
    if len(np.unique(y)) < 2:
        raise ValueError("a probe needs pictures of at least two classes to learn from")
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"targets must be from 0 to {classes - 1}, not {y.min()} to {y.max()}")
    if not (np.isfinite(x).all() and np.isfinite(queries).all()):
        raise ValueError("the vectors hold values that are not finite; the model is broken")
    return x, y, queries
