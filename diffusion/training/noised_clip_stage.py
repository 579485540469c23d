"""GLIDE's noise-aware CLIP as a stage of training: pictures at every level of noise learn to find their texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, model_validator

from ...clip.tokenizer import ClipTokenizer
from ...clip.training.loss import contrastive_loss, gathered
from ...clip.training.pairs import caption_in
from ...clip.training.tokenizers import named_tokenizer
from ...training import TrainConfig
from ...training.layout import check_layout, going_on, layout_of, new_network
from ...weights.load_saved import load_saved
from ...weights.model_folder import find_model, load_part, part_folder, read_index, save_into
from ..glide import GlideUNet
from ..loss import HybridLoss
from ..noised_clip import NoisedClip
from .pictures import read_picture
from .start import TASK


class NoisedClipTraining(
    BaseModel, title="stage: of a noise-aware CLIP's recipe", extra="forbid", frozen=True
):
    """How the noise-aware CLIP is trained.

    tokenizer: "toybox" (the default), "openai" or the path of a tokenizer.json;
    schedule: the noise schedule, which must be that of the model that it is to guide (without it: is that);
    base: that model's name or folder, whose pictures must have this size. The noise-aware CLIP is saved together with
    all parts that the model has at that time; without it, with those of start_from, or alone;
    start_from: a model's name or folder whose noised_clip it goes on from. Layout and tokenizer are then its own.
    """

    tokenizer: str | None = None
    schedule: str = "squaredcos_cap_v2"
    base: str | None = None
    start_from: str | None = None

    @model_validator(mode="after")
    def _reads_one_way(self) -> NoisedClipTraining:
        if self.start_from and self.tokenizer:
            raise ValueError("what goes on from a trained one keeps its tokenizer; drop tokenizer")
        return self


class NoisedClipStage:
    """Trains NoisedClip on pictures with captions. Source: GLIDE (Nichol et al. 2021), sections 2.4 and 4.

    The recipe's `model:` holds NoisedClip's arguments without n_vocab, its `stage:` what NoisedClipTraining says. The
    temperature is 1 / logit_scale throughout. A batch is compared as a whole, over all processes: leave `micro_batch`
    alone. Raises what these two raise, and ValueError for what does not go together.
    """

    def __init__(self, config: TrainConfig):
        settings = NoisedClipTraining.model_validate(config.stage)
        if guided := settings.start_from or settings.base:
            settings = going_on(settings, read_index(find_model(guided, TASK)), {"schedule": "schedule"})
        self.settings = settings
        if config.micro_batch:
            raise ValueError("a batch is compared as a whole; drop micro_batch from the recipe")
        torch.manual_seed(config.seed)
        if settings.start_from:
            folder = find_model(settings.start_from, TASK)
            self.model = load_saved(NoisedClip, part_folder(folder, "noised_clip"), torch.float32)
            check_layout(settings.start_from, layout_of(self.model), config.model)
            self.tokenizer = load_part(ClipTokenizer, part_folder(folder, "clip_tokenizer"), torch.float32)
            self._check("start_from", settings.start_from, "schedule", read_index(folder).get("schedule"))
        else:
            self.tokenizer = named_tokenizer(settings.tokenizer or "toybox")
            self.model = new_network(NoisedClip, config.model, n_vocab=self.tokenizer.vocab_size)
        self.hybrid = HybridLoss(settings.schedule, self.model.config["n_timesteps"])
        if settings.base:
            folder = find_model(settings.base, TASK)
            network: Any = GlideUNet.load_config(part_folder(folder, "unet"), local_files_only=True)
            self._check("base", settings.base, "image_size", network["image_size"])
            self._check("base", settings.base, "schedule", read_index(folder).get("schedule"))

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Picture and `txt` of a raw sample -> image uint8 [3, side, side], tokens [max_text_len] and their count."""
        tokens, lengths = self._tokens([caption_in(sample)])
        image = read_picture(sample, self.model.config["image_size"])
        return {"image": image, "tokens": tokens[0], "length": lengths[0]}

    def loss(self, model, batch, generator):
        """The contrastive loss of a batch with noise, and how often the right text is the nearest."""
        image = batch["image"].float() / 127.5 - 1
        x, timesteps, _ = self.hybrid.noised(image, generator)
        images, texts = (gathered(each) for each in model(x, timesteps, batch["tokens"], batch["length"]))
        right = (images @ texts.T).argmax(1) == torch.arange(len(images), device=images.device)
        loss = contrastive_loss(images, texts, self.model.config["logit_scale"])
        return loss, {"right_caption": right.float().mean()}

    def save(self, model, folder: Path) -> None:
        """Write network and tokenizer, beside the model that it is to guide if there is one."""
        parts = {"noised_clip": model, "clip_tokenizer": self.tokenizer}
        whole = self.settings.base or self.settings.start_from
        settings = {} if whole else {"schedule": self.settings.schedule}
        save_into(whole and find_model(whole, TASK), folder, "GlidePipeline", parts, {}, settings)

    def _tokens(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.tokenizer.with_lengths(texts, self.model.config["max_text_len"], truncate=True)

    def _check(self, named: str, model: str, key: str, theirs: Any) -> None:
        ours = self.settings.schedule if key == "schedule" else self.model.config[key]
        if theirs not in (None, ours):
            raise ValueError(
                f"{named}: {model} has {key} {theirs!r}, but this training {ours!r}; they must be the same"
            )
