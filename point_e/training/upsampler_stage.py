"""Point-E's upsampler as a stage of training: it learns some of a cloud's points from others of them."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ...training import TrainConfig
from ..transformer import PointDiffusionTransformer, PointUpsampler
from .base_stage import PointStage, PointTraining
from .clouds import POINTS, random_points, scaled


class PointUpsamplerTraining(PointTraining, title="stage: of a recipe for more points", frozen=True):
    """How PointUpsampler is trained: as PointTraining says, and

    points: how many points a step adds (0: n_ctx); low_res_points: and to how many (0: cond_ctx).
    """

    schedule: str = "linear"
    low_res_points: Annotated[int, Field(ge=0, le=POINTS)] = 0


class PointUpsamplerStage(PointStage):
    """Trains PointUpsampler: random points of a cloud are given, random others learned. Source: Point-E, section 4.4.

    The recipe is as PointStage's. Raises as PointStage, and ValueError for more points than clouds have.
    """

    part: ClassVar[str] = "upsampler"
    network: ClassVar[type[PointDiffusionTransformer]] = PointUpsampler
    settings_of: ClassVar[type[PointTraining]] = PointUpsamplerTraining

    def __init__(self, config: TrainConfig):
        super().__init__(config)
        if (count := self.model.config["n_ctx"] + self.model.config["cond_ctx"]) > POINTS:
            raise ValueError(
                f"n_ctx and cond_ctx are {count} points together, but clouds have {POINTS}; lower them"
            )

    def targets(
        self, clouds: Tensor, generator: torch.Generator, few: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As PointStage, with `low_res`, the points that are given."""
        makes, sees = self.model.config["n_ctx"], self.model.config["cond_ctx"]
        if few:
            makes, sees = self.points, self.settings.low_res_points or sees
        low_res, added = random_points(clouds, sees + makes, generator).split([sees, makes], dim=2)
        return scaled(added), {"low_res": low_res}
