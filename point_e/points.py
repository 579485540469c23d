"""Choosing points of a cloud: the farthest, the nearest, and their colours."""

import numpy as np
import torch
from einops import reduce
from scipy.spatial import KDTree
from torch import Tensor

MANY = 16_384  # points, from which on a tree is faster than to look at all
FIRST = 32  # choices during which nearly all points are near


def farthest_points(clouds: Tensor, count: int, start: int | Tensor = 0) -> Tensor:
    """Indices int64 [N, count] of points spread evenly over each cloud.

    clouds: [N, points, 3 or more], xyz first. start: the first index, one for all or int64 [N]; each next point is the
    farthest from all before it. Raises ValueError where a cloud has fewer than `count` points. Source: PointNet++ (Qi
    et al. 2017).
    """
    n, points, _ = clouds.shape
    if not 1 <= count <= points:
        raise ValueError(f"cannot choose {count} of {points} points; give between 1 and {points}")
    xyz, rows = clouds[..., :3], torch.arange(n, device=clouds.device)
    if points > MANY:
        starts = (torch.zeros_like(rows) + start).tolist()
        chosen = [
            _farthest_of_many(cloud, count, s) for cloud, s in zip(xyz.cpu().numpy(), starts, strict=True)
        ]
        return torch.from_numpy(np.stack(chosen)).to(clouds.device)
    distances = xyz.new_full((n, points), torch.inf)
    chosen = [torch.zeros_like(rows) + start]
    while len(chosen) < count:
        to_last = (xyz - xyz[rows, chosen[-1]][:, None]).square().sum(-1)
        distances = torch.minimum(distances, to_last)
        chosen.append(distances.argmax(dim=1))
    return torch.stack(chosen, dim=1)


def _farthest_of_many(xyz: np.ndarray, count: int, start: int) -> np.ndarray:
    """The same of one cloud [points, 3], looking only at the points that a new one is nearer to than any before."""
    tree = KDTree(xyz)
    distances = np.full(len(xyz), np.inf, xyz.dtype)
    chosen = np.empty(count, np.int64)
    chosen[0] = start
    for i in range(1, count):
        last, radius = xyz[chosen[i - 1]], distances[chosen[i - 1]] ** 0.5
        # A little more than the radius: the tree rounds otherwise.
        near = tree.query_ball_point(last, radius * 1.001) if i > FIRST else slice(None)
        distances[near] = np.minimum(distances[near], np.square(xyz[near] - last).sum(-1))
        chosen[i] = distances.argmax()
    return chosen


def nearest_points(cloud: Tensor, queries: Tensor) -> Tensor:
    """For each of queries [M, 3], the index int64 [M] of the nearest point of cloud [points, 3 or more], xyz first."""
    _, nearest = KDTree(cloud[:, :3].cpu().numpy()).query(queries.cpu().numpy())
    return torch.from_numpy(np.asarray(nearest)).to(cloud.device)


def nearest_distances(cloud: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """For each of queries [M, 3], how far the nearest point of cloud [points, 3] is, [M]."""
    return np.asarray(KDTree(cloud).query(queries)[0])


def thinned(clouds: Tensor, kept: Tensor) -> Tensor:
    """The points `kept` int64 [N, count] of clouds [N, points, 6], as clouds [N, count, 6].

    Each has the mean colour of all points that are nearer to it than to any other kept point. Source: openai/point-e.
    """
    return torch.stack([_thinned(cloud, indices) for cloud, indices in zip(clouds, kept, strict=True)])


def _thinned(cloud: Tensor, kept: Tensor) -> Tensor:
    owner = nearest_points(cloud[kept], cloud[:, :3])
    owner[kept] = torch.arange(len(kept), device=kept.device)  # even where two points lie in one place
    sums = torch.zeros_like(cloud[kept, 3:]).index_add(0, owner, cloud[:, 3:])
    # A point kept twice, where a cloud has fewer places than are kept, has its colour once.
    counts = owner.bincount(minlength=len(kept))
    sums[counts == 0], counts = cloud[kept[counts == 0], 3:], counts.clamp(min=1)
    return torch.cat([cloud[kept, :3], sums / counts[:, None]], dim=1)


def in_unit_ball(clouds: Tensor) -> Tensor:
    """Clouds [N, points, 3], each moved to its centre of mass and scaled until its farthest point lies at 1."""
    centred = clouds - reduce(clouds, "n points c -> n 1 c", "mean")
    return centred / reduce(centred.norm(dim=-1), "n points -> n 1 1", "max")
