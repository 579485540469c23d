"""GLIDE as a stage of training: noise, dropped texts and masks go in, the hybrid loss comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, PositiveInt, model_validator
from torch import Tensor

from ...clip.model import ClipModel
from ...clip.training.pairs import caption_in
from ...clip.training.tokenizers import TOYBOX_TOKENIZER
from ...toybox.sheet import contact_sheet
from ...training import TrainConfig
from ...training.adapters import add_adapters, merged
from ...training.layout import as_saved, going_on, new_network
from ...weights.model_folder import find_model, read_index, save_into
from ..denoiser import clipped, from_epsilon, guided
from ..glide import GlideUNet
from ..loss import HybridLoss
from ..sampling import begun, normal_draws, sample, seeded_generators
from ..schedules import make_scheduler
from ..text_reader import TextReader
from ..tokenizer import GlideTokenizer
from .masks import random_masks
from .pictures import read_picture
from .start import TASK, check_sides, reader_of, started

# What adapters stand beside: the convolutions and matrix products of the U-Net and of the text transformer.
ADAPTED = (
    r"(input_blocks|middle_block|output_blocks)\..*\.(in_layers\.2|out_layers\.3|qkv|encoder_kv|proj_out)"
    r"|transformer\.resblocks\.\d+\.(attn\.(c_qkv|c_proj)|mlp\.(c_fc|c_proj))"
)
SHEET_PROMPTS = (
    "a red chair", "a blue car", "a green tree", "a yellow mug", "a white snowman", "a black house",
    "a small pink ball", "a shiny purple rocket", "a gray airplane", "an orange ring",
    "a brown table to the left of a blue cube", "a red ball on top of a green cube",
)  # fmt: skip


class GlideTraining(BaseModel, title="stage: of a GLIDE recipe", extra="forbid", frozen=True):
    """How GLIDE is trained.

    schedule: the noise schedule; tokenizer: "toybox" (the default) or the path of a tokenizer.json;
    clip: what ClipModel.from_pretrained takes: the network then reads texts by that CLIP's tokenizer and their states;
    snr_clamp: [low, high], see HybridLoss; a small budget learns layout and colour several times sooner with it;
    drop_text: the share of captions replaced by the empty text; inpaint_share: the share of samples of an inpainting
    network that see part of the picture, the others see none of it;
    start_from: a model's name or folder to go on from. Layout, schedule and how texts are read are then that model's:
    tokenizer and clip must be left out; another image_size or dropout may be given, another schedule, and inpaint:
    true, by which a network that does not inpaint learns it;
    train: "all", or "lora": adapters of `lora_rank`, merged when saved, and with inpaint: true the first convolution,
    which has new inputs then.
    """

    schedule: str = "squaredcos_cap_v2"
    tokenizer: str | None = None
    clip: str | None = None
    start_from: str | None = None
    snr_clamp: tuple[float, float] | None = None
    drop_text: Annotated[float, Field(ge=0, le=1)] = 0.2
    inpaint_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    train: Literal["all", "lora"] = "all"
    lora_rank: PositiveInt = 8

    @model_validator(mode="after")
    def _starts_somewhere(self) -> GlideTraining:
        if self.train == "lora" and not self.start_from:
            raise ValueError("train: lora needs a trained model to go on from; add start_from:")
        if self.start_from and (self.tokenizer or self.clip):
            raise ValueError(
                "a network that goes on reads texts as it did; drop tokenizer and clip, or start_from"
            )
        return self


class GlideStage:
    """Trains GlideUNet on pictures with captions. Source: GLIDE (Nichol et al. 2021), sections 2.3 and 4.

    The recipe's `model:` holds GlideUNet's arguments without n_vocab, text_width and super_res, its `stage:` what
    GlideTraining says. Raises what these two raise, and ValueError for what start_from does not go together with.
    """

    part: ClassVar[str] = "unet"  # of a model folder
    kind: ClassVar[type[GlideTraining]] = GlideTraining
    saved_as: ClassVar[Mapping[str, str]] = {"schedule": "schedule"}  # how the network is sampled from

    def __init__(self, config: TrainConfig):
        self.settings: Any = self.kind.model_validate(config.stage)
        if start := self.settings.start_from:
            self.settings = going_on(self.settings, read_index(find_model(start, TASK)), self.saved_as)
        torch.manual_seed(config.seed)
        self.reader = self._reader()
        self.frozen = [self.reader.encoder] if self.reader.encoder else []
        self.model = self._network(config.model)
        encoder, asked = self.reader.encoder, self.model.config["text_ctx"]
        if encoder and asked > (most := encoder.config["context_length"]):
            raise ValueError(f"text_ctx is {asked}, but the CLIP reads {most} tokens; lower it")
        if self.whole:
            check_sides(self.whole, self.part, self.model.config["image_size"])
        self.hybrid = HybridLoss(self.settings.schedule, snr_clamp=self.settings.snr_clamp)
        if self.settings.train == "lora":
            add_adapters(self.model, ADAPTED, self.settings.lora_rank)
            self.model.input_blocks[0].requires_grad_(bool(config.model.get("inpaint")))

    @property
    def whole(self) -> str | None:
        """The model that it is saved into, if any."""
        return self.settings.start_from

    @property
    def levels(self) -> int:
        """How many noise levels are learned, the lowest."""
        return self.hybrid.steps

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Picture and `txt` of a raw sample -> image uint8 [3, H, W], tokens and mask [ctx].

        See `read_picture` for the picture, and for what is raised.
        """
        image = read_picture(sample, self.model.config["image_size"])
        tokens, mask = self.reader.tokens([caption_in(sample)], self.model.config["text_ctx"])
        return {"image": image, "tokens": tokens[0], "mask": mask[0]}

    def loss(self, model, batch, generator):
        """The mean hybrid loss of a batch, and its two parts."""
        image, given = self.conditions(batch["image"], generator)
        x, timesteps, noise = self.hybrid.noised(image, generator, self.levels)
        kept = (torch.rand(len(image), 1, generator=generator) >= self.settings.drop_text).to(image.device)
        text = self.reader.inputs(batch["tokens"], batch["mask"] & kept)
        return self.hybrid.mean(model(x, timesteps, **text, **given), image, x, timesteps, noise)

    def conditions(self, image: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Images uint8 [N, 3, H, W] as they are learned, in [-1, 1], and what the network is told of them."""
        image = image.float() / 127.5 - 1
        if not self.model.config["inpaint"]:
            return image, {}
        mask = random_masks(len(image), image.shape[-1], self.settings.inpaint_share, generator)
        return image, {"inpaint_image": image, "inpaint_mask": mask.to(image.device)}

    def samples(self, model):
        """Guided pictures of a dozen prompts, seeded."""
        side = self.model.config["image_size"]
        x = self._drawn(model, [*SHEET_PROMPTS, *[""] * len(SHEET_PROMPTS)], side, 3.0)
        return contact_sheet(as_arrays(x), columns=6)

    def save(self, model, folder: Path) -> None:
        """Write the model as `maquette.pipeline` reads it: with all else that it had, if it is saved into one."""
        whole = self.whole and find_model(self.whole, TASK)
        parts, beside = {self.part: merged(model)}, self.reader.parts()
        save_into(whole, folder, "GlidePipeline", parts, beside, as_saved(self.settings, self.saved_as))

    def _drawn(self, model, texts: list[str], side: int, scale: float, **given: Tensor) -> Tensor:
        """Samples [N, 3, side, side] of `texts`, which hold those for guidance too, unless the scale is 1."""
        device = next(model.parameters()).device
        text = self.reader.encode(model, texts)
        scheduler = make_scheduler("sde-dpm++", self.settings.schedule, 20)
        n = len(texts) if scale == 1 else len(texts) // 2
        draw = normal_draws(seeded_generators(0, n), (3, side, side), device)
        network = from_epsilon(lambda x, t: model(x, t, text=text, **given), scheduler.alphas_cumprod)
        x, start = draw(), 0
        if "low_res" in given:
            x, start = begun(scheduler, x, given["low_res"], self.levels / self.hybrid.steps)
        return sample(clipped(guided(network, scale)), scheduler, x, draw, start)

    def _network(self, layout: dict[str, Any]) -> GlideUNet:
        reading: dict[str, Any] = self.reader.layout()
        if self.settings.start_from:
            return started(self.settings.start_from, self.part, layout, reading)
        return new_network(GlideUNet, layout, **reading, super_res=self.part == "upsampler")

    def _reader(self) -> TextReader:
        settings = self.settings
        if settings.clip:
            clip = ClipModel.from_pretrained(settings.clip, dtype=torch.float32, device="cpu")
            return TextReader(clip.tokenizer, clip.own_encoder(with_states=True))
        if settings.start_from:
            return reader_of(settings.start_from)
        path = settings.tokenizer or "toybox"
        return TextReader(GlideTokenizer.from_file(TOYBOX_TOKENIZER if path == "toybox" else path))


def as_arrays(x: Tensor) -> list[np.ndarray]:
    """Pictures [N, 3, H, W] in [-1, 1] as uint8 [H, W, 3] each."""
    return list(((x.cpu() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
