"""unCLIP's networks as denoisers, with their conditions and their guidance."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser, Scale, clipped, from_epsilon, from_x0, guided
from .decoder import UnCLIPDecoder
from .large_upsampler import LargeUpsampler
from .prior import DiffusionPrior
from .text_conditions import TextConditions, joined
from .upsampler import UnCLIPUpsampler

# Of normalised embeddings: nothing in them is so many deviations away from the mean.
LIMIT = 10.0


def prior_denoiser(
    prior: DiffusionPrior, text: TextConditions, wordless: TextConditions, guidance_scale: float
) -> Denoiser:
    """Of normalised image embeddings [N, clip_dim], leaning from an empty text to these.

    wordless: the conditions of as many empty texts. Source: unCLIP (Ramesh et al. 2022), section 2.2; kakaobrain/karlo.
    """
    both, alone, without = (
        from_x0(partial(prior, **some.arguments())) for some in (joined(text, wordless), text, wordless)
    )
    return clipped(guided(both, guidance_scale, alone, without), LIMIT)


def decoder_denoiser(
    decoder: UnCLIPDecoder,
    embedding: Tensor,
    text: TextConditions,
    wordless: TextConditions,
    guidance_scale: Scale,
    alphas_cumprod: np.ndarray | Tensor,
) -> Denoiser:
    """Of pictures [N, 3, H, W] of image embeddings [N, clip_dim] and texts, leaning away from neither of both.

    wordless: the conditions of as many empty texts; beside them stands the decoder's embedding of no picture. x0 is not
    clipped. Source: unCLIP, section 2.1; kakaobrain/karlo.
    """
    n = len(embedding)
    pictures = torch.cat([embedding, decoder.cf_param.to(embedding).expand(n, -1)])
    with torch.no_grad():
        both = decoder.encode_conditions(pictures, *joined(text, wordless))
    rows = torch.arange(2 * n, device=embedding.device).chunk(2)
    whole, alone, without = (
        from_epsilon(partial(decoder, conditioning=some), alphas_cumprod)
        for some in (both, *(both.rows(half) for half in rows))
    )
    return guided(whole, guidance_scale, alone, without)


def upsampler_denoiser(
    upsampler: UnCLIPUpsampler | LargeUpsampler, low_res: Tensor, alphas_cumprod: np.ndarray | Tensor
) -> Denoiser:
    """Of large pictures [N, 3, H, W] of small ones, low_res [N, 3, h, w]. Source: unCLIP, 2.1; kakaobrain/karlo."""
    return clipped(from_epsilon(partial(upsampler, low_res=low_res), alphas_cumprod))
