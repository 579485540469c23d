"""The autoregressive prior as a stage of training: buckets and texts go in, cross-entropy comes out."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from ..autoregressive_prior import AutoregressivePrior
from .prior_stage import EitherPriorStage


class AutoregressiveStage(EitherPriorStage):
    """Trains AutoregressivePrior on CLIP's vectors of pictures. Source: unCLIP (Ramesh et al. 2022), section 2.2.

    The recipe's `model:` holds AutoregressivePrior's arguments without clip_dim and text_width, its `stage:` what
    PriorTraining says. Raises what these raise.
    """

    network: ClassVar[Any] = AutoregressivePrior

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
