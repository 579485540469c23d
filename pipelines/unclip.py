"""Text to pictures with unCLIP: a prior makes an image embedding of the text, a decoder a picture of that."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ..clip.encoder import ClipEncoder
from ..clip.tokenizer import ClipTokenizer
from ..diffusion.denoiser import Denoiser
from ..diffusion.glide import GlideUNet
from ..diffusion.sampling import normal_draws, sample
from ..diffusion.schedules import make_scheduler
from ..unclip.autoregressive_prior import AutoregressivePrior
from ..unclip.decoder import UnCLIPDecoder
from ..unclip.denoisers import prior_denoiser
from ..unclip.large_upsampler import LargeUpsampler
from ..unclip.prior import DiffusionPrior
from ..unclip.upsampler import UnCLIPUpsampler
from ..weights.table import unclip_task
from .base import Callback, OnStageStep, PictureOutput, Request, check_picture_type
from .convert import ready_model
from .presets import with_preset
from .request import check_guidance
from .unclip_stages import FAMILY, UnCLIPStages, check_width


class UnCLIPPipeline(UnCLIPStages):
    """Text-to-image with unCLIP. Source: unCLIP (Ramesh et al. 2022), section 2; kakaobrain/karlo.

    prior: from texts to image embeddings, by diffusion or one component after the other. Other parts: see UnCLIPStages.
    decoder_schedule, prior_schedule, upsampler_schedule: the noise that each network was trained with.
    The other settings are what a call takes that does not say, of each stage: its sampler, its steps, its guidance.
    The autoregressive prior has neither schedule nor steps.
    prior_candidates: how many embeddings are made of a text, of which the one nearest to it is drawn: 1 as by Karlo, 2
    in the paper.
    Raises ValueError for networks that do not go together, or settings that cannot be.
    """

    task = "text-to-image"
    parts = {**UnCLIPStages.parts, "prior": (DiffusionPrior, AutoregressivePrior)}  # noqa: RUF012

    def __init__(
        self,
        prior: DiffusionPrior | AutoregressivePrior,
        decoder: UnCLIPDecoder,
        clip: ClipEncoder,
        tokenizer: ClipTokenizer,
        upsampler: UnCLIPUpsampler | GlideUNet | None = None,
        large_upsampler: LargeUpsampler | None = None,
        prior_schedule: str = "squaredcos_cap_v2",
        prior_sampler: str = "ddpm",
        prior_steps: int = 25,
        prior_guidance_scale: float = 4.0,
        prior_candidates: int = 1,
        decoder_schedule: str = "squaredcos_cap_v2",
        sampler: str = "ddpm",
        num_inference_steps: int = 50,
        guidance_scale: float = 8.0,
        guidance_interval: Sequence[float] | None = None,
        upsampler_schedule: str = "squaredcos_cap_v2",
        upsampler_sampler: str = "ddpm",
        upsampler_steps: int | str = 7,
        upsampler_strength: float = 1.0,
        large_upsampler_schedule: str = "linear",
        large_upsampler_sampler: str = "ddim",
        large_upsampler_steps: int | str = 15,
    ):
        arguments = locals()
        check_width("prior", prior, clip)
        make_scheduler(prior_sampler, prior_schedule, prior_steps)
        if prior_candidates < 1:
            raise ValueError(f"prior_candidates must be at least 1, not {prior_candidates}")
        super().__init__(arguments)

    @classmethod
    def find(cls, model: str | os.PathLike) -> Path:
        """As other pipelines; of a model that has a GLIDE as well, such as mini, its unCLIP."""
        return ready_model(model, unclip_task(model))

    @property
    def context_length(self) -> int:
        return min(self.prior.config["text_ctx"], super().context_length)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        preset: str | None = None,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        prior_guidance_scale: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
        callback_on_batch_end: Callable[[PictureOutput], None] | None = None,
    ) -> PictureOutput:
        """Pictures of a prompt, or of each of several, prompt after prompt, as `.images`; what made each: `.settings`.

        preset: None or "default": as the model's settings say, which are kakaobrain/karlo's unless it has its own;
        "fast": in 25 steps, as Karlo's fast way.
        num_inference_steps, guidance_scale: of the decoder. The other arguments are GlidePipeline's; "stage" is
        "prior", where "latents" and "x0" are normalised embeddings, "decoder" or "upsampler".
        Raises ValueError or TypeError before any sampling; warns with PromptWarning of a prompt that is cut off.
        """
        check_picture_type(output_type)
        own = with_preset(self.config, preset, FAMILY)
        if prior_guidance_scale is not None:
            check_guidance(prior_guidance_scale, "the prior's guidance scale", "4.0")
            own["prior_guidance_scale"] = prior_guidance_scale
        request = self.request(
            prompt, num_images_per_prompt, num_inference_steps, guidance_scale, seed, generator,
            own=own, asked={"via": "unclip", "preset": preset, "prior_guidance": prior_guidance_scale},
        )  # fmt: skip

        def draw(some: Request, on_step: OnStageStep) -> Tensor:
            return self.draw(some, self.draw_embedding(some, on_step), on_step)

        return self.pictures_in_batches(
            request, draw, output_type, callback_on_batch_end,
            callback_on_step_end=callback_on_step_end, total=self._prior_steps + self.steps_in_all(request),
        )  # fmt: skip

    @torch.no_grad()
    def embed(
        self,
        prompt: str | Sequence[str],
        num_images_per_prompt: int = 1,
        *,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """The image embeddings [N, D] that the prior makes of a prompt, or of each of several; float32, unnormalised.

        They lie on the pipeline's device. UnCLIPVariationPipeline draws them, and normalised they find pictures among
        those of the same CLIP.
        Raises and warns as a call.
        """
        request = self.request(prompt, num_images_per_prompt, None, None, seed, generator)
        made: list[Tensor] = []
        self.in_batches(
            request, self.draw_embedding, lambda x, _: made.append(x.float()), total=self._prior_steps
        )
        return torch.cat(made)

    @property
    def _prior_steps(self) -> int:
        return self.config["prior_steps"] if isinstance(self.prior, DiffusionPrior) else 0

    def draw_embedding(self, request: Request, on_step: OnStageStep) -> Tensor:
        """An image embedding [N, D] for each prompt: of several that the prior makes, the one nearest to the text."""
        candidates, scale = request.sampling["prior_candidates"], request.sampling["prior_guidance_scale"]
        each = torch.arange(len(request), device=self.device).repeat_interleave(candidates)
        text, wordless = (
            self.read(texts, self.prior.config["text_ctx"]).rows(each)
            for texts in (request.prompts, [""] * len(request))
        )
        if isinstance(self.prior, AutoregressivePrior):
            sources = [source for source in request.generators for _ in range(candidates)]
            beside = wordless.arguments()
            made = self.prior.sample(*text, generators=sources, guidance_scale=scale, wordless=beside)
        else:
            made = self._diffused(request, prior_denoiser(self.prior, text, wordless, scale), on_step)
        made, words = (
            rearrange(part, "(n candidates) d -> n candidates d", candidates=candidates)
            for part in (made, text.vector.to(made))
        )
        best = (made * words).sum(dim=-1).argmax(dim=1)
        return made[torch.arange(len(made), device=made.device), best]

    def _diffused(self, request: Request, denoise: Denoiser, on_step: OnStageStep) -> Tensor:
        """The candidates of each sample, one sample after the other, [N * candidates, D]."""
        sampling = request.sampling
        scheduler = make_scheduler(
            sampling["prior_sampler"], self.config["prior_schedule"], sampling["prior_steps"]
        )
        shape = sampling["prior_candidates"], self.prior.config["clip_dim"]
        of_samples = normal_draws(request.generators, shape, self.device)

        def draw() -> Tensor:
            return rearrange(of_samples(), "n candidates d -> (n candidates) d")

        x0 = sample(denoise, scheduler, draw(), draw, on_step=partial(on_step, stage="prior"))
        return self.prior.denormalise(x0)
