"""Point-E's upsampler as a stage of training: it learns some of a cloud's points from others of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ...training import TrainConfig
from ...weights.load_saved import load_saved
from ...weights.model_folder import find_model, has_part, part_folder, read_index
from ..transformer import PointDiffusionTransformer, PointUpsampler
from .base_stage import SHEET_POINTS, TASK, PointStage, PointTraining
from .clouds import POINTS, check_points, random_points, scaled


class PointUpsamplerTraining(PointTraining, title="stage: of a recipe for more points", frozen=True):
    """How PointUpsampler is trained: as PointTraining says, and

    points: how many points a step adds (0: n_ctx); low_res_points: and to how many (0: cond_ctx);
    start_from: may be a model without an upsampler too, with whose base it then begins, of the same layout but for
    `layers`, which may be fewer.
    """

    schedule: str = "linear"
    low_res_points: Annotated[int, Field(ge=0, le=POINTS)] = 0


class PointUpsamplerStage(PointStage):
    """Trains PointUpsampler: random points of a cloud are given, random others learned. Source: Point-E, section 4.4.

    The recipe is as PointStage's; of a start_from that has no upsampler the base network and its schedule are taken,
    see `PointUpsampler.from_base`. Raises as PointStage, and ValueError for more points than clouds have.
    """

    part: ClassVar[str] = "upsampler"
    network: ClassVar[type[PointDiffusionTransformer]] = PointUpsampler
    settings_of: ClassVar[type[PointTraining]] = PointUpsamplerTraining

    def __init__(self, config: TrainConfig):
        super().__init__(config)
        sees = self.settings.low_res_points or self.model.config["cond_ctx"]
        check_points(
            "n_ctx and cond_ctx together", self.model.config["n_ctx"] + self.model.config["cond_ctx"]
        )
        check_points("points and low_res_points together", self.points + sees)

    def begins_with(self, index: Mapping[str, Any]) -> str:
        """Which part of a model of this index a network goes on from: the upsampler, or else the base."""
        return self.part if has_part(index, self.part) else "base"

    def _trained(self, layout: Mapping[str, Any]) -> PointDiffusionTransformer | None:
        if not (start := self.settings.start_from):
            return None
        folder = find_model(start, TASK)
        if self.begins_with(read_index(folder)) == self.part:
            return super()._trained(layout)
        base = load_saved(PointDiffusionTransformer, part_folder(folder, "base"), torch.float32)
        return PointUpsampler.from_base(base, layout.get("layers"))

    def targets(
        self, clouds: Tensor, generator: torch.Generator, few: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As PointStage, with `low_res`, the points that are given."""
        makes, sees = self.model.config["n_ctx"], self.model.config["cond_ctx"]
        if few:
            makes, sees = self.points, self.settings.low_res_points or sees
        else:
            makes = min(makes, SHEET_POINTS)
        low_res, added = random_points(clouds, sees + makes, generator).split([sees, makes], dim=2)
        return scaled(added), {"low_res": low_res}
