"""Text to pictures with one GLIDE network: encode the text once, sample with guidance, hand out pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..clip.encoder import ClipEncoder
from ..clip.tokenizer import ClipTokenizer
from ..diffusion.denoiser import clipped, from_epsilon, guided
from ..diffusion.glide import GlideUNet
from ..diffusion.sampling import OnStep, normal_draws, sample
from ..diffusion.schedules import make_scheduler
from ..diffusion.text_reader import TextReader
from ..diffusion.tokenizer import GlideTokenizer
from ..diffusion.unet import Conditioning
from .base import Callback, PictureOutput, Pipeline, Request, as_pictures, check_picture_type


class GlidePipeline(Pipeline):
    """Text-to-image with GLIDE's base network. Source: GLIDE (Nichol et al. 2021), section 4.

    unet, tokenizer: the network and what reads its texts. text_encoder: the CLIP whose states of a text the network
    reads, if it has no vocabulary of its own. schedule: the noise that the network was trained with. sampler: which
    steps lead back from it. num_inference_steps, guidance_scale: what a call takes that does not say.
    """

    task = "text-to-image"
    parts = {  # noqa: RUF012
        "tokenizer": (GlideTokenizer, ClipTokenizer),
        "text_encoder": (ClipEncoder,),
        "unet": (GlideUNet,),
    }

    def __init__(
        self,
        unet: GlideUNet,
        tokenizer: GlideTokenizer | ClipTokenizer,
        text_encoder: ClipEncoder | None = None,
        schedule: str = "squaredcos_cap_v2",
        sampler: str = "sde-dpm++",
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
    ):
        own = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
        settings = {"schedule": schedule, "sampler": sampler, **own}
        parts = {"unet": unet, "tokenizer": tokenizer, "text_encoder": text_encoder}
        super().__init__(parts, settings)

    @property
    def context_length(self) -> int:
        return self.unet.config["text_ctx"]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
    ) -> PictureOutput:
        """Pictures of a prompt, or of each of several, prompt after prompt, as `.images`; what made each: `.settings`.

        seed: picture i draws from its own generator, seeded with seed + i; or give `generator`, one CPU generator
        for all or a list with one each. None of both: seeded from torch's global generator.
        output_type: "pil"; "np": float32 [N, H, W, 3] in [0, 1]; "pt": float32 [N, 3, H, W] in [0, 1].
        callback_on_step_end: called after each step of a batch as (pipeline, step, timestep, {"latents": x}), x
        [N ≤ 16, 3, H, W] in [-1, 1] plus noise; "latents" in the dict that it returns, if any, takes x's place.
        Raises ValueError or TypeError before any sampling; warns with PromptWarning of a prompt that is cut off.
        """
        check_picture_type(output_type)
        count, steps = num_images_per_prompt, num_inference_steps
        request = self.request(prompt, count, steps, guidance_scale, seed, generator)
        x = self.in_batches(request, self._draw, callback_on_step_end)
        return PictureOutput(as_pictures(x, output_type), request.settings)

    def _draw(self, request: Request, on_step: OnStep) -> Tensor:
        scheduler = make_scheduler(self.config["sampler"], self.config["schedule"], request.steps)
        side, scale = self.unet.config["image_size"], request.guidance_scale
        text = self._encode(request.prompts, with_empty=scale != 1)
        draw = normal_draws(request.generators, (3, side, side), self.device)
        network = from_epsilon(partial(self.unet, text=text), scheduler.alphas_cumprod)
        return sample(clipped(guided(network, scale)), scheduler, draw(), draw, on_step=on_step)

    def _encode(self, prompts: list[str], with_empty: bool) -> Conditioning:
        """The text of each row, different ones encoded once; then, for guidance, as many rows of the empty text."""
        rows = prompts + [""] * (len(prompts) * with_empty)
        texts = list(dict.fromkeys(rows))
        reader = TextReader(self.tokenizer, self.text_encoder)
        tokens, mask = (part.to(self.device) for part in reader.tokens(texts, self.context_length))
        encoded = self.unet.encode_text(**reader.inputs(tokens, mask))
        return encoded.rows(torch.tensor([texts.index(text) for text in rows], device=self.device))
