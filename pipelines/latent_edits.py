"""Pictures changed by arithmetic with what they come to in unCLIP: blends, edits by two texts, reconstructions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..clip.preprocess import Picture
from ..unclip.latents import in_dimensions, principal_axes, slerp, towards
from .base import PictureOutput
from .request import PromptWarning, check_frames, check_numbers, check_share, check_texts
from .variation import UnCLIPVariationPipeline

STRENGTH = 0.4


def blend(
    pipe: UnCLIPVariationPipeline,
    first: Picture,
    last: Picture,
    frames: int = 8,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
) -> PictureOutput:
    """Pictures from one to another, both included, on the arcs between their embeddings and between their noise.

    seed: of the upsampler's noise, the same in all of them. Raises ValueError for fewer than 2 frames.
    Source: unCLIP (Ramesh et al. 2022), section 3.2.
    """
    check_frames(frames)
    check_numbers(frames, 1, num_inference_steps, guidance_scale, seed)
    ends = pipe.embed([first, last])
    noise = pipe.invert([first, last], ends, num_inference_steps)
    shares = torch.linspace(0, 1, frames)
    settings = [{"blend": f"{share:.3f}"} for share in shares.tolist()]
    embeddings, noise = (slerp(pair[0], pair[1], shares) for pair in (ends, noise))
    return _drawn(pipe, embeddings, noise, settings, seed, num_inference_steps, guidance_scale)


def edit(
    pipe: UnCLIPVariationPipeline,
    image: Picture,
    before: str,
    after: str,
    strength: float = STRENGTH,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
) -> PictureOutput:
    """A picture drawn again with the difference of two texts, such as "a red car" and "a blue car", in its embedding.

    strength: how far its embedding turns to that difference, from 0, the picture drawn again, to 1; 0.25 to 0.5 is
    usual. Raises ValueError for a strength outside and texts that are empty or read the same; warns with PromptWarning
    of one that is cut off.
    Source: unCLIP, section 3.3, with the noise that DDIM inversion finds.
    """
    check_share(strength, "the strength")
    check_texts(before, after)
    check_numbers(1, 1, num_inference_steps, guidance_scale, seed)
    for sentence in pipe.truncations([before, after]):
        warnings.warn(sentence, PromptWarning, stacklevel=2)
    embedding, words = _embedding_of_one(pipe, image), pipe.read([before, after]).vector.float()
    turned = towards(embedding[0], words[0], words[1], strength)[None]
    noise = pipe.invert(image, embedding, num_inference_steps)
    settings = [{"before": before, "after": after, "strength": str(strength)}]
    return _drawn(pipe, turned, noise, settings, seed, num_inference_steps, guidance_scale)


def reconstructions(
    pipe: UnCLIPVariationPipeline,
    image: Picture,
    embeddings: Tensor,
    dimensions: Sequence[int],
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
) -> PictureOutput:
    """A picture drawn of its embedding in so many, and so many more, of its principal axes: what each of them tells.

    embeddings: [N, D] of pictures, of which the axes are. Raises ValueError for dimensions that they do not have.
    Source: unCLIP, section 4 and figure 7.
    """
    mean, axes = principal_axes(pipe.embed(embeddings))
    if not dimensions or not all(isinstance(count, int) and 0 <= count <= len(axes) for count in dimensions):
        raise ValueError(
            f"dimensions must be whole numbers from 0 to {len(axes)}, as the embeddings have, not {list(dimensions)}"
        )
    embedding = _embedding_of_one(pipe, image)
    reduced = torch.stack([in_dimensions(embedding[0], mean, axes, count) for count in dimensions])
    noise = pipe.invert(image, embedding, num_inference_steps)
    settings = [{"dimensions": str(count)} for count in dimensions]
    noise = noise.expand(len(reduced), -1, -1, -1)
    return _drawn(pipe, reduced, noise, settings, seed, num_inference_steps, guidance_scale)


def _embedding_of_one(pipe: UnCLIPVariationPipeline, image: Any) -> Tensor:
    """[1, D]. Raises ValueError for more than one picture."""
    embedding = pipe.embed(image)
    if len(embedding) != 1:
        raise ValueError(f"expected one picture, got {len(embedding)}")
    return embedding


def _drawn(
    pipe: UnCLIPVariationPipeline,
    embeddings: Tensor,
    noise: Tensor,
    settings: list[dict[str, str]],
    seed: int,
    steps: int | None,
    guidance_scale: float | None,
) -> PictureOutput:
    """The pictures, all with further noise of one seed, and in their settings what is said of each."""
    made = pipe(
        embeddings,
        noise=noise,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for _ in embeddings],
    )
    said: list[dict[str, Any]] = [
        {**each, "seed": str(seed), **more} for each, more in zip(made.settings, settings, strict=True)
    ]
    return replace(made, settings=said)
