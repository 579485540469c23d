"""unCLIP's stages, shared by its pipelines: a decoder draws an image embedding small, an upsampler enlarges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ..clip.encoder import ClipEncoder
from ..clip.tokenizer import ClipTokenizer
from ..diffusion.denoiser import Denoiser, Scale, check_levels, clipped, from_epsilon, scale_between
from ..diffusion.glide import GlideUNet
from ..diffusion.sampling import begun, normal_draws, sample, steps_taken
from ..diffusion.schedules import RespacedScheduler, make_scheduler, respaced_timesteps
from ..diffusion.text_reader import TextReader
from ..unclip.decoder import UnCLIPDecoder
from ..unclip.denoisers import decoder_denoiser, upsampler_denoiser
from ..unclip.large_upsampler import LargeUpsampler
from ..unclip.text_conditions import TextConditions, read_texts
from ..unclip.upsampler import UnCLIPUpsampler
from .base import BATCH, OnStageStep, Pipeline, Request
from .glide_stages import PIXELS, check_upsampler, check_upsampler_strength, in_8_bits
from .karlo import is_diffusers_layout, load_diffusers_layout

FAMILY = "unclip"
# The parts that enlarge, in their order.
UPSAMPLERS = ("upsampler", "large_upsampler")


class UnCLIPStages(Pipeline):
    """What unCLIP's pipelines are made of. Source: unCLIP (Ramesh et al. 2022), section 2; kakaobrain/karlo.

    decoder: draws. clip, tokenizer: the CLIP whose vectors and text states it reads, and what reads its texts.
    upsampler: enlarges what the decoder drew: Karlo's, or one of GLIDE's kind that reads `clip`'s text states.
    large_upsampler: enlarges once more. upsampler_strength, guidance_interval (of the decoder): as in GlideStages.
    """

    parts = {  # noqa: RUF012
        "decoder": (UnCLIPDecoder,),
        "clip": (ClipEncoder,),
        "tokenizer": (ClipTokenizer,),
        "upsampler": (UnCLIPUpsampler, GlideUNet),
        "large_upsampler": (LargeUpsampler,),
    }

    def __init__(self, arguments: Mapping[str, Any]):
        _check_parts(arguments["decoder"], arguments["clip"], arguments["upsampler"])
        # Raise for what they do not know, here rather than when something has been drawn.
        make_scheduler(arguments["sampler"], arguments["decoder_schedule"], arguments["num_inference_steps"])
        for name in UPSAMPLERS:
            make_scheduler(*(arguments[f"{name}_{what}"] for what in ("sampler", "schedule", "steps")))
        check_levels(arguments["guidance_interval"], "guidance_interval")
        check_upsampler_strength(arguments["upsampler_strength"])
        super().__init__(arguments)
        sides = [self._side(network) for network in self._networks()]
        if sides != sorted(sides):
            raise ValueError(f"the networks draw {', then '.join(map(str, sides))} px; each must enlarge")

    @classmethod
    def _load_parts(cls, folder: Path, index: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
        if is_diffusers_layout(index):
            return load_diffusers_layout(folder, cls.parts, dtype, reads_pictures=cls.task != "text-to-image")
        return super()._load_parts(folder, index, dtype)

    @property
    def context_length(self) -> int:
        return self.decoder.config["text_ctx"]

    @property
    def batch_size(self) -> int:
        return max(1, min(BATCH, PIXELS // self.image_size**2))

    @property
    def image_size(self) -> int:
        """Pixels of a picture's side."""
        return self._side(self._networks()[-1])

    def steps_in_all(self, request: Request) -> int:
        """How many steps the decoder and the upsamplers take."""
        steps = steps_taken(request.steps, self._strength("decoder", request))
        for name in self._upsamplers():
            count = len(respaced_timesteps(spacing=request.sampling[f"{name}_steps"]))
            steps += steps_taken(count, self._strength(name, request))
        return steps

    def read(self, texts: Sequence[str], length: int | None = None) -> TextConditions:
        """What a network is told of each text, of so many tokens; None: as the decoder reads."""
        return read_texts(self.clip, self.tokenizer, texts, length or self.decoder.config["text_ctx"])

    def decoding(
        self, embedding: Tensor, prompts: Sequence[str], scale: Scale, scheduler: RespacedScheduler
    ) -> Denoiser:
        """The decoder, told of embeddings [N, D] and N prompts, guided and not clipped."""
        text, wordless = self.read(prompts), self.read([""] * len(prompts))
        return decoder_denoiser(self.decoder, embedding, text, wordless, scale, scheduler.alphas_cumprod)

    def scheduler(self, sampling: Mapping[str, Any]) -> RespacedScheduler:
        """Of the decoder's steps."""
        return make_scheduler(
            sampling["sampler"], self.config["decoder_schedule"], sampling["num_inference_steps"]
        )

    def draw(self, request: Request, embedding: Tensor, on_step: OnStageStep) -> Tensor:
        """Pictures [N, 3, image_size, image_size] of embeddings [N, D] and the request's prompts, in [-1, 1].

        It begins with the request's "noise" [N, 3, h, h], or its "photo" [N, 3, h, h] under noise, if it has one.
        """
        side, scheduler = self._side(self.decoder), self.scheduler(request.sampling)
        draw = normal_draws(request.generators, (3, side, side), self.device)
        x, start = request.given["noise"].to(self.device) if "noise" in request.given else draw(), 0
        if "photo" in request.given:
            x, start = begun(scheduler, x, request.given["photo"], self._strength("decoder", request))
        interval = request.sampling["guidance_interval"]
        scale = scale_between(request.guidance_scale, interval, scheduler.alphas_cumprod)
        denoise = self.decoding(embedding, request.prompts, scale, scheduler)
        x = sample(clipped(denoise), scheduler, x, draw, start, partial(on_step, stage="decoder"))
        x = x.clamp(-1, 1)
        for name in self._upsamplers():
            x = self._enlarged(name, request, x, on_step)
        return x

    def _networks(self) -> list[Any]:
        """The decoder and the upsamplers."""
        return [self.decoder, *(getattr(self, name) for name in self._upsamplers())]

    def _upsamplers(self) -> list[str]:
        return [name for name in UPSAMPLERS if getattr(self, name) is not None]

    def _enlarged(self, name: str, request: Request, low_res: Tensor, on_step: OnStageStep) -> Tensor:
        network, sampling = getattr(self, name), request.sampling
        schedule, side = self.config[f"{name}_schedule"], self._side(network)
        scheduler = make_scheduler(sampling[f"{name}_sampler"], schedule, sampling[f"{name}_steps"])
        if isinstance(network, GlideUNet):
            text = TextReader(self.tokenizer, self.clip).encode(network, request.prompts)
            told = partial(network, text=text, low_res=in_8_bits(low_res))
            denoise = clipped(from_epsilon(told, scheduler.alphas_cumprod))
        else:
            denoise = upsampler_denoiser(network, low_res, scheduler.alphas_cumprod)
        draw = normal_draws(request.generators, (3, side, side), self.device)
        x, start = begun(scheduler, draw(), low_res, self._strength(name, request))
        return sample(denoise, scheduler, x, draw, start, partial(on_step, stage=name))

    def _strength(self, name: str, request: Request) -> float:
        """The share of a network's steps that are taken."""
        if name == "decoder":
            return request.sampling["strength"] if "photo" in request.given else 1.0
        return request.sampling["upsampler_strength"] if name == "upsampler" else 1.0

    def _side(self, network: Any) -> int:
        return network.config["size" if isinstance(network, UnCLIPUpsampler) else "image_size"]


def _check_parts(
    decoder: UnCLIPDecoder, clip: ClipEncoder, upsampler: UnCLIPUpsampler | GlideUNet | None
) -> None:
    check_width("decoder", decoder, clip)
    check_upsampler(upsampler)


def check_width(name: str, network: Any, clip: ClipEncoder) -> None:
    """Raises ValueError unless a network reads the vectors, the states and the length of this CLIP's texts."""
    config = network.config
    reads = (config["clip_dim"], config["text_width"] or config["clip_dim"], config["text_ctx"])
    gives = (clip.config["embed_dim"], clip.config["transformer_width"], clip.config["context_length"])
    if reads[:2] != gives[:2] or reads[2] > gives[2]:
        raise ValueError(
            f"the {name} reads vectors of {reads[0]} and texts of {reads[2]} states of {reads[1]}, and the CLIP "
            f"given makes {gives[0]}, {gives[2]} and {gives[1]}; give the CLIP that it was trained with"
        )
