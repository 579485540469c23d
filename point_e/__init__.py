"""Point-E: coloured point clouds, their sampling, surfaces and measures."""

from .classifier import PointNetClassifier
from .export import needs_mesh, save_shape
from .mesh import make_mesh
from .point_cloud import PointCloud
from .points import farthest_points, in_unit_ball, nearest_points, thinned
from .sampling import BASE, UPSAMPLE, Stage, as_clouds, sample_points
from .surface import SurfaceModel
from .transformer import PointDiffusionTransformer, PointUpsampler

__all__ = [
    "BASE",
    "UPSAMPLE",
    "PointCloud",
    "PointDiffusionTransformer",
    "PointNetClassifier",
    "PointUpsampler",
    "Stage",
    "SurfaceModel",
    "as_clouds",
    "farthest_points",
    "in_unit_ball",
    "make_mesh",
    "nearest_points",
    "needs_mesh",
    "sample_points",
    "save_shape",
    "thinned",
]
