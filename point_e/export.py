"""Clouds and meshes as files of any kind, by their suffix."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..weights.write_whole import write_whole
from .mesh import vertex_colors
from .point_cloud import SUFFIXES as CLOUDS
from .point_cloud import PointCloud, to_bytes

if TYPE_CHECKING:
    import trimesh

MESHES = (".glb", ".obj", ".stl")
SHOWN = (".html", ".gif", ".png")
SUFFIXES = (*CLOUDS, *MESHES, *SHOWN)
SHEET_VIEWS = 8
TURN_VIEWS, TURN_TIME = 24, 100  # pictures of a turn, and milliseconds of each


def needs_mesh(path: str | os.PathLike) -> bool:
    """Whether `save_shape` must have a mesh to write `path`: a .glb, .obj or .stl, mesh.ply or a -mesh.ply.

    A .html, .gif or .png shows the mesh beside the cloud where there is one. Raises ValueError for a suffix that is
    none of SUFFIXES.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} does not end like a shape; expected one of {', '.join(SUFFIXES)}")
    return suffix in MESHES or (suffix == ".ply" and path.stem.split("-")[-1] == "mesh")


def save_shape(path: str | os.PathLike, cloud: PointCloud, mesh: trimesh.Trimesh | None = None) -> Path:
    """Write a cloud, or its mesh, as the file's name says, whole or not at all. Returns the path.

    .ply and .npz: the cloud. .glb, .obj, .stl, mesh.ply and -mesh.ply: the mesh, with colours in all but .stl.
    .html: a page to turn both around on. .gif: a turntable. .png: a sheet of views.
    Raises ValueError for an unknown suffix, or for one that needs a mesh where there is none.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    content: Any
    if needs_mesh(path):
        if mesh is None:
            raise ValueError(f"{path} is a mesh's name, and there is no mesh to write; give one")
        content = _glb(mesh) if suffix == ".glb" else _upright(mesh, suffix).export(file_type=suffix[1:])
    elif suffix in CLOUDS:
        return cloud.save(path)
    else:
        content = _page(cloud, mesh) if suffix == ".html" else _picture(suffix, cloud, mesh)
    with write_whole(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _upright(mesh: trimesh.Trimesh, suffix: str) -> trimesh.Trimesh:
    """In .obj y is up, as programs take it; in others z."""
    return mesh.copy().apply_transform(_y_up()) if suffix == ".obj" else mesh


def _y_up() -> np.ndarray:
    import trimesh

    return np.array(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))


def _glb(mesh: trimesh.Trimesh) -> bytes:
    """As glTF has it: y is up, by a turn of the whole; colours are linear, not sRGB."""
    import trimesh
    from trimesh.visual.color import srgb_to_linear

    colors = vertex_colors(mesh)
    colors[:, :3] = to_bytes(srgb_to_linear(colors[:, :3] / 255))
    linear = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(linear, node_name="shape", transform=_y_up())
    content: Any = scene.export(file_type="glb", include_normals=True)
    return content


def _page(cloud: PointCloud, mesh: trimesh.Trimesh | None) -> str:
    from .drawing import page

    return page(cloud, mesh)


def _picture(suffix: str, cloud: PointCloud, mesh: trimesh.Trimesh | None) -> bytes:
    from ..toybox.sheet import contact_sheet
    from .drawing import turned

    content = io.BytesIO()
    if suffix == ".png":
        contact_sheet(turned(cloud, mesh, SHEET_VIEWS), columns=4).save(content, "png")
    else:
        first, *others = turned(cloud, mesh, TURN_VIEWS)
        moving: dict[str, Any] = {"save_all": True, "append_images": others, "loop": 0}
        first.save(content, "gif", duration=TURN_TIME, **moving)
    return content.getvalue()
