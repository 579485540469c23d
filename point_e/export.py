"""Clouds and meshes as files of any kind, by their suffix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..weights.write_whole import write_whole
from .point_cloud import PointCloud

if TYPE_CHECKING:
    import trimesh

CLOUDS = (".ply", ".npz")
MESHES = (".glb", ".obj", ".stl")
DRAWN = (".html", ".gif", ".png")
SUFFIXES = (*CLOUDS, *MESHES, *DRAWN)


def needs_mesh(path: str | os.PathLike) -> bool:
    """Whether `save_shape` must have a mesh to write `path`.

    A `.html`, `.gif` or `.png` shows the mesh beside the cloud where there is one. Raises ValueError for a suffix that
    is none of SUFFIXES.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} does not end like a shape; expected one of {', '.join(SUFFIXES)}")
    return suffix in MESHES or (suffix == ".ply" and path.stem.endswith("-mesh"))


def save_shape(path: str | os.PathLike, cloud: PointCloud, mesh: trimesh.Trimesh | None = None) -> Path:
    """Write a cloud, or its mesh, as `path` says; whole or not at all. Returns the path.

    Raises ValueError for an unknown suffix, or for one that needs a mesh where there is none.
    """
    path = Path(path)
    if needs_mesh(path):
        if mesh is None:
            raise ValueError(f"{path} is a mesh's name, and there is no mesh to write")
        content = mesh.export(file_type=path.suffix.lower()[1:])
        with write_whole(path) as beside:
            beside.write_bytes(content.encode() if isinstance(content, str) else content)
        return path
    if path.suffix.lower() in CLOUDS:
        return cloud.save(path)
    raise NotImplementedError("pictures and pages come next")
