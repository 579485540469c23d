"""Signed distances on a cubic grid, computed only where the surface may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Distances = Callable[[Tensor], Tensor]  # [M, 3] in scene units -> [M], negative inside
FEWEST = 8  # cells along a side of the coarsest grid
SLACK = 1.25  # a network's distances may change a little faster than distances do


class DistanceGrid(NamedTuple):
    """volume: float32 [G, G, G] over x, y, z; known: bool, of the same shape, where it was computed and not assumed."""

    volume: np.ndarray
    known: np.ndarray


def distance_grid(distances: Distances, line: Tensor) -> DistanceGrid:
    """The distances at all places (x, y, z) with coordinates from `line` [G], which are evenly spaced.

    Every eighth place along each side is computed first, then those between, but for places that lie nearer to a
    computed one than the surface does. Of cells whose corners differ in sign all corners are computed in the end, and
    so on as far as the surface goes: what is found of it is what all G^3 distances would show. Elsewhere the volume has
    the right sign only.
    """
    voxel = float(line[1] - line[0])
    stride = 8
    while stride > 1 and (len(line) - 1) // stride < FEWEST:
        stride //= 2
    cells = -(-(len(line) - 1) // stride)
    # A stride that does not divide the side looks a little beyond it.
    beyond = torch.arange(len(line), cells * stride + 1, device=line.device) - len(line) + 1
    long_line = torch.cat([line, line[-1] + beyond * voxel])

    def compute(volume: np.ndarray, missing: np.ndarray, stride: int) -> None:
        places = torch.from_numpy(np.argwhere(missing)).to(line.device) * stride
        volume[missing] = distances(long_line[places]).float().cpu().numpy()

    volume = np.empty((cells + 1,) * 3, np.float32)
    known = np.ones(volume.shape, bool)
    compute(volume, known, stride)
    while stride > 1:
        stride //= 2
        volume, sure = _finer(volume, SLACK * stride * voxel)
        was_known, known = known, ~sure
        known[::2, ::2, ::2] = was_known
        compute(volume, ~sure, stride)
    size = len(line)
    volume, known = (np.ascontiguousarray(array[:size, :size, :size]) for array in (volume, known))
    while (missing := _corners(_crossed(volume)) & np.logical_not(known)).any():
        compute(volume, missing, 1)
        known = np.logical_or(known, missing)
    return DistanceGrid(volume, known)


def _finer(volume: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Twice as many cells along each side, `step` long: (volume, where it is sure).

    A place between others is on their side of the surface if one of them is farther from it than from the place. It
    then is at least the rest away from the surface, and that is taken for its distance.
    """
    low, high = _between(volume, np.minimum), _between(volume, np.maximum)
    odd = np.arange(len(low)) % 2
    away = step * np.sqrt(odd[:, None, None] + odd[:, None] + odd, dtype=np.float32)
    rest = np.maximum(high, -low) - away
    sure = ((low < 0) == (high < 0)) & ((rest > 0) | (away == 0))
    return np.where(high < 0, -rest, rest), sure


def _between(volume: np.ndarray, combine: np.ufunc) -> np.ndarray:
    """[G, G, G] -> [2G - 1, ...]: at every second place as it was, between them the neighbours' values combined."""
    for axis in range(3):
        volume = np.moveaxis(volume, axis, 0)
        finer = np.empty((2 * len(volume) - 1, *volume.shape[1:]), volume.dtype)
        finer[::2], finer[1::2] = volume, combine(volume[1:], volume[:-1])
        volume = np.moveaxis(finer, 0, axis)
    return volume


def _crossed(volume: np.ndarray) -> np.ndarray:
    """The cells [G - 1, ...] whose corners differ in sign."""
    inside = volume < 0
    return _of_corners(inside, np.logical_or) & ~_of_corners(inside, np.logical_and)


def _of_corners(values: np.ndarray, combine: np.ufunc) -> np.ndarray:
    """Values at points [G, G, G] -> for each cell [G - 1, ...] those of its eight corners, combined."""
    values = combine(values[1:], values[:-1])
    values = combine(values[:, 1:], values[:, :-1])
    return combine(values[:, :, 1:], values[:, :, :-1])


def _corners(cells: np.ndarray) -> np.ndarray:
    """The points [G, G, G] that are corners of the chosen cells [G - 1, ...]."""
    for axis in range(3):
        none = np.zeros_like(cells.take([0], axis))
        cells = np.concatenate([cells, none], axis) | np.concatenate([none, cells], axis)
    return cells
