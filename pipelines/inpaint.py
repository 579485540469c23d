"""Inpainting with GLIDE: a hole in a photo, or what lies past its edges, painted anew as a prompt says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..diffusion.denoiser import clipped, from_epsilon, guided, keep_known
from ..diffusion.sampling import OnStep, normal_draws, sample
from ..diffusion.schedules import make_scheduler
from .base import Callback, PictureOutput, Request, as_pictures, check_picture_type
from .glide import GlidePipeline
from .photo_regions import Square, cut_square, mask_photo, paste


class GlideInpaintPipeline(GlidePipeline):
    """Inpainting with GLIDE networks that see the known part of a picture; parts and settings are GlidePipeline's.

    Source: GLIDE (Nichol et al. 2021), section 2.3, and openai/glide-text2im, notebooks/inpaint.ipynb.
    """

    task = "inpainting"

    @torch.no_grad()
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | Sequence[str],
        image: Image.Image,
        mask: Image.Image | None = None,
        *,
        box: Sequence[int] | None = None,
        expand: int | Sequence[int] = 0,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
    ) -> PictureOutput:
        """The photo with its hole painted as a prompt, or each of several, says, as `.images`; `.settings`: what made each.

        image: a photo of at least 64 px a side, any mode. mask: a picture of the same proportions, as in diffusers:
        white where to paint, black where the photo stays, grey where both are mixed; values within 8 of black or white
        count as these. box: (x, y, width, height) in the photo's pixels in place of a mask. Without both the photo's
        transparent pixels are painted. expand: pixels to add and paint on the left, top, right and bottom, or one
        number for all four.

        A square around the hole is painted with the networks' number of pixels and put into the photo with a soft seam
        inside the hole: the pictures are RGB, have the photo's size, expanded, and its own pixels, bit for bit, where
        the mask is black. The other arguments are GlidePipeline's; "latents" is the noisy square.
        Raises ValueError or TypeError before any sampling, also for a model that was not trained to inpaint.
        """
        check_picture_type(output_type)
        self._check_networks()
        photo = mask_photo(image, mask, box, expand)
        count, steps = num_images_per_prompt, num_inference_steps
        request = self.request(prompt, count, steps, guidance_scale, seed, generator)
        square = cut_square(photo, self.unet.config["image_size"])
        x = self.in_batches(request, partial(self._draw_square, square), callback_on_step_end)
        pictures = [paste(photo, square, painted) for painted in as_pictures(x, "pil")]
        return PictureOutput(_as_type(pictures, output_type), request.settings)

    def _check_networks(self) -> None:
        if not self.unet.config["inpaint"]:
            raise ValueError(
                f"the model {self.model_name} was not trained to inpaint; take one that was, such as mini"
            )

    def _draw_square(self, square: Square, request: Request, on_step: OnStep) -> Tensor:
        scheduler = make_scheduler(self.config["sampler"], self.config["schedule"], request.steps)
        side, scale = self.unet.config["image_size"], request.guidance_scale
        text = self._encode(request.prompts, with_empty=scale != 1)
        draw = normal_draws(request.generators, (3, side, side), self.device)
        known, mask = (part.to(self.device) for part in known_pixels(square, side))

        def network(x: Tensor, timesteps: Tensor) -> Tensor:
            seen = {"inpaint_image": known.expand_as(x), "inpaint_mask": mask.expand(len(x), -1, -1, -1)}
            return self.unet(x, timesteps, text=text, **seen)

        denoise = guided(from_epsilon(network, scheduler.alphas_cumprod), scale)
        return sample(clipped(keep_known(denoise, known, mask)), scheduler, draw(), draw, on_step=on_step)


def known_pixels(square: Square, side: int) -> tuple[Tensor, Tensor]:
    """What a network of `side` px sees of a square: its known pixels [1, 3, side, side] in [-1, 1], 0 elsewhere, and
    where they are, [1, 1, side, side]: 1 where nothing below a pixel is to be painted, else 0."""
    picture = np.asarray(square.picture.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    x = rearrange(torch.from_numpy(picture / 127.5 - 1), "h w c -> 1 c h w")
    hole = torch.from_numpy(square.weight > 0)[None, None].float()
    mask = (F.adaptive_max_pool2d(hole, side) == 0).float()
    return x * mask, mask


def _as_type(pictures: list[Image.Image], output_type: str):
    if output_type == "pil":
        return pictures
    array = np.stack([np.asarray(picture, np.float32) / 255 for picture in pictures])
    return array if output_type == "np" else torch.from_numpy(rearrange(array, "n h w c -> n c h w"))
