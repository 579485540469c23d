"""The diffusion prior as a stage of training: noisy image embeddings and texts go in, the error of x0 comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor

from ...diffusion.denoiser import clipped, from_x0
from ...diffusion.loss import HybridLoss
from ...diffusion.sampling import sample
from ...diffusion.schedules import make_scheduler
from ...diffusion.training.clip_conditions import ClipConditions
from ...training import Shards, TrainConfig
from ...training.layout import as_saved, going_on
from ...weights.model_folder import read_index
from ..denoisers import LIMIT
from ..prior import DiffusionPrior
from .saving import check_base, find_unclip, save_part, start_prior

VALIDATION_STEPS = 8


class PriorTraining(BaseModel, title="stage: of a prior's recipe", extra="forbid", frozen=True):
    """How a prior of either kind is trained.

    clip: what ClipModel.from_pretrained takes, whose texts are read and whose pictures' vectors are learned;
    base: the name or folder of an unCLIP model that the prior is saved into, beside its other parts; without it, beside
    those of start_from, or alone;
    start_from: the name or folder of an unCLIP model whose prior, of the same kind and CLIP, it goes on from;
    drop_text: the share of captions replaced by the empty text.
    """

    clip: str = "mini"
    base: str | None = None
    start_from: str | None = None
    drop_text: Annotated[float, Field(ge=0, le=1)] = 0.1


class DiffusionPriorTraining(PriorTraining, title="stage: of a diffusion prior's recipe", frozen=True):
    """How DiffusionPrior is trained: as PriorTraining says, and

    schedule: the noise schedule (without it, start_from's).
    """

    schedule: str = "squaredcos_cap_v2"


class EitherPriorStage:
    """What the stages of both priors share: they learn CLIP's vectors of pictures from captions."""

    network: ClassVar[Any]
    settings_of: ClassVar[type[PriorTraining]] = PriorTraining
    saved_as: ClassVar[Mapping[str, str]] = {}  # how the network is sampled from

    def __init__(self, config: TrainConfig):
        self.settings: Any = self.settings_of.model_validate(config.stage)
        if start := self.settings.start_from:
            self.settings = going_on(self.settings, read_index(find_unclip(start)), self.saved_as)
        self.clip = ClipConditions(self.settings.clip)
        check_base(self.settings.base, self.clip)
        self.frozen = [self.clip.encoder]
        torch.manual_seed(config.seed)
        self.model = start_prior(self.network, self.settings.start_from, config.model, self.clip)
        self.text_ctx = self.model.config["text_ctx"]

    def begin(self, shards: Shards) -> None:
        """What the prior is to know of all embeddings. One that goes on keeps its own. Raises as `look_at`, `fit`."""
        if self.settings.start_from:
            self.clip.check(shards)
        else:
            self.model.fit(*self.clip.look_at(shards))

    def prepare(self, sample):
        """See ClipConditions."""
        return self.clip.prepare(sample, self.text_ctx)

    def save(self, model, folder: Path) -> None:
        """Write the prior, with its CLIP or into its base, as `maquette.pipeline` reads them."""
        whole = self.settings.base or self.settings.start_from
        save_part(folder, "prior", model, self.clip, whole, as_saved(self.settings, self.saved_as))


class PriorStage(EitherPriorStage):
    """Trains DiffusionPrior on CLIP's vectors of pictures. Source: unCLIP (Ramesh et al. 2022), section 2.2.

    The recipe's `model:` holds DiffusionPrior's arguments without clip_dim and text_width, its `stage:` what
    DiffusionPriorTraining says. Raises what these raise.
    """

    network: ClassVar[Any] = DiffusionPrior
    settings_of: ClassVar[type[PriorTraining]] = DiffusionPriorTraining
    saved_as: ClassVar[Mapping[str, str]] = {"schedule": "prior_schedule"}

    def __init__(self, config: TrainConfig):
        super().__init__(config)
        self.noising = HybridLoss(self.settings.schedule)

    def loss(self, model, batch, generator):
        """The mean squared error of x0, and in validation what a sampled embedding has in common with the true one."""
        embedding = self.clip.vectors(batch)
        x0 = self.model.normalise(embedding)
        x, timesteps, noise = self.noising.noised(x0, generator)
        kept = (torch.rand(len(x0), generator=generator) >= self.settings.drop_text).to(x0.device)
        validating = not torch.is_grad_enabled()
        text = self.clip.texts(batch["tokens"], batch["length"], None if validating else kept)
        error = (model(x, timesteps, **text).float() - x0).square().mean()
        if not validating:
            return error, {}
        metrics = {
            "cosine_sampled": F.cosine_similarity(self._sampled(model, text, noise), embedding).mean(),
            "cosine_of_text": F.cosine_similarity(text["text_embedding"], embedding).mean(),
        }
        return error, metrics

    def _sampled(self, model, text: dict[str, Tensor], noise: Tensor) -> Tensor:
        """Embeddings [N, clip_dim] of texts, in a few steps without guidance."""
        scheduler = make_scheduler("ddim", self.settings.schedule, VALIDATION_STEPS)
        denoise = clipped(from_x0(lambda x, t: model(x, t, **text)), LIMIT)
        return self.model.denormalise(sample(denoise, scheduler, noise, lambda: noise))
