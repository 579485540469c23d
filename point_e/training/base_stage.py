"""Point-E's base network as a stage of training: noisy clouds and their conditions go in, the hybrid loss comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, Field
from torch import Tensor

from ...clip.encoder import ClipEncoder
from ...diffusion.loss import HybridLoss
from ...diffusion.sampling import normal_draws, seeded_generators
from ...toybox import make_scene, render
from ...toybox.sheet import contact_sheet
from ...training import Shards, TrainConfig
from ...training.layout import check_layout, going_on, layout_of, new_network
from ...weights.load_saved import load_saved
from ...weights.model_folder import find_model, has_part, part_folder, read_index, save_into
from ..drawing import draw_cloud
from ..point_cloud import PointCloud
from ..sampling import TRAINING_STEPS, Stage, as_clouds, sample_points
from ..transformer import PointDiffusionTransformer
from .clouds import POINTS, check_points, random_points, read_cloud, scaled
from .conditions import PointConditions

PIPELINE, TASK = "PointEPipeline", "text-to-3d"
FREE = ("n_ctx", "cond_ctx")  # what a recipe may say otherwise than the network that it goes on from
SHEET_SCENES, SHEET_SIDE, SHEET_POINTS, SHEET_STEPS, SHEET_SCALE = 6, 96, 1024, 16, 2.0


class PointTraining(BaseModel, title="stage: of a recipe for clouds", extra="forbid", frozen=True):
    """How a network of points is trained.

    clip: what ClipModel.from_pretrained takes: the network learns clouds from that CLIP's grids or vectors of pictures,
    as its `conditioning` is; text_share: the share of samples that it learns from the caption in place of the picture,
    from its vector or its states (1: it needs no pictures); drop: the share whose condition is left out;
    points: how many of a cloud's points a step sees (0: n_ctx); few, counted as `token_counts` says, teach many times
    as fast;
    base: the name or folder of a Point-E model that it is saved into, beside its other parts; without it, beside those
    of start_from, or alone;
    start_from: the name or folder of a model to go on from, of the same layout;
    schedule: the noise schedule (without it, start_from's); snr_clamp: [low, high], see HybridLoss.
    """

    clip: str = "mini"
    text_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    drop: Annotated[float, Field(ge=0, le=1)] = 0.1
    points: Annotated[int, Field(ge=0, le=POINTS)] = 0
    base: str | None = None
    start_from: str | None = None
    schedule: str = "squaredcos_cap_v2"
    snr_clamp: tuple[float, float] | None = None


class PointStage:
    """Trains PointDiffusionTransformer on clouds. Source: Point-E (Nichol et al. 2022), sections 4.2 and 4.3.

    The recipe's `model:` holds the network's arguments without clip_width, its `stage:` what PointTraining says.
    Samples have a cloud, see `read_cloud`, and as it is conditioned a picture and a caption. Raises what these raise.
    """

    part: ClassVar[str] = "base"  # of a model folder
    network: ClassVar[type[PointDiffusionTransformer]] = PointDiffusionTransformer
    settings_of: ClassVar[type[PointTraining]] = PointTraining

    def __init__(self, config: TrainConfig):
        self.settings: Any = self.settings_of.model_validate(config.stage)
        if start := self.settings.start_from:
            # A converted model's index does not say how its base was trained: as all published ones.
            index = {"base_schedule": PointTraining().schedule, **read_index(find_model(start, TASK))}
            self.settings = going_on(
                self.settings, index, {"schedule": f"{self.begins_with(index)}_schedule"}
            )
        self.whole = self.settings.base or self.settings.start_from  # the model that it is saved into, if any
        if self.whole:
            find_model(self.whole, TASK)
        torch.manual_seed(config.seed)
        trained = self._trained(config.model)
        kind = trained.config.conditioning if trained else config.model.get("conditioning", "grid")
        self.conditions = PointConditions(kind, self.settings.clip, self.settings.text_share)
        self.frozen = [self.conditions.clip.encoder] if self.conditions.clip else []
        self._check_whole()
        self.model = self._network({**config.model, **self.conditions.layout()}, trained)
        self.points = self.settings.points or self.model.config["n_ctx"]
        check_points("points, or else n_ctx,", self.points)
        self.hybrid = HybridLoss(self.settings.schedule, TRAINING_STEPS, self.settings.snr_clamp)

    def begins_with(self, index: Mapping[str, Any]) -> str:
        """Which part of a model of this index a network goes on from."""
        return self.part

    def begin(self, shards: Shards) -> None:
        """See PointConditions.check."""
        self.conditions.check(shards)

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """See `read_cloud` and PointConditions."""
        return {"cloud": read_cloud(sample), **self.conditions.prepare(sample)}

    def loss(self, model, batch, generator):
        """The mean hybrid loss of a batch, and its two parts."""
        told = {name: value for name, value in batch.items() if name != "cloud"}
        x0, given = self.targets(batch["cloud"], generator)
        given |= self.conditions.arguments(told, generator, self.settings.drop)
        counts = self.model.token_counts(x0.shape[2], given)
        x, timesteps, noise = self.hybrid.noised(x0, generator)
        return self.hybrid.mean(model(x, timesteps, **given, counts=counts), x0, x, timesteps, noise)

    def targets(
        self, clouds: Tensor, generator: torch.Generator, few: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Clouds [N, points, 6] -> what is learned of them, [N, 6, points] as networks see it, and what is given.

        few: as many points as a step sees; else as many as the network makes, at most as a sheet of samples shows.
        """
        points = self.points if few else min(self.model.config["n_ctx"], SHEET_POINTS)
        return scaled(random_points(clouds, points, generator)), {}

    @torch.no_grad()
    def samples(self, model):
        """Toybox scenes that it was not trained on, in rows: pictures, clouds made from what is told, true ones."""
        scenes = [make_scene("val", number) for number in range(SHEET_SCENES)]
        pictures = [render(scene, size=SHEET_SIDE) for scene in scenes]
        true = torch.from_numpy(np.stack([scene.cloud() for scene in scenes]))
        given = []
        if self.conditions.clip and self.settings.text_share < 1:
            given.append(self.conditions.of_pictures([Image.fromarray(picture) for picture in pictures]))
        if self.conditions.clip and self.settings.text_share:
            given.append(self.conditions.of_texts([scene.caption for scene in scenes]))
        made = [self._sampled(model, true, each) for each in given or [{}]]
        clouds = [PointCloud.from_tensor(cloud) for some in (*made, true) for cloud in some]
        drawn = [draw_cloud(cloud, size=SHEET_SIDE) for cloud in clouds]
        return contact_sheet([*pictures, *drawn], columns=SHEET_SCENES)

    def save(self, model, folder: Path) -> None:
        """Write the network, with its CLIP or into its base, as `maquette.pipeline` reads them."""
        settings: dict[str, Any] = {f"{self.part}_schedule": self.settings.schedule}
        if self.part == "base":
            share = self.settings.text_share
            settings |= {"reads_words": share > 0, "reads_pictures": share < 1}
        whole = self.whole and find_model(self.whole, TASK)
        save_into(whole, folder, PIPELINE, {self.part: model}, self.conditions.parts(), settings)

    def _sampled(self, model, clouds: Tensor, arguments: dict[str, Any]) -> Tensor:
        """Clouds [N, points, 6] made of what is known about true ones."""
        device = next(model.parameters()).device
        told: dict[str, Any]
        points, told = self.targets(clouds.to(device), torch.Generator().manual_seed(0), few=False)
        scale = 1.0 if told else SHEET_SCALE
        stage = Stage(self.settings.schedule, SHEET_STEPS, guidance_scale=scale)
        draw = normal_draws(seeded_generators(0, len(clouds)), points.shape[1:], device)
        told |= arguments
        return as_clouds(sample_points(model, stage, draw, **told))

    def _check_whole(self) -> None:
        """Raises ValueError for a model to be saved into that has another CLIP."""
        if not (self.whole and self.conditions.clip):
            return
        folder = find_model(self.whole, TASK)
        if has_part(read_index(folder), "clip"):
            place = part_folder(folder, "clip")
            self.conditions.clip.check_same(self.whole, load_saved(ClipEncoder, place, torch.float32))

    def _trained(self, layout: Mapping[str, Any]) -> PointDiffusionTransformer | None:
        """What to go on from. layout: the recipe's `model:`."""
        if not (start := self.settings.start_from):
            return None
        return load_saved(self.network, part_folder(find_model(start, TASK), self.part), torch.float32)

    def _network(
        self, layout: dict[str, Any], trained: PointDiffusionTransformer | None
    ) -> PointDiffusionTransformer:
        if trained is None:
            return new_network(self.network, layout)
        had = layout_of(trained)
        check_layout(self.settings.start_from, had, layout, FREE)
        model = self.network(**{**had, **layout})
        model.load_state_dict(trained.state_dict())
        return model
