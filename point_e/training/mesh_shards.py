"""Meshes of one's own as data for Point-E's stages: turned, drawn, and sampled as clouds, in shards."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import trimesh
from PIL import Image
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ...toybox import shape
from ...toybox.colours import to_linear
from ...toybox.renderer import checked_size, render_body
from ...toybox.shards import in_half
from ...toybox.solids import rotation
from ...toybox.view import draw_view
from ...toybox.world import Body
from ...training.shards import add_sample
from ...weights.checksums import sha256_of
from ...weights.write_whole import write_whole

# Which axis points up in such files, unless the call says: glTF's standard does, the others' habits.
UP = {".glb": "y", ".gltf": "y", ".obj": "y", ".ply": "z", ".stl": "z"}
LINEAR = (".glb", ".gltf")  # whose numbers for colours are not sRGB, unlike those of their textures
MADE_OF = "made-of.json"
MESHES_PER_SHARD = 250
FINEST = 0.02  # of the whole: triangles with a texture are cut to this, as each has one colour
MOST_FACES = 2_000_000


def write_mesh_shards(
    folder: Path,
    out: Path,
    views: int = 4,
    size: int = 256,
    up: str | None = None,
) -> tuple[list[Path], list[str]]:
    """Write the meshes below `folder` as `out/shard-00000.tar` …, 250 meshes each, and return what became of them.

    A sample is a mesh turned about its upright axis: `png`, its picture of `size` px; `npy`, float16 [4096, 6], points
    of all surface that can be seen from outside, and `distances.npy`, float16 [4096, 4], both as `Scene` has them, in
    the picture's frame; `txt`, its caption: what NAME.txt beside the mesh says, else its name. `views` of each are
    taken, every time the same. up: "y" or "z", the axis that points up; None: as files of the suffix usually have it.
    Shards that are there are kept, so that a stopped call can be made again; each is whole or absent, and
    `out/made-of.json` says of what and how they are made.
    Returns the shards' paths, and a sentence for every mesh that was left out because it cannot be read.
    Raises OSError where one of the folders is none or `out` has shards of other meshes or made in another way,
    ValueError where there are no meshes or none can be read.
    """
    checked_size(size)
    if views < 1:
        raise ValueError(f"each mesh is seen at least once, not {views} times")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the one that holds your meshes")
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; give a folder for the shards")
    meshes = sorted(path for path in folder.rglob("*") if path.suffix.lower() in UP and path.is_file())
    if not meshes:
        raise ValueError(f"{folder} holds no meshes ({', '.join(UP)})")
    parts = [meshes[first : first + MESHES_PER_SHARD] for first in range(0, len(meshes), MESHES_PER_SHARD)]
    paths = [out / f"shard-{number:05d}.tar" for number in range(len(parts))]
    contents = {
        path.relative_to(folder).as_posix(): [
            sha256_of(some) for some in (path, _beside(path)) if some.is_file()
        ]
        for path in meshes
    }
    made_of = json.dumps({"views": views, "size": size, "up": up, "meshes": contents}, indent=1)
    if any(path.exists() for path in paths) and not _is_noted(out, made_of):
        raise FileExistsError(
            f"the shards in {out} are of other meshes, or were made in another way; give a new folder with --out"
        )
    keys = {path: f"{number:06d}" for number, path in enumerate(meshes)}
    attempt = partial(_attempt, views=views, size=size, up=up)
    left_out: list[str] = []
    pool = ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_start)
    try:
        with tqdm(total=len(meshes), unit="mesh") as bar:
            for path, some in zip(paths, parts, strict=True):
                if not path.exists():
                    found = pool.map(attempt, some, [keys[mesh] for mesh in some])
                    _write(path, _good(found, bar, left_out), made_of)
                else:
                    bar.update(len(some))
    finally:
        pool.shutdown(cancel_futures=True)
    paths = [path for path in paths if path.exists()]
    if not paths:
        raise ValueError(f"none of the {len(meshes):,} meshes in {folder} can be read; first: {left_out[0]}")
    return paths, left_out


def _is_noted(out: Path, made_of: str) -> bool:
    note = out / MADE_OF
    return note.is_file() and note.read_text(encoding="utf-8") == made_of


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


def _beside(path: Path) -> Path:
    """Where a mesh's caption is."""
    return path.with_suffix(".txt")


def samples_of(path: Path, views: int, size: int, up: str | None) -> list[dict[str, bytes]]:
    """See `write_mesh_shards`."""
    caption = _beside(path)
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


def _start() -> None:
    """In a worker, once: it computes on one thread, and the parent alone handles Ctrl-C."""
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _attempt(path: Path, key: str, **how) -> tuple[str, list[dict[str, bytes]] | str]:
    """The mesh's key, and its samples or why there are none."""
    try:
        return key, samples_of(path, **how)
    except Exception as error:  # the readers of damaged files raise nearly anything
        return key, f"{path}: {' '.join(str(error).split()) or type(error).__name__}"


def _good(
    found: Iterator[tuple[str, list[dict[str, bytes]] | str]], bar: tqdm, left_out: list[str]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Keys and samples of the meshes that can be read."""
    for key, samples in found:
        bar.update()
        if isinstance(samples, str):
            left_out.append(samples)
        else:
            yield from ((f"{key}-{view:02d}", parts) for view, parts in enumerate(samples))


def _write(path: Path, samples: Iterator[tuple[str, dict[str, bytes]]], made_of: str) -> None:
    """One shard, unless it would be empty, and before the first one what all are made of."""
    first = next(samples, None)
    if first is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _is_noted(path.parent, made_of):
        with write_whole(path.parent / MADE_OF) as beside:
            beside.write_text(made_of, encoding="utf-8")
    with write_whole(path) as beside, tarfile.open(beside, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, parts in chain([first], samples):
            add_sample(tar, key, parts)
