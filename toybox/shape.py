"""Scenes as shapes: a coloured mesh, and a cloud of points on the surface that can be seen from outside."""

from __future__ import annotations

import operator

import numpy as np
import trimesh

from .colours import to_srgb
from .rays import CLEAR, Tracer, cross, dot, sphere_points, unit
from .scenes import Scene
from .world import Body, assemble

SEGMENTS = 48
MOST_POINTS = 100_000
SIGHT_LINES = 24
"""Directions in which a point looks for the open; it is inside when all of them end at a surface."""
GOLDEN = (0.7548776662466927, 0.5698402909980532)
"""Steps of the R2 sequence, which fills the square evenly (Martin Roberts, 2018)."""


def _centred(scene: Scene) -> Body:
    body = assemble(scene, SEGMENTS)
    low, high = body.box()
    body.move(1.0, -(low + high) / 2)
    return body


def mesh(scene: Scene) -> trimesh.Trimesh:
    """See `Scene.mesh`."""
    body = _centred(scene)
    paint = np.rint(to_srgb(body.albedo) * 255).astype(np.uint8)
    return trimesh.Trimesh(body.vertices, body.faces, face_colors=paint, process=False)


def _spread(areas: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`count` places spread evenly over triangles: face index, and two barycentric weights, [count] each."""
    ends = np.cumsum(areas)
    face = np.searchsorted(ends, (np.arange(count) + 0.5) / count * ends[-1], side="right")
    face = np.minimum(face, len(areas) - 1)
    within = np.arange(count) - np.searchsorted(face, face)
    u, v = (
        (0.5 + within * step + face * offset) % 1 for step, offset in zip(GOLDEN, (0.618, 0.382), strict=True)
    )
    root = np.sqrt(u)
    return face, root * (1 - v), root * v


def _outside(rays: Tracer, positions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Whether points on the surface [3, N] see the open from either side of their face, bool [N]."""
    directions = sphere_points(SIGHT_LINES)
    seen = np.zeros(positions.shape[1], bool)
    for index in range(SIGHT_LINES):
        left = np.flatnonzero(~seen)
        if not len(left):
            break
        normal = normals[:, left]
        side = np.where(directions[:, index] @ normal < 0, -1, 1).astype(np.float32)
        origins = positions[:, left] + normal * (side * CLEAR)
        along = np.broadcast_to(directions[:, index, None], origins.shape)
        seen[left] = rays.unblocked(origins, along) > 0
    return seen


def cloud(scene: Scene, points: int = 4096) -> np.ndarray:
    """See `Scene.cloud`."""
    points = operator.index(points)
    if not 1 <= points <= MOST_POINTS:
        raise ValueError(f"a cloud of {points} points: expected 1 to {MOST_POINTS:,}")
    body = _centred(scene)
    rays = Tracer(body)
    a, b, c = (np.take(body.vertices, body.faces[:, corner], axis=0).T for corner in range(3))
    normals = cross(b - a, c - a)
    areas = np.sqrt(dot(normals, normals)).astype(float)
    usable = areas > 0
    normals = np.where(usable, normals, np.float32(1))
    normals = unit(normals)

    def sample(count: int) -> tuple[np.ndarray, np.ndarray]:
        face, u, v = _spread(areas, count)
        u, v = u.astype(np.float32), v.astype(np.float32)
        places = a[:, face] * (1 - u - v) + b[:, face] * u + c[:, face] * v
        seen = _outside(rays, places, normals[:, face])
        return places[:, seen].T, body.albedo[face[seen]]

    visible = len(sample(4096)[0]) / 4096
    count = int(points / visible * 1.04) + 16
    places, paint = sample(count)
    while len(places) < points:
        count = int(count * 1.1) + 16
        places, paint = sample(count)
    keep = np.linspace(0, len(places) - 1, points).round().astype(int)
    return np.concatenate([places[keep], to_srgb(paint[keep])], 1).astype(np.float32)
