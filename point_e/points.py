"""Choosing points of a cloud: the farthest, the nearest, and their colours."""

import numpy as np
import torch
from einops import reduce
from scipy.spatial import KDTree
from torch import Tensor


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
    distances = xyz.new_full((n, points), torch.inf)
    chosen = [torch.zeros_like(rows) + start]
    while len(chosen) < count:
        to_last = (xyz - xyz[rows, chosen[-1]][:, None]).square().sum(-1)
        distances = torch.minimum(distances, to_last)
        chosen.append(distances.argmax(dim=1))
    return torch.stack(chosen, dim=1)


def nearest_points(cloud: Tensor, queries: Tensor) -> Tensor:
    """For each of queries [M, 3], the index int64 [M] of the nearest point of cloud [points, 3 or more], xyz first."""
    _, nearest = KDTree(cloud[:, :3].cpu().numpy()).query(queries.cpu().numpy())
    return torch.from_numpy(np.asarray(nearest)).to(cloud.device)


def thinned(clouds: Tensor, kept: Tensor) -> Tensor:
    """The points `kept` int64 [N, count] of clouds [N, points, 6], as clouds [N, count, 6].

    Each has the mean colour of all points that are nearer to it than to any other kept point. Source: openai/point-e.
    """
    return torch.stack([_thinned(cloud, indices) for cloud, indices in zip(clouds, kept, strict=True)])


def _thinned(cloud: Tensor, kept: Tensor) -> Tensor:
    owner = nearest_points(cloud[kept], cloud[:, :3])
    owner[kept] = torch.arange(len(kept), device=kept.device)  # even where two points lie in one place
    sums = torch.zeros_like(cloud[kept, 3:]).index_add(0, owner, cloud[:, 3:])
    return torch.cat([cloud[kept, :3], sums / owner.bincount(minlength=len(kept))[:, None]], dim=1)


def in_unit_ball(clouds: Tensor) -> Tensor:
    """Clouds [N, points, 3], each moved to its centre of mass and scaled until its farthest point lies at 1."""
    centred = clouds - reduce(clouds, "n points c -> n 1 c", "mean")
    return centred / reduce(centred.norm(dim=-1), "n points -> n 1 1", "max")
