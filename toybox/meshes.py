"""Meshes of one's own as Toybox's scenes are: a body to draw and to sample, and the samples that are made of it."""

from __future__ import annotations

import io
import zlib
from copy import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import trimesh
from PIL import Image

from . import shape
from .colours import to_linear
from .renderer import render_body
from .shards import in_half
from .solids import rotation
from .view import draw_view
from .world import Body

# Which axis points up in such files, unless the call says: glTF's standard does, the others' habits.
UP = {".glb": "y", ".gltf": "y", ".obj": "y", ".ply": "z", ".stl": "z"}
LINEAR = (".glb", ".gltf")  # whose numbers for colours are not sRGB, unlike those of their textures
FINEST = 0.02  # of the whole: triangles with a texture are cut to this, as each has one colour
MOST_FACES = 2_000_000


def read_body(path: Path, up: str | None = None) -> Body:
    """A mesh, or all of a scene's, with a colour for each face, its longest side 1, on the floor, z up.

    Raises ValueError for a file that holds no triangles, or too many, and what trimesh raises for a damaged one.
    """
    suffix = path.suffix.lower()
    upright, linear = up or UP[suffix], suffix in LINEAR
    scene = trimesh.load_scene(path)
    meshes = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    count = sum(len(part.faces) for part in meshes)
    if not 0 < count <= MOST_FACES:
        raise ValueError(f"it holds {count:,} triangles; expected 1 to {MOST_FACES:,}")
    size = max(np.ptp(scene.bounds, axis=0))
    if not (np.isfinite(size) and size > 0):
        raise ValueError("its points are not finite numbers, or all the same")
    meshes = [_finely_coloured(part, FINEST * size) for part in meshes]
    first = np.cumsum([0, *(len(part.vertices) for part in meshes[:-1])])
    turn = rotation("x", 90).T if upright == "y" else np.eye(3)
    body = Body(
        vertices=(np.concatenate([part.vertices for part in meshes]) / size @ turn).astype(np.float32),
        normals=(np.concatenate([_normals(part) for part in meshes]) @ turn).astype(np.float32),
        faces=np.concatenate([part.faces + n for part, n in zip(meshes, first, strict=True)]).astype(
            np.int32
        ),
        albedo=np.concatenate([_albedo(part, linear) for part in meshes]).astype(np.float32),
        gloss=np.zeros(sum(len(part.faces) for part in meshes), np.float32),
        stand=(np.zeros(3), 0.0),
    )
    body.settle(1.0)
    return body


def _normals(mesh: trimesh.Trimesh) -> np.ndarray:
    """Of the vertices; upwards where there is none, as at a triangle without area."""
    normals = np.array(mesh.vertex_normals)
    normals[~(np.linalg.norm(normals, axis=1) > 0.5)] = (0, 0, 1)
    return normals


def _finely_coloured(mesh: trimesh.Trimesh, finest: float) -> trimesh.Trimesh:
    visual, finer = cast(Any, mesh.visual), cast(Any, mesh.subdivide_to_size)
    return finer(finest, max_iter=12) if visual.kind == "texture" and visual.uv is not None else mesh


def _albedo(mesh: trimesh.Trimesh, linear: bool) -> np.ndarray:
    """Linear colours of the faces in [0, 1], [F, 3]. linear: whether the file's numbers are."""
    visual = cast(Any, mesh.visual)
    if visual.kind == "texture":
        images = (getattr(visual.material, name, None) for name in ("image", "baseColorTexture"))
        linear = linear and all(image is None for image in images)
        at_corners = np.broadcast_to(visual.to_color().vertex_colors, (len(mesh.vertices), 4))
        colours = at_corners[mesh.faces, :3].mean(axis=1) / 255
    else:
        colours = np.broadcast_to(visual.face_colors[:, :3] / 255, (len(mesh.faces), 3))
    return colours if linear else to_linear(colours)


def caption_file(path: Path) -> Path:
    """Where a mesh's caption is."""
    return path.with_suffix(".txt")


def samples_of(path: Path, views: int, size: int, up: str | None) -> list[dict[str, bytes]]:
    """Samples for shards of a mesh, turned about its upright axis, once for each of `views`, every time the same.

    `png`, its picture of `size` px; `npy`, float16 [4096, 6], points of all surface that can be seen from outside, and
    `distances.npy`, float16 [4096, 4], both as `Scene` has them, in the picture's frame; `txt`, its caption: what
    NAME.txt beside the mesh says, else its name. up: "y" or "z", the axis that points up; None: as files of the suffix
    usually have it. Raises as `read_body`, and UnicodeDecodeError for a caption.
    """
    caption = caption_file(path)
    words = caption.read_text("utf-8") if caption.is_file() else path.stem.replace("_", " ").replace("-", " ")
    whole, samples = read_body(path, up), []
    for view in range(views):
        rng = np.random.default_rng([zlib.crc32(path.name.encode()), view])
        body, turn = copy(whole), rotation("z", rng.uniform(0, 360)).T.astype(np.float32)
        body.vertices, body.normals = body.vertices @ turn, body.normals @ turn
        body.settle(1.0)
        png = io.BytesIO()
        Image.fromarray(render_body(body, draw_view(rng, body), size)).save(png, format="png")
        arrays = shape.cloud(body, 4096), shape.distances(body, 4096, rng)
        parts = {"npy": in_half(arrays[0]), "distances.npy": in_half(arrays[1])}
        samples.append({"png": png.getvalue(), "txt": " ".join(words.split()).encode(), **parts})
    return samples


def try_samples_of(path: Path, key: str, **how) -> tuple[str, list[dict[str, bytes]] | str]:
    """The mesh's key, and its samples or why there are none."""
    try:
        return key, samples_of(path, **how)
    except Exception as error:  # the readers of damaged files raise nearly anything
        return key, f"{path}: {' '.join(str(error).split()) or type(error).__name__}"
