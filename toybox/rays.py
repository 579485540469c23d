"""Ray queries against a body, and the fixed patterns of directions that soft shadows are made of.

Vectors are stored component first, [3, ...] in float32: numpy then works on long rows, several times faster.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore import EmbreeDevice
from embreex.rtcore_scene import EmbreeScene

CLEAR = np.float32(1e-3)
"""How far secondary rays start off a surface, in scene units."""
REACH = np.float32(0.6)
"""How far things darken each other's share of the sky, in scene units."""
Query = Callable[[np.ndarray, np.ndarray], np.ndarray]


@lru_cache(maxsize=1)
def _device() -> EmbreeDevice:
    return EmbreeDevice()


def dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dot products of vectors [3, ...] -> [...]."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cross products of vectors [3, ...]."""
    (a, b, c), (x, y, z) = first, second
    return np.stack([b * z - c * y, c * x - a * z, a * y - b * x])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [3, ...] scaled to length 1."""
    return vectors / np.sqrt(dot(vectors, vectors))


@lru_cache(maxsize=8)
def disk_points(count: int) -> np.ndarray:
    """Points [2, count] spread evenly over the unit disk."""
    k = np.arange(count)
    radius, angle = np.sqrt((k + 0.5) / count), k * np.pi * (3 - 5**0.5)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)]).astype(np.float32)


@lru_cache(maxsize=8)
def sphere_points(count: int) -> np.ndarray:
    """Points [3, count] spread evenly over the unit sphere.

    Added to a unit normal they give directions spread over its hemisphere by the cosine law.
    """
    k = np.arange(count)
    z, angle = 1 - (2 * k + 1) / count, k * np.pi * (3 - 5**0.5)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z]).astype(np.float32)


class Tracer:
    """Answers ray queries against triangles, vertices float32 [V, 3] and faces int32 [T, 3].

    Origins and directions are float32 [3, N].
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self._scene = EmbreeScene(_device())
        TriangleMesh(self._scene, vertices, faces)

    def first_hits(self, origin: np.ndarray, directions: np.ndarray) -> dict[str, np.ndarray]:
        """Where rays from one point [3] hit first: "primID" (the face or -1), "tfar" (distance), "u" and "v"."""
        origins = np.broadcast_to(origin, directions.shape[::-1])
        return self._scene.run(origins, directions.T, output=1)

    def unblocked(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """1.0 where nothing is met, else 0.0, float32 [N]."""
        met = self._scene.run(origins.T, directions.T, query="OCCLUDED")
        return (met < 0).astype(np.float32)

    def clearance(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """How far rays get as a share of REACH: 1.0 where nothing is met within it, float32 [N]."""
        limits = np.full(origins.shape[1], REACH, np.float32)
        return self._scene.run(origins.T, directions.T, dists=limits, query="DISTANCE") / REACH
