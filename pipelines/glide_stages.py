"""GLIDE's two stages, shared by its pipelines: a base network draws small, an upsampler enlarges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.encoder import ClipEncoder
from ..clip.tokenizer import ClipTokenizer
from ..diffusion.denoiser import (
    Denoiser,
    check_levels,
    clipped,
    dynamically_clipped,
    from_epsilon,
    guided,
    keep_known,
    scale_between,
    tiled,
)
from ..diffusion.glide import GlideUNet
from ..diffusion.noised_clip import NoisedClip
from ..diffusion.sampling import begun, normal_draws, sample, steps_taken
from ..diffusion.schedules import RespacedScheduler, make_scheduler, respaced_timesteps
from ..diffusion.text_reader import TextReader
from ..diffusion.tokenizer import GlideTokenizer
from ..diffusion.unet import Conditioning
from .base import BATCH, OnStageStep, Pipeline, Request
from .free_memory import free_memory, rows_that_fit

# Of the upsampler's first noise: below 1 pictures are a little smoother. The original notebooks' "upsample_temp".
NOISE = 0.997
# Of all pictures that are drawn at once, if they are more than one: larger batches are no quicker.
PIXELS = 4 * 256**2
# What drawing a picture takes, by the peaks of processes: so many times its pixels in float32, and of a network so many
# times the numbers that a layer on all pixels makes.
PIXEL_COPIES, LAYER_COPIES = 16, 32

# A side in pixels -> the picture [N or 1, 3, side, side] in [-1, 1], and a mask [N or 1, 1, side, side]: 1 where it is
# known, and in between where it is mixed in.
Known = Callable[[int], tuple[Tensor, Tensor]]
# (clipped denoiser, the prompt of each sample, what steps with it) -> the same with a layer over it.
Layer = Callable[[Denoiser, Sequence[str], RespacedScheduler], Denoiser]


class GlideStages(Pipeline):
    """What GLIDE's pipelines are made of. Source: GLIDE (Nichol et al. 2021), section 4.

    unet, tokenizer: the base network and what reads its texts. text_encoder: the CLIP whose states of a text the
    networks read, if they have no vocabulary of their own. upsampler: enlarges what the base drew. noised_clip,
    clip_tokenizer: for CLIP guidance, and what reads its texts. schedule, upsampler_schedule: the noise that each
    network was trained with.

    The other settings are what a call takes that does not say. sampler, upsampler_sampler: which steps lead back from
    the noise. num_inference_steps, upsampler_steps: how many, or for the second a spacing. guidance_scale, and
    guidance_interval: the lowest and the highest noise level at which it is used (see `scale_between`), None: at all.
    upsampler_strength: the share of its steps that are taken, the last ones; below 1 it begins with the enlarged small
    picture and noise, which keeps its colours (Chung et al. 2022, "Come-Closer-Diffuse-Faster").
    dynamic_threshold: the quantile at which x0 is clipped (see `dynamically_clipped`), None: at -1 and 1.
    Raises ValueError for networks in each other's place, a noised_clip that nothing reads texts for, or settings that
    cannot be.
    """

    parts = {  # noqa: RUF012
        "tokenizer": (GlideTokenizer, ClipTokenizer),
        "text_encoder": (ClipEncoder,),
        "unet": (GlideUNet,),
        "upsampler": (GlideUNet,),
        "noised_clip": (NoisedClip,),
        "clip_tokenizer": (ClipTokenizer,),
    }

    def __init__(
        self,
        unet: GlideUNet,
        tokenizer: GlideTokenizer | ClipTokenizer,
        text_encoder: ClipEncoder | None = None,
        upsampler: GlideUNet | None = None,
        noised_clip: NoisedClip | None = None,
        clip_tokenizer: ClipTokenizer | None = None,
        schedule: str = "squaredcos_cap_v2",
        sampler: str = "sde-dpm++",
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        guidance_interval: Sequence[float] | None = None,
        dynamic_threshold: float | None = None,
        upsampler_schedule: str = "linear",
        upsampler_sampler: str = "dpm++",
        upsampler_steps: int | str = 8,
        upsampler_strength: float = 1.0,
    ):
        arguments = locals()
        _check_parts(unet, upsampler, noised_clip, clip_tokenizer)
        _check_settings(guidance_interval, dynamic_threshold, upsampler_strength)
        # Raise for what they do not know, here rather than when the base has been drawn.
        make_scheduler(sampler, schedule, num_inference_steps)
        make_scheduler(upsampler_sampler, upsampler_schedule, upsampler_steps)
        super().__init__(arguments)

    @property
    def context_length(self) -> int:
        return self.unet.config["text_ctx"]

    @property
    def batch_size(self) -> int:
        return self.rows_at_once(self.image_size)

    @property
    def image_size(self) -> int:
        """Pixels of a picture's side, if a call does not say."""
        return (self.upsampler or self.unet).config["image_size"]

    def draw_base(
        self,
        request: Request,
        on_step: OnStageStep,
        *,
        photo: Tensor | None = None,
        strength: float = 1.0,
        known: Known | None = None,
        guide: Layer | None = None,
    ) -> Tensor:
        """Pictures [N, 3, side, side] of the base network, in [-1, 1].

        photo: [3, side, side], to begin with, with the noise of `strength` of the steps, which alone are then taken.
        known: pixels that the pictures keep. guide: a layer of guidance beside the classifier-free one.
        """
        sampling, side = request.sampling, self.unet.config["image_size"]
        scheduler = make_scheduler(sampling["sampler"], self.config["schedule"], request.steps)
        draw = normal_draws(request.generators, (3, side, side), self.device)
        pixels = self._pixels(known, side, len(request))
        denoise = self._guided(request, scheduler.alphas_cumprod, _seen(self.unet, pixels))
        denoise = keep_known(denoise, *pixels) if pixels else denoise
        quantile = sampling["dynamic_threshold"]
        denoise = dynamically_clipped(denoise, quantile) if quantile else clipped(denoise)
        denoise = guide(denoise, request.prompts, scheduler) if guide else denoise
        x, start = draw(), 0
        if photo is not None:
            x, start = begun(scheduler, x, photo[None].to(x), strength)
        return sample(denoise, scheduler, x, draw, start, partial(on_step, stage="base"))

    def upsample(
        self, request: Request, x: Tensor, size: int, on_step: OnStageStep, known: Known | None = None
    ) -> Tensor:
        """Pictures x [N, 3, side, side] of the base, or of its size, as [N, 3, size, size].

        The upsampler's own size is drawn in one piece, a smaller one likewise and then reduced, and a larger one in
        passes that each enlarge as many times as the network was trained for, or less, in tiles of its size. For no
        more pixels than x has there is nothing to draw. known: as for `draw_base`.
        """
        prompts = request.prompts if request.guidance_scale else [""] * len(request)
        text = self._encode(self.upsampler, prompts) if self._sides(size) else None
        for side in self._sides(size):
            low_res = in_8_bits(_resized(x, side // self._times))
            pixels = self._pixels(known, side, len(request))
            x = self._enlarge(request, low_res, side, text, pixels, on_step)
        return _resized(x, size)

    def steps_in_all(self, steps: int, sampling: Mapping[str, Any], size: int) -> int:
        """How many steps the progress bar counts: `steps` of the base, and the upsampler's, with `sampling`."""
        each = len(respaced_timesteps(spacing=sampling["upsampler_steps"]))
        return steps + steps_taken(each, sampling["upsampler_strength"]) * len(self._sides(size))

    def check_size(self, size: int | None) -> int:
        """The side of pictures that a call asks for. Raises ValueError if the model cannot draw so many pixels."""
        if self.upsampler is None and size is not None and size > self.image_size:
            raise ValueError(
                f"{self.model_name} has no upsampler and draws {self.image_size} px, not {size}; leave the size out"
            )
        return size or self.image_size

    def rows_at_once(self, size: int) -> int:
        """How many pictures of a size are drawn in a batch. Raises MemoryError if there is not enough for one."""
        rows = max(1, min(BATCH, PIXELS // max(size, *self._sides(size), 1) ** 2))
        return rows_that_fit(rows, size, self._bytes_each, free_memory(self.device))

    def _bytes_each(self, size: int) -> int:
        """About how much memory a picture of a size takes while it is drawn, beside the networks' weights."""
        # A guided picture of the base is two rows.
        networks = [(self.unet, 2), *((self.upsampler, 1) for _ in self._sides(size)[:1])]
        layers = (
            rows
            * network.config["model_channels"]
            * (network.config["image_size"] // network.config["patch_size"]) ** 2
            for network, rows in networks
        )
        return PIXEL_COPIES * 3 * size**2 * 4 + LAYER_COPIES * max(layers) * self.unet.dtype.itemsize

    @property
    def _times(self) -> int:
        """How many times as large the upsampler's pictures are as the base's."""
        return self.upsampler.config["image_size"] // self.unet.config["image_size"]

    def _sides(self, size: int) -> list[int]:
        """The sides in pixels that the upsampler's passes reach."""
        if self.upsampler is None or size <= self.unet.config["image_size"]:
            return []
        sides = [self.upsampler.config["image_size"]]
        while sides[-1] < size:
            sides.append(min(sides[-1] * self._times, size))
        return sides

    def _pixels(self, known: Known | None, side: int, n: int) -> tuple[Tensor, Tensor] | None:
        """Known pixels of n samples, and their mask."""
        if known is None:
            return None
        picture, mask = (part.to(self.device).expand(n, -1, -1, -1) for part in known(side))
        return picture, mask

    def _enlarge(
        self,
        request: Request,
        low_res: Tensor,
        side: int,
        text: Conditioning | None,
        pixels: tuple[Tensor, Tensor] | None,
        on_step: OnStageStep,
    ) -> Tensor:
        """One pass of the upsampler: low_res [N, 3, h, h] -> [N, 3, side, side]."""
        sampling, tile = request.sampling, self.upsampler.config["image_size"]
        schedule, steps = self.config["upsampler_schedule"], sampling["upsampler_steps"]
        scheduler = make_scheduler(sampling["upsampler_sampler"], schedule, steps)
        draw = normal_draws(request.generators, (3, side, side), self.device)
        # Enlarged as the network itself would, but before it is cut into tiles.
        seen = {
            "low_res": F.interpolate(low_res, (side, side), mode="bilinear"),
            **_seen(self.upsampler, pixels),
        }

        def at(top: int, left: int) -> Denoiser:
            place = (..., slice(top, top + tile), slice(left, left + tile))
            part = {name: value[place] for name, value in seen.items()}
            return from_epsilon(partial(self.upsampler, text=text, **part), scheduler.alphas_cumprod)

        denoise = tiled(at, tile)
        denoise = keep_known(denoise, *pixels) if pixels else denoise
        x, start = begun(scheduler, NOISE * draw(), seen["low_res"], sampling["upsampler_strength"])
        on_step = partial(on_step, stage="upsampler")
        return sample(clipped(denoise), scheduler, x, draw, start, on_step)

    def _guided(self, request: Request, alphas_cumprod: Tensor, seen: dict[str, Tensor]) -> Denoiser:
        """The base network with classifier-free guidance."""
        n = len(request)
        scale = scale_between(request.guidance_scale, request.sampling["guidance_interval"], alphas_cumprod)
        both = self._encode(self.unet, [*request.prompts, *[""] * n])
        worded, wordless = (both.rows(rows) for rows in torch.arange(2 * n, device=self.device).chunk(2))
        twice = {name: torch.cat([value, value]) for name, value in seen.items()}
        return guided(
            from_epsilon(partial(self.unet, text=both, **twice), alphas_cumprod),
            scale,
            conditional=from_epsilon(partial(self.unet, text=worded, **seen), alphas_cumprod),
            unconditional=from_epsilon(partial(self.unet, text=wordless, **seen), alphas_cumprod),
        )

    def _encode(self, network: GlideUNet, prompts: Sequence[str]) -> Conditioning:
        return TextReader(self.tokenizer, self.text_encoder).encode(network, prompts)


def in_8_bits(x: Tensor) -> Tensor:
    """Pictures in [-1, 1] rounded to what a file of 8 bits holds, which is what the upsampler was trained on."""
    return ((x + 1) * 127.5).round() / 127.5 - 1


def _resized(x: Tensor, side: int) -> Tensor:
    if x.shape[2:] == (side, side):
        return x
    return F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)


def _seen(network: GlideUNet, pixels: tuple[Tensor, Tensor] | None) -> dict[str, Tensor]:
    """What an inpainting network is told of known pixels; other networks only have them put back at each step."""
    if pixels is None or not network.config["inpaint"]:
        return {}
    return {"inpaint_image": pixels[0], "inpaint_mask": pixels[1]}


def _check_parts(unet, upsampler, noised_clip, clip_tokenizer) -> None:
    if unet.config["super_res"]:
        raise ValueError(
            "the network given as unet is an upsampler; give a base network, and this one as upsampler"
        )
    check_upsampler(upsampler)
    if upsampler is not None and upsampler.config["image_size"] % unet.config["image_size"]:
        large, small = upsampler.config["image_size"], unet.config["image_size"]
        raise ValueError(f"the upsampler's {large} px are no multiple of the {small} px that the base draws")
    if noised_clip is not None and clip_tokenizer is None:
        raise ValueError(
            "a noised_clip needs a clip_tokenizer, such as ClipTokenizer.openai() for the published one"
        )


def check_upsampler(network: Any) -> None:
    """Raises ValueError for a base network of GLIDE's."""
    if isinstance(network, GlideUNet) and not network.config["super_res"]:
        raise ValueError(
            "the network given as upsampler is a base network, which takes no low_res; give an upsampler"
        )


def _check_settings(guidance_interval: Any, dynamic_threshold: Any, upsampler_strength: float) -> None:
    check_levels(guidance_interval, "guidance_interval")
    if dynamic_threshold is not None and not 0 < dynamic_threshold <= 1:
        raise ValueError(
            f"dynamic_threshold must be a quantile above 0 to 1, such as 0.995, not {dynamic_threshold!r}"
        )
    check_upsampler_strength(upsampler_strength)


def check_upsampler_strength(upsampler_strength: float) -> None:
    """Raises ValueError unless it is a share of steps."""
    if not 0 < upsampler_strength <= 1:
        raise ValueError(f"upsampler_strength must be above 0 and at most 1, not {upsampler_strength!r}")
