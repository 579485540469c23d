"""Clouds of training samples as networks see them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..transformer import CHANNEL_BIASES, CHANNEL_SCALES

POINTS = 4096  # of a sample's cloud


def check_points(what: str, count: int) -> None:
    """Raises ValueError for more points than a sample's cloud has."""
    if count > POINTS:
        raise ValueError(f"{what} are {count} points, but a cloud has {POINTS}; lower them")


def read_cloud(sample: dict[str, Any]) -> np.ndarray:
    """A raw sample's `npy`, any format [4096 or more, 6], xyz in -0.5…0.5 and rgb in 0…1 -> float32 [4096, 6].

    Of more points evenly spaced ones are taken. Raises ValueError for other clouds, and what numpy raises for no array.
    """
    if "npy" not in sample:
        raise ValueError("it has no npy, a cloud; `maquette toybox --clouds` writes some")
    cloud = np.load(io.BytesIO(sample["npy"]), allow_pickle=False)
    if cloud.ndim != 2 or cloud.shape[1] != 6 or len(cloud) < POINTS:
        raise ValueError(f"its cloud has shape {list(cloud.shape)}; expected [{POINTS} or more, 6]")
    cloud = cloud[np.linspace(0, len(cloud) - 1, POINTS).round().astype(int)].astype(np.float32)
    if not (np.abs(cloud[:, :3]) <= 0.51).all() or not ((cloud[:, 3:] >= 0) & (cloud[:, 3:] <= 1)).all():
        raise ValueError("its cloud does not lie in -0.5…0.5 with colours in 0…1; scale it")
    return cloud


def random_rows(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` random rows of each of values [N, rows, C], as [N, C, count]; ValueError for more than there are."""
    if count > values.shape[1]:
        raise ValueError(
            f"a step is to see {count} points, but a sample has {values.shape[1]}; ask for fewer"
        )
    order = torch.rand(values.shape[:2], generator=generator).argsort(dim=1)[:, :count].to(values.device)
    return rearrange(torch.take_along_dim(values, order[..., None], dim=1), "n count c -> n c count")


def random_points(clouds: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`random_rows` of clouds [N, points, 6] as points [N, 6, count]: rgb in 0…255."""
    xyz, rgb = random_rows(clouds, count, generator).split(3, dim=1)
    return torch.cat([xyz, 255 * rgb], dim=1)


def scaled(points: Tensor) -> Tensor:
    """Points [N, 6, points], rgb in 0…255, in the networks' own scale, about -1…1."""
    scales, biases = (rearrange(points.new_tensor(c), "c -> c 1") for c in (CHANNEL_SCALES, CHANNEL_BIASES))
    return points * scales + biases
