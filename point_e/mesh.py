"""From a coloured cloud to a mesh, through a surface model's signed distances."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange

from .distance_grid import DistanceGrid, distance_grid
from .point_cloud import PointCloud, to_bytes
from .surface import SurfaceModel

if TYPE_CHECKING:
    import trimesh

SIDE = 1.02  # of the cube that is searched: clouds lie in [-0.5, 0.5]
FEWEST_POINTS = 32
THINNEST = 1e-3  # standard deviation of a cloud along its thinnest direction, in scene units


class NoMeshError(ValueError):
    """Why no mesh can be made of a cloud."""


def make_mesh(
    surface_model: SurfaceModel,
    cloud: PointCloud,
    grid_size: int = 128,
    batch_size: int = 4096,
    smooth: bool = False,
    triangles: int | None = None,
) -> trimesh.Trimesh:
    """The surface that `surface_model` sees in a cloud, closed, each vertex in its nearest point's colour.

    grid_size: distances along each side of the cube around it; batch_size: distances that are computed at once.
    smooth: take out the grid's steps (Taubin 1995). triangles: leave at most so many; needs fast-simplification.
    Triangles turn right-handed, so normals point outwards. Warns of a mesh that is not watertight. Raises NoMeshError
    where a cloud is too sparse, flat or large for a surface, or none is found, ValueError and ImportError.
    Source: openai/point-e, pc_to_mesh; marching cubes (Lewiner et al. 2003).
    """
    import trimesh

    if triangles is not None:
        check_triangles(triangles)
    check_solid(cloud)
    volume = surface_distances(surface_model, cloud, grid_size, batch_size).volume
    # Most of the cube's border is outside, and so tells the sign that a network has learnt for it.
    border = np.ones(volume.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    depth = volume if np.median(volume[border]) < 0 else -volume
    if not (depth > 0).any():
        raise NoMeshError("the surface model finds no surface in this cloud: no place is inside of it")
    # Outside of the cube there is nothing: a surface that reaches its border is closed there.
    voxel = SIDE / (grid_size - 1)
    vertices, faces = zero_surface(np.pad(depth, 1, constant_values=-voxel), voxel, SIDE / 2 + voxel)
    mesh = trimesh.Trimesh(vertices, faces)
    # Where merged vertices left a triangle none; thin ones stay, without them there would be holes.
    mesh.update_faces((mesh.faces != np.roll(mesh.faces, 1, axis=1)).all(axis=1))
    if smooth:
        trimesh.smoothing.filter_taubin(mesh)
    if triangles is not None and len(mesh.faces) > triangles:
        mesh = mesh.simplify_quadric_decimation(face_count=triangles)
    mesh.remove_unreferenced_vertices()
    if not len(mesh.faces):
        raise NoMeshError("nothing is left of the surface; choose a larger grid or more triangles")
    if not mesh.is_watertight:
        warnings.warn("the mesh is not watertight: it has edges of one triangle, or of three", stacklevel=2)
    visual: Any = mesh.visual
    visual.vertex_colors = to_bytes(cloud.colors[cloud.nearest(mesh.vertices)])
    return mesh


def vertex_colors(mesh: trimesh.Trimesh) -> np.ndarray:
    """Of each vertex, uint8 [N, 4]."""
    visual: Any = mesh.visual
    return np.array(visual.vertex_colors)


def check_triangles(triangles: int) -> None:
    """Raises ValueError for fewer triangles than a solid has, and ImportError where meshes cannot be simplified."""
    from importlib.util import find_spec

    if triangles < 4:
        raise ValueError(f"a mesh has 4 triangles or more, not {triangles}")
    if find_spec("fast_simplification") is None:
        raise ImportError("fewer triangles need fast-simplification: pip install 'maquette[mesh]'")


def check_solid(cloud: PointCloud) -> None:
    """Raises NoMeshError where a cloud is too sparse, too flat or too large for `make_mesh`."""
    places = np.unique(cloud.coords, axis=0)
    if len(places) < FEWEST_POINTS:
        raise NoMeshError(
            f"the cloud has points in {len(places)} places; a surface needs {FEWEST_POINTS} or more"
        )
    if np.linalg.eigvalsh(np.cov(places.T.astype(np.float64)))[0] < THINNEST**2:
        raise NoMeshError("the cloud lies in a plane or on a line; a surface needs a solid thing")
    if (furthest := np.abs(places).max()) > SIDE / 2:
        raise NoMeshError(
            f"the cloud reaches {furthest:.3g} from the origin; centre it and scale it to within 0.5 (`fitted`)"
        )


def within_reach(cloud: PointCloud) -> tuple[PointCloud, str | None]:
    """The cloud as `make_mesh` and drawings take it, and a sentence if it had to be centred and scaled for that."""
    reach, length = abs(cloud.coords).max(), (cloud.coords.max(0) - cloud.coords.min(0)).max()
    if reach <= SIDE / 2 and not 0 < length < SIDE / 4:
        return cloud, None
    where = f"the cloud is {length:.3g} long and reached {reach:.3g} from the origin"
    return cloud.fitted(), f"{where}; it was centred and scaled"


@torch.no_grad()
def surface_distances(
    model: SurfaceModel, cloud: PointCloud, grid_size: int, batch_size: int = 4096
) -> DistanceGrid:
    """The model's signed distances on a grid over the cube around a cloud; ValueError for a grid under 2."""
    if grid_size < 2:
        raise ValueError(f"a grid has 2 distances or more along a side, not {grid_size}")
    points = torch.from_numpy(cloud.coords).to(model.device)
    encoded = model.encode(rearrange(points, "points xyz -> 1 xyz points"))
    line = torch.arange(grid_size, device=model.device) * (SIDE / (grid_size - 1)) - SIDE / 2

    def distances(places: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [
                model(rearrange(some, "places xyz -> 1 xyz places"), encoded=encoded)[0]
                for some in places.split(batch_size)
            ]
        )

    return distance_grid(distances, line)


def zero_surface(volume: np.ndarray, voxel: float, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32 [V, 3] and triangles int64 [T, 3] of where a volume is 0, turned outwards if it is > 0 inside.

    voxel: the distance between its places; half: of its side, both in scene units.
    """
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(voxel,) * 3, allow_degenerate=False)
    # scikit-image turns them the other way round.
    return (vertices - half).astype(np.float32), faces[:, [1, 0, 2]].astype(np.int64)
