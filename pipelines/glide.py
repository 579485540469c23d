"""Text to pictures with GLIDE, or text and a photo to begin with, of the size of its networks or another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..clip.model import ClipModel
from ..clip.preprocess import Picture, Preprocess
from ..diffusion.clip_gradient import clip_gradient, noised_clip_gradient
from ..diffusion.denoiser import Denoiser, clip_guided, clipped, x0_guided
from ..diffusion.sampling import steps_taken
from ..diffusion.schedules import SOLVERS, RespacedScheduler
from .base import Callback, OnStageStep, PictureOutput, Request, check_picture_type
from .glide_stages import GlideStages, Layer
from .presets import with_preset
from .request import check_drawing

STRENGTH = 0.6


class GlidePipeline(GlideStages):
    """Text-to-image with GLIDE: its base network and, if the model has one, its upsampler. See GlideStages."""

    task = "text-to-image"

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        image: Picture | None = None,
        strength: float | None = None,
        size: int | None = None,
        preset: str | None = None,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        clip_guidance_scale: float | None = None,
        clip: ClipModel | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
        callback_on_batch_end: Callable[[PictureOutput], None] | None = None,
    ) -> PictureOutput:
        """Pictures of a prompt, or of each of several, prompt after prompt, as `.images`; what made each: `.settings`.

        image, strength: a picture to begin with, PIL or a path, of which the middle square is seen, and how much of it
        is drawn anew, up to 1: all.
        size: pixels of a side, a multiple of 4; what is larger than the upsampler's own is drawn in tiles.
        preset: "default", or "original", which samples as the original code does; None: as the model's settings say.
        num_inference_steps, guidance_scale: of the base network. Guidance of 1 is none, of 0 means without the words.
        clip_guidance_scale: how much to lean on the model's noised_clip besides or, if given, on `clip`.
        seed: picture i draws from its own generator, seeded with seed + i; or give `generator`, one torch.Generator
        for all or a list with one each. None of both: seeded from torch's global generator.
        output_type: "pil"; "np": float32 [N, H, W, 3] in [0, 1]; "pt": float32 [N, 3, H, W] in [0, 1].
        callback_on_step_end: called after each step of a batch as (pipeline, step, timestep, {"latents": x, "x0": what
        x will come to, "stage": "base" or "upsampler"}), x and x0 [N ≤ 16, 3, H, W] in [-1, 1], x with noise;
        steps count on over both stages; "latents" in the dict that it returns, if any, takes x's place.
        callback_on_batch_end: called with each batch's pictures when they are done: keep them there, and nothing is
        lost if a later one fails. Batches are the smaller the larger the pictures are, and the less memory is free.
        Raises ValueError, TypeError or, if there is not enough memory for one picture, MemoryError, before any
        sampling; warns with PromptWarning of a prompt that is cut off.
        """
        check_picture_type(output_type)
        check_drawing(size, strength, image is not None, clip_guidance_scale, preset)
        side = self.check_size(size)
        guide = self._clip_guidance(clip_guidance_scale, clip)
        strength = STRENGTH if strength is None and image is not None else strength
        asked = {"preset": preset, "size": size, "strength": strength, "clip_guidance": clip_guidance_scale}
        request = self.request(
            prompt, num_images_per_prompt, num_inference_steps, guidance_scale, seed, generator,
            own=with_preset(self.config, preset), asked=asked,
        )  # fmt: skip
        share = strength or 1.0
        # Scaled as all pictures are inside: from [0, 1] to [-1, 1].
        preprocess = Preprocess(self.unet.config["image_size"], mean=(0.5,) * 3, std=(0.5,) * 3)
        photo = None if image is None else preprocess(image)

        def draw(some: Request, on_step: OnStageStep) -> Tensor:
            x = self.draw_base(some, on_step, photo=photo, strength=share, guide=guide)
            return self.upsample(some, x, side, on_step)

        steps = self.steps_in_all(steps_taken(request.steps, share), request.sampling, side)
        return self.pictures_in_batches(
            request, draw, output_type, callback_on_batch_end,
            callback_on_step_end=callback_on_step_end, total=steps, rows=self.rows_at_once(side),
        )  # fmt: skip

    def _clip_guidance(self, scale: float | None, clip: ClipModel | None) -> Layer | None:
        if scale is None or scale == 0:
            return None
        if clip is not None:
            return lambda denoise, texts, scheduler: clipped(
                x0_guided(denoise, clip_gradient(clip, texts, scale), scheduler.alphas_cumprod)
            )
        if self.noised_clip is None:
            raise ValueError("this model has no noised_clip to guide it; give a ClipModel as clip")

        def guided(denoise: Denoiser, texts: Sequence[str], scheduler: RespacedScheduler) -> Denoiser:
            gradient = noised_clip_gradient(self.noised_clip, self.clip_tokenizer, texts, scale)
            moved = clip_guided(denoise, gradient, scheduler)
            # In a solver's few large steps pictures would leave their range; the original's samplers do not clip again.
            return clipped(moved) if scheduler.sampler in SOLVERS else moved

        return guided
