"""A model's surface model alone: what makes a mesh of a cloud that is there already."""

from __future__ import annotations

import os

import torch

from ..layers import prepare
from ..layers.precision import best_device
from ..point_e.surface import SurfaceModel
from ..weights import read_weights
from ..weights.model_folder import has_part, load_part, part_folder, read_index
from .convert import ready_model, recognise
from .point_e_files import SURFACE, point_e_task


def load_surface(model: str | os.PathLike = "mini") -> SurfaceModel | None:
    """What `make_mesh` takes, of a known model, a model's folder or Point-E's sdf.pt; None if the model has none.

    It is float32, in eval mode, on the GPU if there is one. Raises ValueError for an unknown name or another
    checkpoint, FileNotFoundError for what is no model's folder.
    """
    place = ready_model(model, point_e_task(model))
    if place.is_file():
        if (kind := recognise(place)) != SURFACE:
            raise ValueError(f"{place} is {kind}; for a mesh of a cloud {SURFACE} is expected")
        surface = SurfaceModel.from_original(read_weights(place)).eval()
    elif has_part(read_index(place), "surface"):
        surface = load_part(SurfaceModel, part_folder(place, "surface"), torch.float32)
    else:
        return None
    prepare(surface.to(device=best_device()), approximate=True)  # pyright: ignore[reportCallIssue]
    return surface
