"""unCLIP's decoder as a stage of training: noisy pictures and their CLIP vectors go in, the hybrid loss comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import BaseModel, Field, model_validator

from ...diffusion.denoiser import clipped
from ...diffusion.glide import GlideUNet
from ...diffusion.loss import HybridLoss
from ...diffusion.sampling import normal_draws, sample, seeded_generators
from ...diffusion.schedules import make_scheduler
from ...diffusion.training.clip_conditions import ClipConditions
from ...diffusion.training.pictures import read_picture
from ...diffusion.training.stage import as_arrays
from ...diffusion.training.start import NOT_SEEN
from ...toybox import make_scene, render
from ...toybox.sheet import contact_sheet
from ...training import Shards, TrainConfig
from ...training.layout import as_saved, check_layout, going_on, layout_of, new_network
from ...weights.load_saved import load_saved
from ...weights.model_folder import find_model, has_part, part_folder, read_index
from ..decoder import UnCLIPDecoder
from ..denoisers import decoder_denoiser
from ..text_conditions import read_texts
from .saving import check_base, find_unclip, save_part

FREE = ("image_size", "dropout")  # what a recipe may say otherwise than the network that it goes on from
SAVED_AS = {"schedule": "decoder_schedule"}  # how the network is sampled from
UNET = ("time_embed", "input_blocks", "middle_block", "output_blocks", "out")
TEXT = (
    "text_proj", "transformer", "final_ln", "positional_embedding", "padding_embedding", "transformer_proj",
)  # fmt: skip
OF_VECTORS = ("clip_emb", "clip_tok_proj", "text_feat_proj")
SHEET_SCENES, SHEET_STEPS, SHEET_SCALE = 12, 20, 3.0


class DecoderTraining(BaseModel, title="stage: of a decoder's recipe", extra="forbid", frozen=True):
    """How unCLIP's decoder is trained.

    clip: what ClipModel.from_pretrained takes: the network learns pictures from that CLIP's vectors of them;
    base: the name or folder of an unCLIP model that the decoder is saved into, beside its other parts; without it,
    beside those of start_from, or alone;
    start_from: the name or folder of an unCLIP model to go on from, of the same layout, at any image size;
    glide: instead, the name or folder of a GLIDE model of the same layout, with whose U-Net it begins: it can draw and,
    with as many xf_layers, read, and has to learn what the vectors mean;
    schedule: the noise schedule (without it, that of start_from or glide); snr_clamp: [low, high], see HybridLoss;
    drop_image, drop_text: the shares of vectors and of captions that are left out, each by itself.
    """

    clip: str = "mini"
    base: str | None = None
    start_from: str | None = None
    glide: str | None = None
    schedule: str = "squaredcos_cap_v2"
    snr_clamp: tuple[float, float] | None = None
    drop_image: Annotated[float, Field(ge=0, le=1)] = 0.1
    drop_text: Annotated[float, Field(ge=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _starts_once(self) -> DecoderTraining:
        if self.start_from and self.glide:
            raise ValueError("start_from and glide both say what to begin with; drop one of them")
        return self


class DecoderStage:
    """Trains UnCLIPDecoder on pictures with captions. Source: unCLIP (Ramesh et al. 2022), section 2.1.

    The recipe's `model:` holds UnCLIPDecoder's arguments without clip_dim and text_width, its `stage:` what
    DecoderTraining says. Raises what these raise, and ValueError for a start of another layout.
    """

    def __init__(self, config: TrainConfig):
        settings = DecoderTraining.model_validate(config.stage)
        if settings.start_from:
            settings = going_on(settings, read_index(find_unclip(settings.start_from)), SAVED_AS)
        elif settings.glide:
            index = read_index(find_model(settings.glide, "text-to-image"))
            settings = going_on(settings, index, {"schedule": "schedule"})
        self.settings = settings
        self.clip = ClipConditions(settings.clip)
        check_base(settings.base, self.clip)
        self.frozen = [self.clip.encoder]
        torch.manual_seed(config.seed)
        self.model = self._network(config.model)
        self.side, self.text_ctx = self.model.config["image_size"], self.model.config["text_ctx"]
        self.whole = settings.base or settings.start_from  # the model that it is saved into, if any
        if self.whole:
            _check_upsampler(self.whole, self.side)
        self.hybrid = HybridLoss(settings.schedule, snr_clamp=settings.snr_clamp)

    def begin(self, shards: Shards) -> None:
        """Raises ValueError for cached vectors that are another CLIP's or not everywhere."""
        self.clip.check(shards)

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """See `read_picture` and ClipConditions."""
        return {"image": read_picture(sample, self.side), **self.clip.prepare(sample, self.text_ctx)}

    def loss(self, model, batch, generator):
        """The mean hybrid loss of a batch, and its two parts."""
        image = batch["image"].float() / 127.5 - 1
        x, timesteps, noise = self.hybrid.noised(image, generator)
        drawn = torch.rand(2, len(image), generator=generator).to(image.device)
        text = self.clip.texts(batch["tokens"], batch["length"], drawn[0] >= self.settings.drop_text)
        given = {
            "image_embedding": self.clip.vectors(batch),
            "has_image": drawn[1] >= self.settings.drop_image,
        }
        return self.hybrid.mean(model(x, timesteps, **given, **text), image, x, timesteps, noise)

    @torch.no_grad()
    def samples(self, model):
        """Of Toybox scenes that it was not trained on: each above what is drawn of its vector alone."""
        device = next(model.parameters()).device
        seen = [
            Image.fromarray(render(make_scene("val", number), size=max(64, self.side)))
            for number in range(SHEET_SCENES)
        ]
        pixels = torch.stack([self.clip.preprocess(picture) for picture in seen]).to(device)
        wordless = read_texts(self.clip.encoder, self.clip.tokenizer, [""] * SHEET_SCENES, self.text_ctx)
        scheduler = make_scheduler("sde-dpm++", self.settings.schedule, SHEET_STEPS)
        vectors = self.clip.vectors({"pixels": pixels})
        denoise = decoder_denoiser(model, vectors, wordless, wordless, SHEET_SCALE, scheduler.alphas_cumprod)
        draw = normal_draws(seeded_generators(0, SHEET_SCENES), (3, self.side, self.side), device)
        drawn = as_arrays(sample(clipped(denoise), scheduler, draw(), draw))
        true = [picture.resize((self.side, self.side), Image.Resampling.BOX) for picture in seen]
        half = SHEET_SCENES // 2
        rows = [*true[:half], *drawn[:half], *true[half:], *drawn[half:]]
        return contact_sheet(rows, columns=half)

    def save(self, model, folder: Path) -> None:
        """Write the decoder, with its CLIP or into its base, as `maquette.pipeline` reads them."""
        save_part(folder, "decoder", model, self.clip, self.whole, as_saved(self.settings, SAVED_AS))

    def _network(self, layout: dict[str, Any]) -> UnCLIPDecoder:
        start = self.settings.start_from
        if not start:
            network = new_network(UnCLIPDecoder, layout, **self.clip.layout(layout.get("text_ctx", 77)))
            return begun_with(network, self.settings.glide) if self.settings.glide else network
        check_base(start, self.clip)
        trained = load_saved(UnCLIPDecoder, part_folder(find_unclip(start), "decoder"), torch.float32)
        had = layout_of(trained)
        before, after = had["image_size"], layout.get("image_size", had["image_size"])
        # Attention stands at the same levels whatever the size.
        had["attention_resolutions"] = [side * after // before for side in had["attention_resolutions"]]
        check_layout(start, had, {**layout, **self.clip.layout(had["text_ctx"])}, FREE)
        model = UnCLIPDecoder(**{**had, **layout})
        model.load_state_dict(trained.state_dict())
        return model


def _check_upsampler(whole: str, side: int) -> None:
    """Raises ValueError if a model's upsampler makes smaller pictures than a decoder of this side."""
    folder = find_unclip(whole)
    if not has_part(read_index(folder), "upsampler"):
        return
    config: Any = GlideUNet.load_config(part_folder(folder, "upsampler"), local_files_only=True)
    if (makes := config.get("size") or config["image_size"]) < side:
        raise ValueError(
            f"the upsampler of {whole} makes {makes} px, and this decoder draws {side}; give a base without one"
        )


def begun_with(network: UnCLIPDecoder, glide: str) -> UnCLIPDecoder:
    """The decoder with all that it has in common with the U-Net of a GLIDE model, which may inpaint.

    What it makes of vectors starts at zero: with a text transformer, it draws captions as that GLIDE does. Raises
    what `part_folder` raises, and ValueError where the two differ in layout.
    """
    place = part_folder(find_model(glide, "text-to-image"), "unet")
    had = dict(load_saved(GlideUNet, place, torch.float32).state_dict())
    weights = network.state_dict()
    first = "input_blocks.0.0.weight"
    had[first] = had[first][:, : NOT_SEEN * network.patch_size**2]
    body = [key for key in weights if key.split(".")[0] in (*UNET, *TEXT)]
    new = {key: torch.zeros_like(value) for key, value in weights.items() if key.split(".")[0] in OF_VECTORS}
    differing = [key for key in body if key not in had or had[key].shape != weights[key].shape]
    if differing:
        raise ValueError(
            f"glide: the U-Net of {glide} is of another layout than the recipe's, first at {differing[0]}"
        )
    network.load_state_dict({**weights, **new, **{key: had[key] for key in body}})
    return network
