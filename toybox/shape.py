"""Bodies as shapes: a coloured mesh, and a cloud of points on the surface that can be seen from outside."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.spatial import KDTree

from .colours import to_srgb
from .rays import CLEAR, Tracer, cross, dot, sphere_points
from .world import Body

SEGMENTS = 48
MOST_POINTS = 100_000
CROWD = 16
PROBE = 512
"""Places that are looked at first, to learn how much of the surface is hidden."""
SIGHT_LINES = 24
"""Directions in which a point looks for the open; it is inside when all of them end at a surface."""
ALL_ROUND = 192
"""As many in which a place anywhere does: from the bottom of a bottle few of them lead out."""
SKIN_POINTS, CANDIDATES = 8192, 4
"""Of a surface, to find the triangles that are near a place; and of how many of the nearest the distance is taken."""
NEAR = (0.01, 0.08)
"""How far from the surface the places near it lie, smallest and largest deviation, in scene units."""
SHELL = 0.006
"""Surfaces are this thick to either side, in scene units, so that open sheets have an inside as well."""
SEARCHED = 0.51
"""Half the side of the cube that the others lie in."""
GOLDEN = (0.7548776662466927, 0.5698402909980532)
"""Steps of the R2 sequence, which fills the square evenly (Martin Roberts, 2018)."""


def _centre(body: Body) -> None:
    low, high = body.box()
    body.move(1.0, -(low + high) / 2)


def mesh(body: Body) -> trimesh.Trimesh:
    """See `Scene.mesh`."""
    _centre(body)
    paint = np.rint(to_srgb(body.albedo) * 255).astype(np.uint8)
    return trimesh.Trimesh(body.vertices, body.faces, face_colors=paint, process=False)


@dataclass(frozen=True)
class _Skin:
    """Triangles, component first: a corner and the two edges from it, unit normals (all [3, F]), and areas [F]."""

    corner: np.ndarray
    edges: tuple[np.ndarray, np.ndarray]
    normals: np.ndarray
    areas: np.ndarray


def _skin(body: Body) -> _Skin:
    a, b, c = (np.take(body.vertices, body.faces[:, corner], axis=0).T for corner in range(3))
    normals = cross(b - a, c - a)
    doubled = np.sqrt(dot(normals, normals))
    return _Skin(
        a, (b - a, c - a), normals / np.maximum(doubled, np.float32(1e-20)), doubled.astype(float) / 2
    )


def _order(positions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """An order [N] in which neighbours in space that face alike come close together: Morton's, side by side."""
    key = 2 * np.abs(normals).argmax(0)
    key += np.take_along_axis(normals, key[None] // 2, axis=0)[0] > 0
    cell = ((positions + 0.5) * 1023.99).astype(np.int64)
    for bit in range(9, -1, -1):
        for axis in range(3):
            key = (key << 1) | ((cell[axis] >> bit) & 1)
    return np.argsort(key, kind="stable")


def _spread(skin: _Skin, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` places spread evenly by area: positions [3, count] and faces [count].

    Candidates, CROWD times as many, line up in `_order`; the middle one of every CROWD is taken.
    """
    ends = np.cumsum(skin.areas)
    crowd = np.arange(count * CROWD)
    face = np.searchsorted(ends, (crowd + 0.5) / len(crowd) * ends[-1], side="right")
    face = np.minimum(face, len(ends) - 1)
    within = crowd - np.searchsorted(face, face)
    u, v = ((within * step + face * step**2) % 1 for step in GOLDEN)
    root = np.sqrt(u)
    weights = ((root * (1 - v)).astype(np.float32), (root * v).astype(np.float32))
    places = np.take(skin.corner, face, axis=1)
    for edge, weight in zip(skin.edges, weights, strict=True):
        places += np.take(edge, face, axis=1) * weight
    chosen = _order(places, np.take(skin.normals, face, axis=1))[CROWD // 2 :: CROWD]
    return places[:, chosen], face[chosen]


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


def _enclosed(rays: Tracer, places: np.ndarray) -> np.ndarray:
    """Whether all ways from places [3, N] end at a surface, bool [N]."""
    directions = sphere_points(ALL_ROUND)
    left = np.arange(places.shape[1])
    for index in np.random.default_rng(0).permutation(ALL_ROUND):
        along = np.broadcast_to(directions[:, index, None], (3, len(left)))
        left = left[rays.unblocked(places[:, left], along) == 0]
    enclosed = np.zeros(places.shape[1], bool)
    enclosed[left] = True
    return enclosed


def distances(body: Body, count: int, rng: np.random.Generator) -> np.ndarray:
    """See `Scene.distances`."""
    skin, faces = _visible(body, SKIN_POINTS)
    near = skin[rng.integers(len(skin), size=count - count // 3)]
    spread = np.geomspace(*NEAR, len(near))[:, None]
    anywhere = rng.uniform(-SEARCHED, SEARCHED, (count // 3, 3))
    places = np.concatenate([near + spread * rng.normal(size=near.shape), anywhere])
    places = places.clip(-SEARCHED, SEARCHED).astype(np.float32)
    _, nearest = KDTree(skin).query(places, CANDIDATES)
    triangles = body.vertices[body.faces[faces[nearest.ravel()]]]
    there = trimesh.triangles.closest_point(triangles, places.repeat(CANDIDATES, axis=0))
    far = np.linalg.norm(there.reshape(-1, CANDIDATES, 3) - places[:, None], axis=2).min(axis=1)
    far = np.where(_enclosed(Tracer(body.vertices, body.faces), places.T), -far, far) - SHELL
    return np.concatenate([places, far[:, None]], axis=1).astype(np.float32)


def cloud(body: Body, points: int) -> np.ndarray:
    """See `Scene.cloud`."""
    points = operator.index(points)
    if not 1 <= points <= MOST_POINTS:
        raise ValueError(f"a cloud of {points} points: expected 1 to {MOST_POINTS:,}")
    places, faces = _visible(body, points)
    return np.concatenate([places, to_srgb(body.albedo[faces])], 1).astype(np.float32)


def _visible(body: Body, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Places [points, 3] spread evenly over all surface that can be seen from outside, and their faces [points]."""
    _centre(body)
    rays = Tracer(body.vertices, body.faces)
    skin = _skin(body)

    def visible(count: int) -> tuple[np.ndarray, np.ndarray]:
        places, faces = _spread(skin, count)
        seen = _outside(rays, places, skin.normals[:, faces])
        return places[:, seen].T, faces[seen]

    count = int(points * PROBE / len(visible(PROBE)[0]) * 1.04) + 16
    places, faces = visible(count)
    while len(places) < points:
        count = int(count * 1.1)
        places, faces = visible(count)
    keep = np.linspace(0, len(places) - 1, points).round().astype(int)
    return places[keep], faces[keep]
