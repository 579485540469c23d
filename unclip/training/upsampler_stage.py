"""unCLIP's second upsampler as a stage of training: crops of large pictures, from their worsened reductions."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import BaseModel, NonNegativeInt

from ...diffusion.denoiser import clipped, from_epsilon
from ...diffusion.loss import HybridLoss
from ...diffusion.sampling import normal_draws, sample, seeded_generators
from ...diffusion.schedules import make_scheduler
from ...diffusion.training.low_res import FACTOR, check_crop, random_crops, reduced
from ...diffusion.training.pictures import read_picture
from ...diffusion.training.stage import as_arrays
from ...toybox import make_scene, render
from ...toybox.sheet import contact_sheet
from ...training import TrainConfig
from ...training.layout import new_network
from ..large_upsampler import LargeUpsampler
from .degradation import shuffled_degradation
from .saving import check_base, save_part

PART = "large_upsampler"
SHEET_SCENES, SHEET_STEPS, SHEET_SIDE = 4, 15, 256


class LargeUpsamplerTraining(
    BaseModel, title="stage: of a large upsampler's recipe", extra="forbid", frozen=True
):
    """How LargeUpsampler is trained.

    crop: pixels of a side of the random part of each picture that a step sees (0: all of it);
    base: the name or folder of an unCLIP model that it is saved into, beside its other parts;
    schedule: the noise schedule.
    """

    crop: NonNegativeInt = 256
    base: str | None = None
    schedule: str = "linear"


class LargeUpsamplerStage:
    """Trains LargeUpsampler on pictures alone. Source: unCLIP (Ramesh et al. 2022), section 2.1.

    The recipe's `model:` holds LargeUpsampler's arguments, its `stage:` what LargeUpsamplerTraining says. Pictures must
    have `image_size` pixels or more. Raises what these raise, and ValueError for a crop that does not fit.
    """

    def __init__(self, config: TrainConfig):
        self.settings = settings = LargeUpsamplerTraining.model_validate(config.stage)
        check_base(settings.base)
        torch.manual_seed(config.seed)
        self.model = new_network(LargeUpsampler, config.model)
        self.side = self.model.config["image_size"]
        check_crop(settings.crop, self.side, self.model.factor)
        self.hybrid = HybridLoss(settings.schedule)

    def prepare(self, sample):
        """See `read_picture`."""
        return {"image": read_picture(sample, self.side)}

    def loss(self, model, batch, generator):
        """The mean hybrid loss of a batch, and its two parts."""
        crop = self.settings.crop or self.side
        image = random_crops(batch["image"], crop, FACTOR, generator).float() / 127.5 - 1
        small = shuffled_degradation(reduced(image, FACTOR), generator)
        x, timesteps, noise = self.hybrid.noised(image, generator)
        return self.hybrid.mean(model(x, timesteps, low_res=small), image, x, timesteps, noise)

    @torch.no_grad()
    def samples(self, model):
        """Of parts of a few Toybox scenes: the small picture, what becomes of it, and the true one."""
        device, side = next(model.parameters()).device, min(SHEET_SIDE, self.side)
        generator = torch.Generator().manual_seed(0)
        scenes = [make_scene("val", number) for number in range(SHEET_SCENES)]
        whole = torch.stack([torch.from_numpy(render(scene, size=self.side)) for scene in scenes])
        crops = random_crops(rearrange(whole, "n h w c -> n c h w"), side, FACTOR, generator)
        true = crops.float().to(device) / 127.5 - 1
        small = reduced(true, FACTOR)
        scheduler = make_scheduler("sde-dpm++", self.settings.schedule, SHEET_STEPS)
        denoise = clipped(from_epsilon(lambda x, t: model(x, t, low_res=small), scheduler.alphas_cumprod))
        draw = normal_draws(seeded_generators(0, SHEET_SCENES), true.shape[1:], device)
        large = sample(denoise, scheduler, draw(), draw)
        shown = torch.stack([F.interpolate(small, scale_factor=float(FACTOR)), large, true])
        return contact_sheet(as_arrays(rearrange(shown, "kind n c h w -> (n kind) c h w")), columns=6)

    def save(self, model, folder: Path) -> None:
        """Write the upsampler, alone or into its base."""
        settings = {f"{PART}_schedule": self.settings.schedule}
        save_part(folder, PART, model, None, self.settings.base, settings)
