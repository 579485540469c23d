"""The surface model as a stage of training: clouds and places go in, the error of the places' distances comes out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, Field

from ...training import TrainConfig
from ...training.layout import new_network
from ...weights.model_folder import find_model, save_into
from ..surface import SurfaceModel
from .base_stage import PIPELINE, TASK
from .clouds import POINTS, check_points, random_rows, read_cloud

PLACES = 4096  # of a sample, at which distances are known
INSIDE_WEIGHT = 4.0


class SurfaceTraining(BaseModel, title="stage: of a surface model's recipe", extra="forbid", frozen=True):
    """How SurfaceModel is trained.

    points: how many of a cloud's points a step sees (0: n_ctx); places: at how many places it learns a distance;
    base: the name or folder of a Point-E model that it is saved into, beside its other parts.
    """

    points: Annotated[int, Field(ge=0, le=POINTS)] = 0
    places: Annotated[int, Field(ge=1, le=PLACES)] = 1024
    base: str | None = None


class SurfaceStage:
    """Trains SurfaceModel on clouds with signed distances. Source: Point-E (Nichol et al. 2022), appendix C.

    The recipe's `model:` holds SurfaceModel's arguments, its `stage:` what SurfaceTraining says. Samples have a cloud,
    see `read_cloud`, and `distances.npy`, see `read_distances`. Raises what these raise.
    """

    def __init__(self, config: TrainConfig):
        self.settings = settings = SurfaceTraining.model_validate(config.stage)
        if settings.base:
            find_model(settings.base, TASK)
        torch.manual_seed(config.seed)
        self.model = new_network(SurfaceModel, config.model)
        self.points = settings.points or self.model.config.n_ctx
        check_points("points, or else n_ctx,", self.points)

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """See `read_cloud` and `read_distances`."""
        return {"cloud": read_cloud(sample), "distances": read_distances(sample)}

    def loss(self, model, batch, generator):
        """The mean absolute error, errors inside counting more; without that weight; and the share of wrong sides.

        Inside is what is thin: the paper weighs it the same, so that thin parts are not left out.
        """
        clouds = random_rows(batch["cloud"], self.points, generator)[:, :3]
        chosen = random_rows(batch["distances"], self.settings.places, generator)
        places, true = chosen[:, :3], chosen[:, 3]
        error = model(places, point_clouds=clouds).float() - true
        weight = torch.where(true < 0, INSIDE_WEIGHT, 1.0)
        wrong = ((error + true < 0) != (true < 0)).float()
        absolute = error.abs()
        return (weight * absolute).mean(), {"error": absolute.mean(), "wrong_side": wrong.mean()}

    def save(self, model, folder: Path) -> None:
        """Write the surface model, alone or into its base."""
        whole = self.settings.base and find_model(self.settings.base, TASK)
        save_into(whole, folder, PIPELINE, {"surface": model}, {}, {})


def read_distances(sample: dict[str, Any]) -> np.ndarray:
    """A raw sample's `distances.npy`, any format [4096 or more, 4]: xyz and signed distance -> float32 [4096, 4].

    Raises ValueError for another shape or numbers that are not finite, and what numpy raises for no array.
    """
    if "distances.npy" not in sample:
        raise ValueError("it has no distances.npy; `maquette toybox --clouds --distances` writes some")
    distances = np.load(io.BytesIO(sample["distances.npy"]), allow_pickle=False)
    if distances.ndim != 2 or distances.shape[1] != 4 or len(distances) < PLACES:
        raise ValueError(f"its distances have shape {list(distances.shape)}; expected [{PLACES} or more, 4]")
    if not np.isfinite(distances).all():
        raise ValueError("its distances are not all finite; write them again")
    return distances[np.linspace(0, len(distances) - 1, PLACES).round().astype(int)].astype(np.float32)
