"""Which way a picture has to change to fit its words better, as two kinds of CLIP see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from ..clip.model import ClipModel
    from ..clip.tokenizer import ClipTokenizer
    from .noised_clip import NoisedClip


@torch.no_grad()
def noised_clip_gradient(
    network: NoisedClip, tokenizer: ClipTokenizer, texts: Sequence[str], scale: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """For `clip_guided`: (x [N, 3, H, W] in [-1, 1] plus noise, timesteps [N]) -> `NoisedClip.guidance_gradient`.

    texts: N, one for each picture; longer ones than the network reads lose their end.
    """
    tokens, lengths = tokenizer.with_lengths(texts, network.config["max_text_len"], truncate=True)
    vectors = network.encode_text(tokens.to(network.device), lengths.to(network.device)).float()
    return partial(network.guidance_gradient, text_embedding=vectors, scale=scale)


def clip_gradient(clip: ClipModel, texts: Sequence[str], scale: float) -> Callable[[Tensor], Tensor]:
    """For `x0_guided`: x0 [N, 3, H, W] in [-1, 1] -> the gradient of `scale` times the fit to the N texts.

    The fit is CLIP's cosine times its learned factor, as in its softmax. Source: Crowson's CLIP-guided diffusion, and
    `x0_guided` for how it differs. Longer texts lose their end.
    """
    vectors = clip.embed_texts(texts, truncate=True)
    config, device = clip.encoder.config, clip.encoder.device
    side = config["image_resolution"]
    mean, std = (
        torch.tensor(config[name], device=device)[:, None, None] for name in ("image_mean", "image_std")
    )

    @torch.enable_grad()
    def gradient(x0: Tensor) -> Tensor:
        pictures = x0.detach().to(device).requires_grad_()
        # As the picture will be seen. No clamp: what is outside would stay there, on its flat ends.
        pixels = F.interpolate(pictures / 2 + 0.5, (side, side), mode="bicubic", antialias=True)
        seen = clip.encoder.encode_image((pixels - mean) / std, with_grid=False).vector
        fit = (F.normalize(seen.float(), dim=-1) * vectors.to(device)).sum()
        (slope,) = torch.autograd.grad(scale * clip.logit_scale * fit, pictures)
        return slope.to(x0)

    return gradient
