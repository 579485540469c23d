"""Text to pictures with one GLIDE network: encode the text once, sample with guidance, hand out pictures."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from PIL import Image

from ..diffusion import (
    Conditioning,
    GlideUNet,
    clipped,
    from_epsilon,
    guided,
    make_scheduler,
    normal_draws,
    sample,
)
from ..diffusion.tokenizer import GlideTokenizer
from ..layers.precision import best_device, best_dtype
from ..weights.load_saved import load_saved
from .models import check_folder, part, read_json
from .request import PromptWarning, check_count, check_guidance, check_prompts, check_seed, check_steps

OUTPUT_TYPES = ("pil", "np", "pt")


class GlidePipeline(DiffusionPipeline):
    """Text-to-image with GLIDE's base network. Source: GLIDE (Nichol et al. 2021), section 4.

    unet, tokenizer: the network and what reads its texts. schedule: the noise that the network was trained with.
    sampler, num_inference_steps, guidance_scale: what a call takes when it does not say; a model's folder says them
    in its model_index.json.
    """

    def __init__(
        self,
        unet: GlideUNet,
        tokenizer: GlideTokenizer,
        schedule: str = "squaredcos_cap_v2",
        sampler: str = "sde-dpm++",
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
    ):
        super().__init__()
        self.register_modules(unet=unet, tokenizer=tokenizer)
        self.register_to_config(
            schedule=schedule,
            sampler=sampler,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        dtype: Any = "auto",
        device: Any = "auto",
        **kwargs: Any,
    ) -> GlidePipeline:
        """The pipeline in a folder that `save_pretrained` or a training wrote, in eval mode.

        dtype: a torch dtype; "auto": bfloat16 where native, else float32. device: "auto": the GPU if there is one.
        kwargs: settings to use in place of the folder's, such as sampler="ddim".
        Raises FileNotFoundError or ValueError naming the file that is missing or damaged.
        """
        dtype = kwargs.pop("torch_dtype", dtype)
        if unknown := sorted(set(kwargs) - set(SETTINGS)):
            raise ValueError(f"unknown setting {unknown[0]!r}; known are {', '.join(SETTINGS)}")
        folder = Path(pretrained_model_name_or_path)
        check_folder(folder)
        device = best_device() if device == "auto" else torch.device(device)
        dtype = best_dtype(device) if dtype == "auto" else dtype
        index = folder / "model_index.json"
        config = read_json(index) if index.exists() else {}
        settings = {key: config[key] for key in SETTINGS if key in config}
        tokenizer = GlideTokenizer.from_file(part(folder, "tokenizer") / "tokenizer.json")
        unet = load_saved(GlideUNet, part(folder, "unet"), dtype).to(memory_format=torch.channels_last)
        return cls(unet, tokenizer, **{**settings, **kwargs}).to(device)

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, save_directory: str | os.PathLike, **kwargs: Any
    ) -> None:
        """Write the pipeline as `from_pretrained` reads it, weights in their present format.

        kwargs: what GlideUNet.save_pretrained takes. Files already there are replaced one by one, each whole.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as beside:
            self.save_config(beside)
            self.unet.save_pretrained(os.path.join(beside, "unet"), **kwargs)
            tokenizer = Path(beside, "tokenizer")
            tokenizer.mkdir()
            self.tokenizer.save(tokenizer / "tokenizer.json")
            for name in ("unet", "tokenizer"):
                (folder / name).mkdir(exist_ok=True)
            for path in Path(beside).rglob("*.*"):
                path.replace(folder / path.relative_to(beside))

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
        callback_on_step_end: Callable[[Any, int, int, dict], dict | None] | None = None,
    ) -> ImagePipelineOutput:
        """Pictures of a prompt, or of each of several, prompt after prompt, as `.images`.

        seed: picture i draws from its own generator, seeded with seed + i; or give `generator`, one CPU generator
        for all or a list with one each. None of both: seeded from torch's global generator.
        output_type: "pil"; "np": float32 [N, H, W, 3] in [0, 1]; "pt": float32 [N, 3, H, W] in [0, 1].
        callback_on_step_end: called after each step as (pipeline, step, timestep, {"latents": x}), x [N, 3, H, W] in
        [-1, 1] plus noise; "latents" in the dict that it returns, if any, takes x's place.
        Steps and guidance scale default to the model's own. Raises ValueError or TypeError before any sampling;
        warns with PromptWarning where a prompt is too long and is cut off.
        """
        prompts = check_prompts(prompt)
        rows = len(prompts) * check_count(num_images_per_prompt)
        steps = check_steps(
            self.config["num_inference_steps"] if num_inference_steps is None else num_inference_steps
        )
        scale = check_guidance(self.config["guidance_scale"] if guidance_scale is None else guidance_scale)
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"unknown output_type {output_type!r}; known are {', '.join(OUTPUT_TYPES)}")
        generators = _generators(seed, generator, rows)
        scheduler = make_scheduler(self.config["sampler"], self.config["schedule"], steps)
        self._warn_of_truncation(prompts)

        device = self._execution_device
        text = self._encode(prompts, rows // len(prompts), with_empty=scale != 1, device=device)
        side = self.unet.config["image_size"]
        with self.progress_bar(total=steps) as bar:  # pyright: ignore[reportCallIssue]

            def on_step(step: int, timestep: int, x: torch.Tensor) -> torch.Tensor | None:
                bar.update()
                if callback_on_step_end is None:
                    return None
                return (callback_on_step_end(self, step, timestep, {"latents": x}) or {}).get("latents")

            draw = normal_draws(generators, (3, side, side), device)
            network = from_epsilon(partial(self.unet, text=text), scheduler.alphas_cumprod)
            x = sample(clipped(guided(network, scale)), scheduler, draw(), draw, on_step=on_step)
        return ImagePipelineOutput(images=_pictures(x, output_type))

    def _encode(
        self, prompts: list[str], copies: int, with_empty: bool, device: torch.device
    ) -> Conditioning:
        """Each prompt encoded once and given to `copies` rows; then, for guidance, as many rows of the empty text."""
        context = self.unet.config["text_ctx"]
        tokens, mask = self.tokenizer(prompts, context)
        row = torch.arange(len(prompts)).repeat_interleave(copies)
        if with_empty:
            empty_tokens, empty_mask = self.tokenizer.unconditional(1, context)
            tokens, mask = torch.cat([tokens, empty_tokens]), torch.cat([mask, empty_mask])
            row = torch.cat([row, torch.full_like(row, len(prompts))])
        text, row = self.unet.encode_text(tokens.to(device), mask.to(device)), row.to(device)
        return text.rows(row)

    def _warn_of_truncation(self, prompts: list[str]) -> None:
        context = self.unet.config["text_ctx"]
        for text in prompts:
            word = self.tokenizer.truncated_at(text, context)
            if word is not None:
                warnings.warn(
                    f"the prompt is longer than the {context} tokens that the model reads; "
                    f"it was cut off at the word {_shortened(word)!r}",
                    PromptWarning,
                    stacklevel=4,
                )


SETTINGS = ("schedule", "sampler", "num_inference_steps", "guidance_scale")


def _generators(seed: int | None, generator: Any, rows: int) -> list[torch.Generator]:
    if generator is None:
        first = int(torch.randint(2**31, ())) if seed is None else check_seed(seed, rows)
        return [torch.Generator().manual_seed(first + i) for i in range(rows)]
    if seed is not None:
        raise ValueError("both seed and generator were given; give one of them")
    generators = [generator] * rows if isinstance(generator, torch.Generator) else list(generator)
    if len(generators) != rows:
        raise ValueError(
            f"{rows} pictures were asked for with {len(generators)} generators; give one for each"
        )
    return generators


def _pictures(x: torch.Tensor, output_type: str) -> Any:
    """x [N, 3, H, W] in [-1, 1] as the caller wants it."""
    x = (x.float().cpu() / 2 + 0.5).clamp(0, 1)
    if output_type == "pt":
        return x
    x = x.permute(0, 2, 3, 1)
    if output_type == "np":
        return x.numpy()
    return [Image.fromarray(picture) for picture in (x * 255).round().to(torch.uint8).numpy()]


def _shortened(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:40]}…"
