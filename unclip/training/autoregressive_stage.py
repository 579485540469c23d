"""The autoregressive prior as a stage of training: buckets and texts go in, cross-entropy comes out."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from ...diffusion.training.clip_conditions import ClipConditions
from ...training import Shards, TrainConfig
from ...training.flops import training_flops
from ..autoregressive_prior import AutoregressivePrior
from .prior_stage import PriorTraining
from .saving import check_base, save_part, start_prior


class AutoregressiveStage:
    """Trains AutoregressivePrior on CLIP's vectors of pictures. Source: unCLIP (Ramesh et al. 2022), section 2.2.

    The recipe's `model:` holds AutoregressivePrior's arguments without clip_dim and text_width, its `stage:` what
    PriorTraining says. Raises what these raise.
    """

    def __init__(self, config: TrainConfig):
        self.settings = PriorTraining.model_validate(config.stage)
        self.clip = ClipConditions(self.settings.clip)
        check_base(self.settings.base, self.clip)
        self.frozen = [self.clip.encoder]
        torch.manual_seed(config.seed)
        self.model = start_prior(AutoregressivePrior, self.settings.start_from, config.model, self.clip)
        self.text_ctx = self.model.config["text_ctx"]
        self.flops_per_sample = training_flops(self._forward)

    def begin(self, shards: Shards) -> None:
        """Principal components and their ranges. Raises as `look_at` and `fit`. A prior that goes on keeps its own."""
        if self.settings.start_from:
            self.clip.check(shards)
            return
        self.model.fit(*self.clip.look_at(shards))

    def prepare(self, sample):
        """See ClipConditions."""
        return self.clip.prepare(sample, self.text_ctx)

    def loss(self, model, batch, generator):
        """The mean cross-entropy of a component's bucket, in nats, and how many are right."""
        embedding = self.clip.vectors(batch)
        kept = torch.rand(len(embedding), generator=generator) >= self.settings.drop_text
        kept = kept.to(embedding.device)
        text = self.clip.texts(batch["tokens"], batch["length"], kept)
        buckets = self.model.quantise(embedding)
        similarity = self.model.similarity(embedding, text["text_embedding"], kept)
        logits = model(buckets, similarity, **text).float()
        error = F.cross_entropy(logits.flatten(0, 1), buckets.flatten())
        return error, {"right_bucket": (logits.argmax(-1) == buckets).float().mean()}

    def samples(self, model):
        """Nothing to look at: vectors."""
        return None

    def save(self, model, folder: Path) -> None:
        """Write the prior, with its CLIP or into its base, as `maquette.pipeline` reads them."""
        save_part(folder, "prior", model, self.clip, self.settings.base or self.settings.start_from, {})

    def _forward(self) -> None:
        text = self.clip.texts(*self.clip.tokenizer.with_lengths([""], self.text_ctx))
        buckets = torch.zeros(1, self.model.config["dimensions"], dtype=torch.long)
        self.model(buckets, torch.zeros(1, dtype=torch.long), **text)
