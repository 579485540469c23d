"""unCLIP's prior: from a caption's CLIP embedding to an image's, as a diffusion over vectors."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..layers import Transformer, timestep_embedding
from ..weights.load_original import check_config_keys, load_original
from ..weights.shapes import Shapes, depth
from .check_shapes import check_shapes

# Tokens after the text's: its vector, the timestep, the noisy embedding, and the one where the answer is read.
AFTER_TEXT = 4


class DiffusionPrior(ModelMixin, ConfigMixin):
    """Predicts a CLIP image embedding from a noisy one and a text. Source: unCLIP (Ramesh et al. 2022), section 2.2.

    text_ctx: tokens of a text. xf_width, xf_layers, xf_heads: of the transformer. clip_dim: channels of CLIP's vectors;
    text_width: of its text states, None: as many. `mean` and `std` [clip_dim] are those of the image embeddings
    it was trained on: it works on normalised ones. The layout, and the defaults, are kakaobrain/karlo's.
    """

    config: Any  # diffusers' frozen dict of the arguments, which can also be read as attributes
    mean: Tensor
    std: Tensor

    @register_to_config
    def __init__(
        self,
        text_ctx: int = 77,
        xf_width: int = 2048,
        xf_layers: int = 20,
        xf_heads: int = 32,
        clip_dim: int = 768,
        text_width: int | None = None,
    ):
        super().__init__()
        self.time_embed = nn.Sequential(
            nn.Linear(xf_width, xf_width), nn.SiLU(), nn.Linear(xf_width, xf_width)
        )
        self.text_enc_proj = nn.Linear(text_width or clip_dim, xf_width)
        self.text_emb_proj = nn.Linear(clip_dim, xf_width)
        self.clip_img_proj = nn.Linear(clip_dim, xf_width)
        self.transformer = Transformer(xf_width, xf_layers, xf_heads)
        self.final_ln = nn.LayerNorm(xf_width)
        self.out_proj = nn.Linear(xf_width, clip_dim)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(1, text_ctx + AFTER_TEXT, xf_width))
        self.prd_emb = nn.Parameter(0.01 * torch.randn(1, 1, xf_width))
        self.register_buffer("mean", torch.zeros(clip_dim))
        self.register_buffer("std", torch.ones(clip_dim))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, text_embeddings: Tensor) -> None:
        """Take mean and deviation of image embeddings [N, clip_dim], by which it works on normalised ones."""
        self.mean.copy_(embeddings.mean(0))
        self.std.copy_(embeddings.std(0, correction=0).clamp_min(1e-6))

    @classmethod
    def from_original(cls, state_dict: Mapping[str, Tensor], config: dict | None = None) -> "DiffusionPrior":
        """The prior of a published checkpoint, float32, in eval mode.

        state_dict: the original's keys, and `clip_mean` and `clip_std` [clip_dim] of its second file if they are to be
        known. config: what shapes cannot tell (xf_heads), in the original's vocabulary. Raises ValueError naming
        unknown config keys, or up to five missing, extra or misshapen weights.
        """
        config = config or {}
        check_config_keys(config, signature(cls).parameters)
        weights = {key.removeprefix("model."): value for key, value in state_dict.items()}
        shape = Shapes(weights, "prior")
        _, length, width = shape["positional_embedding"]
        clip_dim, text_width = shape["clip_img_proj.weight"][1], shape["text_enc_proj.weight"][1]
        layers = depth(shape, "transformer")
        weights["mean"] = weights.pop("clip_mean", torch.zeros(clip_dim))
        weights["std"] = weights.pop("clip_std", torch.ones(clip_dim))
        with torch.device("meta"):
            net = cls(length - AFTER_TEXT, width, layers, config.get("xf_heads", 32), clip_dim, text_width)
        return load_original(net, weights)

    def normalise(self, embedding: Tensor) -> Tensor:
        """CLIP's image embeddings [N, clip_dim] as the prior works on them, of mean 0 and deviation 1."""
        return (embedding - self.mean) / self.std

    def denormalise(self, x0: Tensor) -> Tensor:
        """What the prior predicts [N, clip_dim] as CLIP's image embeddings."""
        return x0 * self.std + self.mean

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        text_embedding: Tensor,
        text_states: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Predicts x0 of a normalised image embedding.

        x: [N, clip_dim], normalised, plus noise; timesteps: integers [N] of the training schedule. text_embedding
        [N, clip_dim] and text_states [N, text_ctx, text_width]: CLIP's; mask: bool [N, text_ctx], True: a token; None:
        all. Returns [N, clip_dim] in x's dtype. Raises ValueError on other shapes.
        """
        n, length, width = len(x), self.config.text_ctx, self.config.clip_dim
        check_shapes(
            x=(x, (n, width)),
            timesteps=(timesteps, (n,)),
            text_embedding=(text_embedding, (n, width)),
            text_states=(text_states, (n, length, self.config.text_width or width)),
            mask=(mask, (n, length)),
        )
        dtype = self.prd_emb.dtype
        time = self.time_embed(timestep_embedding(timesteps, self.config.xf_width).to(dtype))
        vectors = [self.text_emb_proj(text_embedding.to(dtype)), time, self.clip_img_proj(x.to(dtype))]
        states, query = self.text_enc_proj(text_states.to(dtype)), self.prd_emb.expand(n, -1, -1)
        tokens = torch.cat([states, torch.stack(vectors, dim=1), query], dim=1) + self.positional_embedding
        length = tokens.shape[1]
        seen = torch.ones(1, 1, length, length, dtype=torch.bool, device=x.device).tril()
        if mask is not None:
            seen = seen & F.pad(mask, (0, AFTER_TEXT), value=True)[:, None, None]
        return self.out_proj(self.final_ln(self.transformer(tokens, seen)[:, -1])).to(x.dtype)
