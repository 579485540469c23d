"""Inpainting with GLIDE: a hole in a photo, or what lies past its edges, painted anew as a prompt says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.image_processor import VaeImageProcessor
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..clip.preprocess import Picture
from .base import Callback, OnStageStep, PictureOutput, Request, as_pictures, check_picture_type
from .glide_stages import GlideStages
from .photo_regions import Square, cut_square, mask_photo, paste
from .presets import with_preset


class GlideInpaintPipeline(GlideStages):
    """Inpainting with GLIDE networks that see what is known of a picture. See GlideStages.

    Source: GLIDE (Nichol et al. 2021), section 2.3, and openai/glide-text2im, notebooks/inpaint.ipynb.
    """

    task = "inpainting"

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Picture,
        mask: Picture | None = None,
        *,
        box: Sequence[int] | None = None,
        expand: int | Sequence[int] = 0,
        preset: str | None = None,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
        callback_on_batch_end: Callable[[PictureOutput], None] | None = None,
    ) -> PictureOutput:
        """A photo with its hole painted as a prompt, or each of several, says: `.images`; what made each: `.settings`.

        image: a photo of at least 64 px a side, of any mode, PIL or a path. mask: the same, of the same proportions:
        white where to paint, black where the photo stays, grey where both are mixed; up to 8 of 255 away from black or
        white count as these. box: (x, y, width, height) in the photo's pixels in place of a mask. Without both, the
        photo's transparent pixels are painted. expand: pixels to add and paint on the left, top, right and bottom, or
        one number for all four.

        The networks paint a square around the hole, in their own number of pixels. It is put into the photo with a soft
        seam within the hole: pictures are RGB, of the photo's size, expanded, and have its own pixels, bit for bit,
        where the mask is black. The other arguments are GlidePipeline's; "latents" and "x0" are the square.
        Raises ValueError or TypeError before any sampling; warns with PromptWarning of a prompt that is cut off.
        """
        check_picture_type(output_type)
        if not self.unet.config["inpaint"]:
            raise ValueError(f"the model {self.model_name} cannot inpaint; take one that can, such as mini")
        photo = mask_photo(image, mask, box, expand)
        request = self.request(
            prompt, num_images_per_prompt, num_inference_steps, guidance_scale, seed, generator,
            own=with_preset(self.config, preset, "glide-inpaint"), asked={"preset": preset},
        )  # fmt: skip
        side = self.image_size
        square = cut_square(photo, side)
        known = KnownPixels(square, self.unet.config["image_size"])

        def draw(some: Request, on_step: OnStageStep) -> Tensor:
            x = self.draw_base(some, on_step, known=known)
            return self.upsample(some, x, side, on_step, known=known)

        pictures = []

        def done(x: Tensor, settings: list[dict[str, str]]) -> None:
            some = [paste(photo, square, painted) for painted in as_pictures(x, "pil")]
            pictures.extend(some)
            if callback_on_batch_end is not None:
                callback_on_batch_end(PictureOutput(_as_type(some, output_type), settings))

        steps = self.steps_in_all(request.steps, request.sampling, side)
        self.in_batches(request, draw, done, callback_on_step_end, steps)
        return PictureOutput(_as_type(pictures, output_type), request.settings)


class KnownPixels:
    """What networks see of a square, by the pixels of its side: see `Known` in glide_stages.

    base: the side of the base network's pictures. There a pixel is known if all is that lies under it; in larger ones
    as in the base's, as in the original's notebook.
    """

    def __init__(self, square: Square, base: int):
        self.picture = square.picture
        hole = torch.from_numpy(np.array(square.weight))[None, None].float()
        self.mask = (F.adaptive_max_pool2d(hole, base) == 0).float()

    def __call__(self, side: int) -> tuple[Tensor, Tensor]:
        """The known pixels [1, 3, side, side] in [-1, 1], 0 elsewhere, and where they are, [1, 1, side, side]."""
        mask = F.interpolate(self.mask, (side, side), mode="nearest")
        picture = np.array(self.picture.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        return rearrange(torch.from_numpy(picture / 127.5 - 1), "h w c -> 1 c h w") * mask, mask


def _as_type(pictures: list[Image.Image], output_type: str) -> Any:
    """As `as_pictures`, of pictures that are there already."""
    if output_type == "pil":
        return pictures
    array = VaeImageProcessor.pil_to_numpy(pictures)
    return array if output_type == "np" else VaeImageProcessor.numpy_to_pt(array)
