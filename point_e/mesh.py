"""From a coloured cloud to a mesh, through a surface model's signed distances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange

from .point_cloud import PointCloud, to_bytes
from .surface import SurfaceModel

if TYPE_CHECKING:
    import trimesh

SIDE = 1.02  # of the cube that is searched: clouds lie in [-0.5, 0.5]


@torch.no_grad()
def make_mesh(
    surface_model: SurfaceModel, cloud: PointCloud, grid_size: int = 128, batch_size: int = 4096
) -> trimesh.Trimesh:
    """The surface that `surface_model` sees in a cloud, each vertex in its nearest point's colour.

    grid_size: distances along each side of the cube; batch_size: distances that are computed at once.
    Source: openai/point-e, pc_to_mesh; marching cubes (Lewiner et al. 2003).
    """
    import trimesh
    from skimage.measure import marching_cubes

    model = surface_model
    points = torch.from_numpy(cloud.coords).to(model.device)
    encoded = model.encode(rearrange(points, "points xyz -> 1 xyz points"))
    voxel = SIDE / (grid_size - 1)
    line = torch.arange(grid_size, device=model.device) * voxel - SIDE / 2
    grid = torch.cartesian_prod(line, line, line)
    distances = [
        model(rearrange(queries, "points xyz -> 1 xyz points"), encoded=encoded)[0]
        for queries in grid.split(batch_size)
    ]
    volume = torch.cat(distances).float().reshape(grid_size, grid_size, grid_size)
    vertices, faces, _, _ = marching_cubes(
        volume.cpu().numpy(), 0.0, spacing=(voxel,) * 3, allow_degenerate=False
    )
    vertices = (vertices - SIDE / 2).astype(np.float32)
    colors = to_bytes(cloud.colors[cloud.nearest(vertices)])
    # scikit-image turns its triangles the other way round.
    return trimesh.Trimesh(vertices, faces[:, [1, 0, 2]], vertex_colors=colors, process=False)
