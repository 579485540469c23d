"""From a coloured cloud to a mesh, through a surface model's signed distances."""

from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .points import nearest_points
from .surface import SurfaceModel

SIDE = 1.02  # of the cube that is searched: clouds lie in [-0.5, 0.5]


class Mesh(NamedTuple):
    """vertices: float32 [V, 3] in scene units; faces: int64 [F, 3], right-handed; colours: float32 [V, 3] in [0, 1]."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


@torch.no_grad()
def surface_mesh(model: SurfaceModel, cloud: Tensor, grid_size: int = 128, batch_size: int = 4096) -> Mesh:
    """The surface that `model` sees in cloud [points, 6], each vertex in its nearest point's colour.

    grid_size: distances along each side of the cube; batch_size: distances that are computed at once.
    Raises ValueError on another shape. Source: openai/point-e, pc_to_mesh; marching cubes (Lewiner et al. 2003).
    """
    from skimage.measure import marching_cubes

    if cloud.dim() != 2 or cloud.shape[1] != 6:
        raise ValueError(f"the cloud has shape {tuple(cloud.shape)}; expected [points, 6]")
    encoded = model.encode(rearrange(cloud[:, :3], "points xyz -> 1 xyz points"))
    voxel = SIDE / (grid_size - 1)
    line = torch.arange(grid_size, device=cloud.device) * voxel - SIDE / 2
    grid = torch.cartesian_prod(line, line, line)
    distances = [
        model(rearrange(queries, "points xyz -> 1 xyz points"), encoded=encoded)[0]
        for queries in grid.split(batch_size)
    ]
    volume = torch.cat(distances).float().reshape(grid_size, grid_size, grid_size)
    if (volume < 0).all() or (volume > 0).all():
        volume = volume - volume.mean()  # it has no surface at 0; this one has
    vertices, faces, _, _ = marching_cubes(
        volume.cpu().numpy(), 0.0, spacing=(voxel,) * 3, allow_degenerate=False
    )
    vertices = (vertices - SIDE / 2).astype(np.float32)
    nearest = nearest_points(cloud, torch.from_numpy(vertices))
    # scikit-image turns its triangles the other way round.
    return Mesh(vertices, faces[:, [1, 0, 2]].astype(np.int64), cloud[nearest, 3:].cpu().numpy())
