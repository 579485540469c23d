"""Text to pictures with GLIDE: words, or words and a photo to begin with, to pictures of the base's or any larger size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image
from torch import Tensor

from ..clip.model import ClipModel
from ..clip.preprocess import Preprocess
from ..diffusion.clip_gradient import clip_gradient, noised_clip_gradient
from ..diffusion.denoiser import clip_guided, x0_guided
from .base import Callback, OnStageStep, PictureOutput, Request, as_pictures, as_pixels, check_picture_type
from .glide_stages import GlideStages, Layer, steps_taken
from .presets import with_preset
from .request import check_drawing


class GlidePipeline(GlideStages):
    """Text-to-image with GLIDE: its base network and, if the model has one, its upsampler. See GlideStages."""

    task = "text-to-image"

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        image: Image | None = None,
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
    ) -> PictureOutput:
        """Pictures of a prompt, or of each of several, prompt after prompt, as `.images`; what made each: `.settings`.

        image, strength: a picture to begin with, its middle square, and how much is drawn anew, above 0 to 1 (0.6).
        size: pixels of a side, a multiple of 4; above the upsampler's own size drawn in tiles.
        preset: "original", to sample as the original code does; None: as the model's settings say.
        num_inference_steps, guidance_scale: of the base network; guidance of 1 means none, and of 0 no words at all.
        clip_guidance_scale: leans on the model's noised_clip as well or, if `clip` is given, on that CLIP.
        seed: picture i draws from its own generator, seeded with seed + i; or give `generator`, one CPU generator
        for all or a list with one each. None of both: seeded from torch's global generator.
        output_type: "pil"; "np": float32 [N, H, W, 3] in [0, 1]; "pt": float32 [N, 3, H, W] in [0, 1].
        callback_on_step_end: called after each step of a batch as (pipeline, step, timestep, {"latents": x, "x0": preview,
        "stage": "base" or "upsampler"}), x [N ≤ `batch_size`, 3, H, W] in [-1, 1] plus noise and x0 without it; steps are
        counted on over both stages; "latents" in the dict that it returns, if any, takes x's place.
        Raises ValueError or TypeError before any sampling; warns with PromptWarning of a prompt that is cut off.
        """
        check_picture_type(output_type)
        check_drawing(size, strength, image is not None, clip_guidance_scale)
        side = self.check_size(size)
        guide = self._clip_guidance(clip_guidance_scale, clip)
        asked = {"preset": preset, "size": size, "strength": strength, "clip_guidance": clip_guidance_scale}
        request = self.request(
            prompt, num_images_per_prompt, num_inference_steps, guidance_scale, seed, generator,
            own=with_preset(self.config, preset), asked=asked,
        )  # fmt: skip
        photo, strength = None, (0.6 if strength is None else strength) if image is not None else 1.0
        if image is not None:
            photo = as_pixels(Preprocess(self.unet.config["image_size"]).fit(image))

        def draw(some: Request, on_step: OnStageStep) -> Tensor:
            x = self.draw_base(some, on_step, photo=photo, strength=strength, guide=guide)
            return self.upsample(some, x, side, on_step)

        steps = self.steps_in_all(steps_taken(request.steps, strength), request.how["upsampler_steps"], side)
        x = self.in_batches(request, draw, callback_on_step_end, steps)
        return PictureOutput(as_pictures(x, output_type), request.settings)

    def _clip_guidance(self, scale: float | None, clip: ClipModel | None) -> Layer | None:
        if scale is None or scale == 0:
            return None
        if clip is not None:
            return lambda denoise, texts, alphas_cumprod: x0_guided(
                denoise, clip_gradient(clip, texts, scale), alphas_cumprod
            )
        if self.noised_clip is None:
            raise ValueError("this model has no noised_clip to guide it; give a ClipModel as clip")
        return lambda denoise, texts, alphas_cumprod: clip_guided(
            denoise,
            noised_clip_gradient(self.noised_clip, self.clip_tokenizer, texts, scale),
            alphas_cumprod,
        )
