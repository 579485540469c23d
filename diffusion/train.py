"""GLIDE as a stage of training: noise, dropped texts and masks go in, the hybrid loss comes out."""

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, Field
from torch.utils.flop_counter import FlopCounterMode

from ..clip.model import ClipModel
from ..toybox.sheet import contact_sheet
from ..training import TrainConfig
from ..weights.load_saved import load_saved
from ..weights.model_folder import find_model, write_model_folder
from .denoiser import clipped, from_epsilon, guided
from .glide import GlideUNet
from .loss import HybridLoss
from .sampling import normal_draws, sample, seeded_generators
from .schedules import make_scheduler
from .text_reader import TextReader
from .tokenizer import GlideTokenizer

BUNDLED_TOKENIZER = Path(__file__).parents[1] / "toybox" / "tokenizer.json"
SHEET_PROMPTS = (
    "a red chair", "a blue car", "a green tree", "a yellow mug", "a white snowman", "a black house",
    "a small pink ball", "a shiny purple rocket", "a gray airplane", "an orange ring",
    "a brown table to the left of a blue cube", "a red ball on top of a green cube",
)  # fmt: skip


class GlideTraining(BaseModel, title="stage: of a GLIDE recipe", extra="forbid", frozen=True):
    """How GLIDE is trained.

    schedule: the noise schedule; tokenizer: "toybox" or the path of a tokenizer.json;
    clip: what ClipModel.from_pretrained takes; the network then reads that CLIP's text states, with its tokenizer;
    start_from: a model's name or folder, of the same layout, to go on from, at any image size;
    snr_clamp: [low, high], see HybridLoss; a small budget learns layout and colour several times sooner with it;
    drop_text: the share of captions replaced by the empty text; inpaint_share: the share of samples of an inpainting
    network that see part of the picture, the others see none of it.
    """

    schedule: str = "squaredcos_cap_v2"
    tokenizer: str = "toybox"
    clip: str | None = None
    start_from: str | None = None
    snr_clamp: tuple[float, float] | None = None
    drop_text: Annotated[float, Field(ge=0, le=1)] = 0.2
    inpaint_share: Annotated[float, Field(ge=0, le=1)] = 0.3


class GlideStage:
    """Trains GlideUNet on pictures with captions. Source: GLIDE (Nichol et al. 2021), sections 2.3 and 4.

    The recipe's `model:` holds GlideUNet's arguments without n_vocab and text_width, its `stage:` what GlideTraining
    says.
    Raises what these two raise.
    """

    def __init__(self, config: TrainConfig):
        self.settings = settings = GlideTraining.model_validate(config.stage)
        self.reader = _text_reader(settings)
        self.frozen = [self.reader.encoder] if self.reader.encoder else []
        torch.manual_seed(config.seed)
        self.model = GlideUNet(**config.model, **self.reader.layout())
        if settings.start_from:
            folder = find_model(settings.start_from, "text-to-image")
            start = load_saved(GlideUNet, folder / "unet", torch.float32)
            self.model.load_state_dict(start.state_dict())
        self.hybrid = HybridLoss(settings.schedule, snr_clamp=settings.snr_clamp)
        self.flops_per_sample = 3 * self._forward_flops()

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """`png` and `txt` of a raw sample -> image uint8 [3, H, W], tokens and mask [ctx]."""
        side = self.model.config["image_size"]
        image = Image.open(io.BytesIO(sample["png"])).convert("RGB")
        if image.size != (side, side):
            if image.width != image.height or image.width < side:
                raise ValueError(
                    f"it has {image.width}×{image.height} pixels, expected a square of at least {side}"
                )
            image = image.resize((side, side), Image.Resampling.BOX)
        tokens, mask = self.reader.tokens([sample["txt"].decode()], self.model.config["text_ctx"])
        return {"image": np.asarray(image).transpose(2, 0, 1).copy(), "tokens": tokens[0], "mask": mask[0]}

    def loss(self, model, batch, generator):
        """The mean hybrid loss of a batch, and its two parts."""
        image = batch["image"].float() / 127.5 - 1
        n, device = len(image), image.device
        timesteps = torch.randint(self.hybrid.steps, (n,), generator=generator).to(device)
        noise = torch.randn(image.shape, generator=generator).to(device)
        kept = (torch.rand(n, 1, generator=generator) >= self.settings.drop_text).to(device)
        known = {}
        if self.model.config["inpaint"]:
            mask = random_masks(n, image.shape[-1], self.settings.inpaint_share, generator).to(device)
            known = {"inpaint_image": image, "inpaint_mask": mask}
        x = self.hybrid.add_noise(image, timesteps, noise)
        text = self.reader.inputs(batch["tokens"], batch["mask"] & kept)
        predicted = model(x, timesteps, **text, **known)
        error, bound = self.hybrid(predicted.float(), image, x, timesteps, noise)
        weighted = error * self.hybrid.weight(timesteps)
        return (weighted + bound).mean(), {"squared_error": error.mean(), "bound": bound.mean()}

    def samples(self, model):
        """Guided pictures of a dozen prompts, seeded."""
        texts = [*SHEET_PROMPTS, *[""] * len(SHEET_PROMPTS)]
        device, side = next(model.parameters()).device, self.model.config["image_size"]
        tokens, mask = (part.to(device) for part in self.reader.tokens(texts, self.model.config["text_ctx"]))
        text = model.encode_text(**self.reader.inputs(tokens, mask))
        scheduler = make_scheduler("sde-dpm++", self.settings.schedule, 20)
        draw = normal_draws(seeded_generators(0, len(SHEET_PROMPTS)), (3, side, side), device)
        network = from_epsilon(lambda x, t: model(x, t, text=text), scheduler.alphas_cumprod)
        x = sample(clipped(guided(network, 3.0)), scheduler, draw(), draw)
        pictures = ((x.cpu() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return contact_sheet(list(pictures), columns=6)

    def save(self, model, folder: Path) -> None:
        """Write network and tokenizer as `maquette.pipeline` reads them."""
        parts = {"unet": model, **self.reader.parts()}
        write_model_folder(folder, "GlidePipeline", parts, {"schedule": self.settings.schedule})

    @torch.no_grad()
    def _forward_flops(self) -> int:
        side, ctx = self.model.config["image_size"], self.model.config["text_ctx"]
        with FlopCounterMode(display=False) as counter:
            text = self.reader.inputs(*self.reader.tokens([""], ctx))
            self.model(torch.zeros(1, 3, side, side), torch.zeros(1), **text)
        return counter.get_total_flops()


def _text_reader(settings: GlideTraining) -> TextReader:
    if settings.clip:
        clip = ClipModel.from_pretrained(settings.clip, dtype=torch.float32, device="cpu")
        return TextReader(clip.tokenizer, clip.encoder)
    path = BUNDLED_TOKENIZER if settings.tokenizer == "toybox" else settings.tokenizer
    return TextReader(GlideTokenizer.from_file(path))


def random_masks(n: int, side: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Masks [N, 1, side, side], 1 where pixels are known: for `share` of the samples all but a random box."""
    low, size = torch.rand(2, n, 2, generator=generator)
    size = ((0.2 + 0.8 * size) * side).round()
    low = (low * (side - size + 1)).floor()
    inside = (torch.arange(side)[None, None] >= low[..., None]) & (
        torch.arange(side)[None, None] < (low + size)[..., None]
    )
    hole = inside[:, 0, :, None] & inside[:, 1, None, :]
    sees = torch.rand(n, generator=generator) < share
    return (~hole & sees[:, None, None]).float()[:, None]
