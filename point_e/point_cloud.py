"""Coloured point clouds as people keep them: in files, thinned, and asked for what is near."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..weights.write_whole import write_whole
from .points import farthest_points, nearest_points, thinned

SUFFIXES = (".ply", ".npz")
MOST_BYTES = 2**31  # of a file, unpacked; 100 million points take less


@dataclass(frozen=True)
class PointCloud:
    """coords: float32 [N, 3] in scene units; colors: float32 [N, 3] in [0, 1].

    Raises ValueError for other shapes, no points, or numbers that are not finite or, of colours, not within [0, 1].
    """

    coords: np.ndarray
    colors: np.ndarray

    def __post_init__(self) -> None:
        for name in ("coords", "colors"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float32))
        shape = self.coords.shape
        if len(shape) != 2 or shape[1] != 3 or self.colors.shape != shape:
            raise ValueError(
                f"a cloud has coords {shape} and colors {self.colors.shape}; expected [N, 3] and [N, 3]"
            )
        if not len(self.coords):
            raise ValueError("a cloud has no points; it needs at least one")
        if not np.isfinite(self.coords).all():
            raise ValueError("a cloud has coordinates that are not finite numbers")
        if not ((self.colors >= 0) & (self.colors <= 1)).all():
            raise ValueError("a cloud has colours that are not between 0 and 1")

    def __len__(self) -> int:
        return len(self.coords)

    @classmethod
    def from_tensor(cls, cloud: Tensor) -> PointCloud:
        """Of a tensor [N, 6], xyz in scene units and rgb in [0, 1]. Raises ValueError as the class does."""
        if cloud.dim() != 2 or cloud.shape[1] != 6:
            raise ValueError(f"the cloud has shape {tuple(cloud.shape)}; expected [points, 6]")
        array = cloud.detach().float().cpu().numpy()
        return cls(array[:, :3], array[:, 3:])

    def to_tensor(self) -> Tensor:
        """float32 [N, 6], xyz then rgb."""
        return torch.from_numpy(np.concatenate([self.coords, self.colors], axis=1))

    @classmethod
    def load(cls, path: str | os.PathLike) -> PointCloud:
        """Read a cloud from a .ply file (ascii or binary) or a .npz file as Point-E writes it (coords, R, G, B).

        Raises ValueError for a file that is damaged or holds anything else, and FileNotFoundError.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"{path} is not called like a cloud; expected one of {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        path.open("rb").close()  # what may not be read says so itself
        try:
            return cls(*(_read_ply(path) if suffix == ".ply" else _read_npz(path)))
        except Exception as error:  # the readers of damaged files raise nearly anything
            raise ValueError(f"{path} cannot be read as a point cloud: {error}") from error

    def save(self, path: str | os.PathLike) -> Path:
        """Write it as .ply (binary, 8 bits a colour) or .npz (as Point-E does), whole or not at all; returns the path.

        Raises ValueError for another suffix.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"{path} does not end like a cloud; expected one of {', '.join(SUFFIXES)}")
        with write_whole(path) as beside, open(beside, "wb") as file:
            if suffix == ".npz":
                np.savez(file, coords=self.coords, **dict(zip("RGB", self.colors.T, strict=True)))
            else:
                import trimesh

                geometry = trimesh.PointCloud(self.coords, colors=to_bytes(self.colors))
                content = geometry.export(file_type="ply")
                assert isinstance(content, bytes)
                file.write(content)
        return path

    def fitted(self) -> PointCloud:
        """The same cloud centred and scaled: its longest side is 1 scene unit, as networks and drawings take it."""
        coords = self.coords.astype(np.float64)
        low, high = coords.min(axis=0), coords.max(axis=0)
        longest = (high - low).max()
        return PointCloud((coords - (low + high) / 2) / (longest or 1.0), self.colors)

    def random_sample(self, count: int, seed: int = 0) -> PointCloud:
        """`count` different points, or all if there are not more."""
        if len(self) <= count:
            return self
        return self._of(np.random.default_rng(seed).choice(len(self), count, replace=False))

    def farthest_sample(self, count: int, start: int = 0, average_colors: bool = False) -> PointCloud:
        """`count` points spread evenly, the first one `start`, or all if there are not more.

        average_colors: give each the mean colour of all points that are nearest to it. Source: openai/point-e.
        """
        if len(self) <= count:
            return self
        cloud = self.to_tensor()[None]
        kept = farthest_points(cloud, count, start)
        if average_colors:
            return PointCloud.from_tensor(thinned(cloud, kept)[0])
        return self._of(kept[0].numpy())

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """For each of queries [M, 3], the index int64 [M] of the nearest point."""
        wanted = np.ascontiguousarray(queries, dtype=np.float32)
        return nearest_points(torch.from_numpy(self.coords), torch.from_numpy(wanted)).numpy()

    def _of(self, indices: np.ndarray) -> PointCloud:
        return PointCloud(self.coords[indices], self.colors[indices])


def to_bytes(colors: np.ndarray) -> np.ndarray:
    """Colours in [0, 1] -> uint8 of the same shape."""
    return np.round(colors * 255).astype(np.uint8)


def _read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    with open(path, "rb") as file:
        head = file.read(2**16)
        if not head.startswith(b"ply"):
            raise ValueError("it is not a PLY file")
        counts = {
            name.decode(): int(count)
            for name, count in re.findall(rb"^element\s+(\w+)\s+(\d{1,20})\b", head, re.M)
        }
        points = counts.get("vertex", 0)
        # Before anything of that size is asked for: in binary and as text each element takes a byte or more.
        if sum(counts.values()) > (size := path.stat().st_size):
            raise ValueError(f"it is cut off: it should hold {points} points, but has {size} bytes")
        if counts.get("face"):
            raise ValueError("it holds a mesh; give a cloud, such as `maquette clouds` samples of meshes")
        if not points:
            raise ValueError("it has no points")
        properties = re.findall(rb"^property\s+\w+\s+(\w+)", head, re.M)
        if missing := [axis for axis in "xyz" if axis.encode() not in properties]:
            raise ValueError(f"its points have no {', '.join(missing)}")
        file.seek(0)
        geometry = trimesh.load(file, file_type="ply", process=False)
    if not isinstance(geometry, trimesh.PointCloud):
        raise ValueError("it holds no points")
    coords, colors = np.asarray(geometry.vertices), np.asarray(geometry.colors)
    if len(coords) != points:
        raise ValueError(f"it is cut off: it should hold {points} points, but holds {len(coords)}")
    if colors.shape[:1] != coords.shape[:1]:
        raise ValueError("its points have no colours (red, green, blue)")
    return coords, colors[:, :3] / 255


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not a .npz file, or it is cut off")
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
            raise ValueError(f"unpacked it is larger than {MOST_BYTES / 2**30:.0f} GiB")
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if missing := [name for name in ("coords", "R", "G", "B") if name not in names]:
            raise ValueError(f"it has no {', '.join(missing)}; a cloud has coords, R, G and B")
    with np.load(path, allow_pickle=False) as arrays:
        coords, channels = arrays["coords"], [arrays[channel] for channel in "RGB"]
    if any(channel.shape != coords.shape[:1] for channel in channels):
        raise ValueError("its colours are not as many as its points")
    return coords, np.stack(channels, axis=1)
