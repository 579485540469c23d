"""A picture, or any image embedding, drawn anew with unCLIP: variations that keep what CLIP sees in it, or more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..clip.encoder import ClipEncoder
from ..clip.preprocess import Picture, Preprocess, pictures_of
from ..clip.tokenizer import ClipTokenizer
from ..diffusion.glide import GlideUNet
from ..unclip.decoder import UnCLIPDecoder
from ..unclip.large_upsampler import LargeUpsampler
from ..unclip.latents import ddim_inversion
from ..unclip.upsampler import UnCLIPUpsampler
from .base import BATCH, Callback, OnStageStep, PictureOutput, Request, check_picture_type
from .presets import with_preset
from .request import check_strength
from .unclip_stages import FAMILY, UnCLIPStages


class UnCLIPVariationPipeline(UnCLIPStages):
    """Image variations with unCLIP's decoder. See UnCLIPStages, and UnCLIPPipeline for the other settings.

    strength: how much of a picture to draw anew, above 0 to 1: all but what its embedding tells, as Karlo does. Below 1
    the decoder begins with it under noise and takes the last of its steps, which keeps what stands where (SDEdit, Meng
    et al. 2021). Of a picture that is not square the middle is seen, where Karlo squeezes it.
    Source: unCLIP (Ramesh et al. 2022), section 3.1; kakaobrain/karlo.
    """

    task = "image-variation"

    def __init__(
        self,
        decoder: UnCLIPDecoder,
        clip: ClipEncoder,
        tokenizer: ClipTokenizer,
        upsampler: UnCLIPUpsampler | GlideUNet | None = None,
        large_upsampler: LargeUpsampler | None = None,
        decoder_schedule: str = "squaredcos_cap_v2",
        sampler: str = "ddpm",
        num_inference_steps: int = 50,
        guidance_scale: float = 8.0,
        guidance_interval: Sequence[float] | None = None,
        strength: float = 1.0,
        upsampler_schedule: str = "squaredcos_cap_v2",
        upsampler_sampler: str = "ddpm",
        upsampler_steps: int | str = 7,
        upsampler_strength: float = 1.0,
        large_upsampler_schedule: str = "linear",
        large_upsampler_sampler: str = "ddim",
        large_upsampler_steps: int | str = 15,
    ):
        check_strength(strength)
        super().__init__(locals())

    @torch.no_grad()
    def __call__(
        self,
        image: Picture | Sequence[Picture] | Tensor,
        *,
        noise: Tensor | None = None,
        strength: float | None = None,
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
        """Variations of a picture, or of each of several, as `.images`; what made each: `.settings`.

        image: PIL or a path, one or several, or embeddings of the pipeline's `clip`, float [D] or [N, D], unnormalised.
        noise: [N, 3, h, h], what each is drawn from, with DDIM, as from `invert`; None: drawn with the seed.
        strength: of pictures; of embeddings, and with noise given, it is 1. The other arguments are UnCLIPPipeline's.
        Raises ValueError or TypeError before any sampling.
        """
        check_picture_type(output_type)
        own = with_preset(self.config, preset, FAMILY)
        if strength is not None:
            own["strength"] = strength
        if noise is not None:
            own["sampler"] = "ddim"
        check_strength(own["strength"])
        embedding = self.embed(image)
        things, side = len(embedding), self.decoder.config["image_size"]
        given = {"embedding": embedding}
        asked: dict[str, Any] = {"preset": preset}
        if noise is None and not isinstance(image, Tensor):
            asked["strength"] = own["strength"]
            if own["strength"] < 1:
                given["photo"] = self._small(image)
        request = self.request(
            None, num_images_per_prompt, num_inference_steps, guidance_scale, seed, generator,
            own=own, asked=asked, things=things,
        )  # fmt: skip
        if noise is not None:
            if noise.shape != (things, 3, side, side):
                raise ValueError(f"noise has shape {tuple(noise.shape)}; expected {(things, 3, side, side)}")
            given["noise"] = noise
        given = {name: value.repeat_interleave(num_images_per_prompt, dim=0) for name, value in given.items()}
        request = replace(request, given=given)

        def draw(some: Request, on_step: OnStageStep) -> Tensor:
            return self.draw(some, some.given["embedding"], on_step)

        return self.pictures_in_batches(
            request, draw, output_type, callback_on_batch_end,
            callback_on_step_end=callback_on_step_end, total=self.steps_in_all(request),
        )  # fmt: skip

    @torch.no_grad()
    def embed(self, image: Picture | Sequence[Picture] | Tensor) -> Tensor:
        """The image embeddings [N, D] of pictures, float32, unnormalised; embeddings as they are.

        Raises ValueError for no pictures and embeddings of another width or that are not finite, TypeError for what is
        no picture.
        """
        width = self.clip.config["embed_dim"]
        if isinstance(image, Tensor):
            if image.dim() not in (1, 2) or image.shape[-1] != width or not len(image):
                raise ValueError(
                    f"an embedding has shape {tuple(image.shape)}; expected {width} numbers each, from the image "
                    f"encoder of the CLIP that {self.model_name} was trained with, which is the pipeline's `clip`"
                )
            if not image.isfinite().all():
                raise ValueError("an embedding has numbers that are not finite; make it anew")
            return image.reshape(-1, width).float().to(self.device)
        pictures = list(pictures_of(image))
        if not pictures:
            raise ValueError("there is no picture to vary; give one")
        preprocess = Preprocess.from_config(self.clip.config)
        vectors = []
        for first in range(0, len(pictures), BATCH):
            some = [preprocess(picture) for picture in pictures[first : first + BATCH]]
            pixels = torch.stack(some).to(self.device)
            vectors.append(self.clip.encode_image(pixels, with_grid=False).vector)
        return torch.cat(vectors)

    @torch.no_grad()
    def invert(
        self, image: Picture | Sequence[Picture], embedding: Tensor, num_inference_steps: int | None = None
    ) -> Tensor:
        """The noise [N, 3, h, h] from which the decoder draws pictures again that have these embeddings [N, D], nearly.

        image: PIL or paths; their middle squares. num_inference_steps: as many as will lead back; None: the model's.
        Raises ValueError for embeddings as `embed`, and for another number of them than of pictures.
        """
        steps = num_inference_steps or self.config["num_inference_steps"]
        scheduler = self.scheduler({"sampler": "ddim", "num_inference_steps": steps})
        x, embedding = self._small(image), self.embed(embedding)
        if len(x) != len(embedding):
            raise ValueError(f"there are {len(x)} pictures and {len(embedding)} embeddings; give one of each")
        # Without guidance, under which the way back would not be the way here.
        denoise = self.decoding(embedding, [""] * len(x), 1.0, scheduler)
        with self.progress_bar(total=steps) as bar:  # pyright: ignore[reportCallIssue]
            bar.unit = "step"
            bar.set_description("finding the noise")
            return ddim_inversion(denoise, scheduler, x, bar.update)

    def _small(self, image: Picture | Sequence[Picture]) -> Tensor:
        """Pictures' middle squares as the decoder draws them, [N, 3, h, h] in [-1, 1]."""
        preprocess = Preprocess(self.decoder.config["image_size"], mean=(0.5,) * 3, std=(0.5,) * 3)
        return torch.stack([preprocess(picture) for picture in pictures_of(image)]).to(self.device)
