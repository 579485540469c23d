"""GLIDE's upsampler as a stage of training: it learns pictures from their own reductions, and from crops of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator
from torch import Tensor

from ...toybox import make_scene, render
from ...toybox.sheet import contact_sheet
from ...weights.model_folder import find_model, part_folder
from ..glide import GlideUNet
from ..text_reader import TextReader
from .low_res import FACTOR, check_crop, degraded, random_crops, reduced
from .stage import GlideStage, GlideTraining, as_arrays
from .start import TASK, reader_of

SHEET_SCENES = 6


class UpsamplerTraining(GlideTraining, title="stage: of an upsampler's recipe", frozen=True):
    """How GLIDE's upsampler is trained: as GlideTraining says, and

    crop: pixels of a side of the random part of each picture that a step sees (0: all of it);
    blur: pixels of the small picture, and noise, of pictures from -1 to 1: the largest deviations by which the small
    picture is made worse, see `degraded`;
    strength: the share of the noise levels that is learned, the lowest ones (start_from's, or else all); it is saved as
    the model's `upsampler_strength`, the share of the steps that it is drawn with;
    base: the name or folder of a model that the upsampler belongs to. It then reads texts as that model does, and is
    saved together with all parts that the model has at that time; without it, with those of start_from, or alone, to be
    put to a base later.
    """

    schedule: str = "linear"
    drop_text: Annotated[float, Field(ge=0, le=1)] = 0.1
    crop: NonNegativeInt = 0
    blur: NonNegativeFloat = 0.6
    noise: NonNegativeFloat = 0.06
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
    base: str | None = None

    @model_validator(mode="after")
    def _reads_one_way(self) -> UpsamplerTraining:
        if self.base and (self.clip or self.tokenizer):
            raise ValueError("an upsampler reads texts as its base does; drop clip and tokenizer, or base")
        return self


class UpsamplerStage(GlideStage):
    """Trains GlideUNet with `low_res`, a quarter of the side. Source: GLIDE (Nichol et al. 2021), section 4.

    The recipe is as GlideStage's, with what UpsamplerTraining adds. Pictures must have `image_size` pixels or more.
    Raises as GlideStage, and ValueError for a crop that does not fit.
    """

    part: ClassVar[str] = "upsampler"
    kind: ClassVar[type[GlideTraining]] = UpsamplerTraining
    saved_as: ClassVar[Mapping[str, str]] = {
        "schedule": "upsampler_schedule",
        "strength": "upsampler_strength",
    }

    @property
    def whole(self) -> str | None:
        """The model that it is saved into, if any."""
        return self.settings.base or self.settings.start_from

    @property
    def levels(self) -> int:
        """See UpsamplerTraining."""
        return max(1, round(self.settings.strength * self.hybrid.steps))

    def conditions(self, image: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """As GlideStage, of crops that lie on whole pixels of the small picture."""
        if crop := self.settings.crop:
            image = random_crops(image, crop, FACTOR, generator)
        image, given = super().conditions(image, generator)
        small = degraded(reduced(image, FACTOR), self.settings.blur, self.settings.noise, generator)
        return image, {**given, "low_res": small}

    def samples(self, model):
        """Of a few Toybox scenes: the small picture, what becomes of it, and the true one."""
        side, device = self.model.config["image_size"], next(model.parameters()).device
        scenes = [make_scene("val", number) for number in range(SHEET_SCENES)]
        true = torch.stack([torch.from_numpy(render(scene, size=side)) for scene in scenes])
        true = rearrange(true, "n h w c -> n c h w").float().to(device) / 127.5 - 1
        small = reduced(true, FACTOR)
        large = self._drawn(model, [scene.caption for scene in scenes], side, 1.0, low_res=small)
        shown = [F.interpolate(small, scale_factor=float(FACTOR)), large, true]
        rows = rearrange(torch.stack(shown), "kind n c h w -> (n kind) c h w")
        return contact_sheet(as_arrays(rows), columns=6)

    def _network(self, layout: dict[str, Any]) -> GlideUNet:
        model = super()._network(layout)
        check_crop(self.settings.crop, model.config["image_size"], model.factor)
        return model

    def _reader(self) -> TextReader:
        if not self.settings.base:
            return super()._reader()
        part_folder(find_model(self.settings.base, TASK), "unet")  # raises if there is none
        return reader_of(self.settings.base)
