"""Numbers that compare clouds, or what a classifier makes of them."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from ..classifier import Classified, PointNetClassifier
from ..points import in_unit_ball, nearest_distances

NEAR = 0.02  # a fiftieth of the box that clouds lie in


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Fréchet distance of Gaussians fitted to features [N, D] and [M, D]; of a PointNet++, P-FID.

    Raises ValueError for fewer than two of either. Source: Heusel et al. 2017; Point-E, section 5.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(
            f"a Fréchet distance needs 2 clouds or more on both sides: {len(first)}, {len(second)}"
        )
    a, b = first.double(), second.double()
    # The trace of the root of a product of covariances, as the singular values of a product of their factors.
    left, right = (torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5, mode="r").R for x in (a, b))
    shared = torch.linalg.svdvals(left @ right.T).sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return float(apart + left.square().sum() + right.square().sum() - 2 * shared)


def inception_score(log_probabilities: Tensor, split: int = 5000) -> float:
    """Inception score of log-probabilities [N, classes]; of a PointNet++, P-IS. The mean of parts of `split`.

    Source: Salimans et al. 2016; Point-E, section 5.
    """
    scores = []
    for part in log_probabilities.double().split(split):
        mean = part.exp().mean(0).clamp_min(1e-300).log()
        # A class that a cloud has no chance of counts nothing.
        scores.append(torch.where(part.exp() > 0, part.exp() * (part - mean), 0).sum(1).mean().exp())
    return float(torch.stack(scores).mean())


def chamfer_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance from a point of one cloud [N, 3] to the nearest of the other [M, 3], meant over both ways."""
    there, back = nearest_distances(second, first), nearest_distances(first, second)
    return float((there.mean() + back.mean()) / 2)


def f_score(made: np.ndarray, true: np.ndarray, near: float = NEAR) -> float:
    """Harmonic mean of the shares of points of each cloud that have one of the other within `near`.

    Source: Tatarchenko et al. 2019.
    """
    precision = float((nearest_distances(true, made) <= near).mean())
    recall = float((nearest_distances(made, true) <= near).mean())
    return 2 * precision * recall / max(precision + recall, 1e-12)


@torch.no_grad()
def classified(
    classifier: PointNetClassifier, clouds: list[np.ndarray], batch_size: int = 32, progress: bool = False
) -> Classified:
    """What a PointNet++ makes of clouds, [points, 3] each, scaled to the unit ball.

    Raises ValueError for one with fewer than 512 points, or all of whose points lie in one place.
    """
    found: list[Classified] = []
    with tqdm(total=len(clouds), unit="cloud", disable=not progress, leave=False) as bar:
        for some in _alike(clouds, batch_size):
            points = in_unit_ball(torch.from_numpy(np.stack(some)).float())
            if not points.isfinite().all():
                raise ValueError("a cloud's points all lie in one place; nothing can be made of its shape")
            inputs = rearrange(points, "n points c -> n c points").to(classifier.device)
            found.append(Classified(*(each.float().cpu() for each in classifier(inputs))))
            bar.update(len(some))
    return Classified(*(torch.cat(each) for each in zip(*found, strict=True)))


def _alike(clouds: list[np.ndarray], size: int) -> list[list[np.ndarray]]:
    """Batches in order, of clouds with the same number of points."""
    batches: list[list[np.ndarray]] = []
    for cloud in clouds:
        if not batches or len(batches[-1]) == size or len(batches[-1][0]) != len(cloud):
            batches.append([])
        batches[-1].append(cloud)
    return batches
