"""CLIP's two transformers: over an image's patches, and over a text's tokens.

Submodules keep the published checkpoints' names, so loading them is a shape check. What is notable: the sigmoid GELU
costs one pass over memory instead of three, because its 1.702 rides on the matrix products around it (`linear.py`), and
the last block is computed for no more positions than the result needs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.attention import attend
from ..layers.linear import linear

ACTIVATIONS = ("quick_gelu", "gelu")
QUICK = 1.702  # quick GELU: x * sigmoid(1.702 x), which is silu(1.702 x) / 1.702


class Attention(nn.Module):
    """Multi-head self-attention, its parameters named as torch's."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, residual: Tensor, only: Tensor | None = None) -> Tensor:
        """[N, length, width] -> residual + the same, or [N, 1, width] for the one position `only` [N] of each."""
        n, _, width = x.shape
        if only is None:
            q, k, v = self._heads(linear(x, self.in_proj_weight, self.in_proj_bias)).chunk(3, dim=1)
            out = attend(q, k, v, causal=self.causal)
        else:
            # A text's end sees all before it, and what comes after it is excluded by the mask.
            at = x[torch.arange(n, device=x.device), only][:, None]
            q = self._heads(F.linear(at, self.in_proj_weight[:width], self.in_proj_bias[:width]))
            k, v = self._heads(F.linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:])).chunk(
                2, dim=1
            )
            mask = None
            if self.causal:
                mask = (torch.arange(x.shape[1], device=x.device) <= only[:, None])[:, None, None]
            out = attend(q, k, v, mask=mask)
        out = out.transpose(1, 2).flatten(2)
        if type(self.out_proj) is not nn.Linear:  # an adapter may stand in a layer's place
            return residual + self.out_proj(out)
        return linear(out, self.out_proj.weight, self.out_proj.bias, residual=residual)

    def _heads(self, x: Tensor) -> Tensor:
        """[N, length, parts * width] -> [N, parts * heads, length, channels]."""
        n, length, wide = x.shape
        return x.view(n, length, wide * self.heads // self.out_proj.in_features, -1).transpose(1, 2)


class MLP(nn.Module):
    """The feed-forward half of a block."""

    def __init__(self, width: int, inner: int, activation: str):
        super().__init__()
        self.quick = activation == "quick_gelu"
        self.c_fc = nn.Linear(width, inner)
        self.c_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """[N, length, width] -> residual + the same."""
        first, last = self.c_fc, self.c_proj
        if type(first) is not nn.Linear or type(last) is not nn.Linear:  # as above
            h = first(x)
            return residual + last(F.silu(QUICK * h) / QUICK if self.quick else F.gelu(h))
        if self.quick:
            h = linear(x, first.weight, first.bias, outside=QUICK, silu=True)
            return linear(h, last.weight, last.bias, inside=1 / QUICK, residual=residual)
        h = F.gelu(linear(x, first.weight, first.bias))
        return linear(h, last.weight, last.bias, residual=residual)


class ResidualAttentionBlock(nn.Module):
    """A pre-norm transformer block, one of `layers`: what joins the residual stream starts the smaller for it."""

    def __init__(self, width: int, heads: int, inner: int, activation: str, causal: bool, layers: int):
        super().__init__()
        self.attn = Attention(width, heads, causal)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = MLP(width, inner, activation)
        self.ln_2 = nn.LayerNorm(width)
        nn.init.normal_(self.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        for layer in (self.attn.out_proj, self.mlp.c_proj):
            nn.init.normal_(layer.weight, std=(2 * layers * width) ** -0.5)
        for layer in (self.attn.out_proj, self.mlp.c_fc, self.mlp.c_proj):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, only: Tensor | None = None) -> Tensor:
        """[N, length, width] -> the same, or [N, 1, width] for the one position `only` [N] of each."""
        own = x if only is None else x[torch.arange(len(x), device=x.device), only][:, None]
        x = self.attn(self.ln_1(x), own, only)
        return self.mlp(self.ln_2(x), x)


class Transformer(nn.Module):
    """A stack of blocks, [N, length, width] -> the same shape. Source: CLIP (Radford et al. 2021), section 2.4."""

    def __init__(
        self, width: int, layers: int, heads: int, inner: int | None, activation: str, causal: bool = False
    ):
        super().__init__()
        inner = inner or 4 * width
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, inner, activation, causal, layers) for _ in range(layers)
        )

    def forward(self, x: Tensor, only: Tensor | None = None) -> Tensor:
        """With `only` [N], the last block computes nothing but that position of each: [N, 1, width]."""
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x)
        return last(x, only)


class VisionTransformer(nn.Module):
    """Pixels -> one vector and a token for each patch. Source: CLIP, section 2.4, and ViT (Dosovitskiy et al. 2020)."""

    def __init__(
        self,
        image_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        inner: int | None,
        embed_dim: int,
        activation: str,
    ):
        super().__init__()
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        patches = (image_resolution // patch_size) ** 2
        self.positional_embedding = nn.Parameter(scale * torch.randn(1 + patches, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, inner, activation)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))

    def forward(self, pixels: Tensor, with_grid: bool = True) -> tuple[Tensor, Tensor | None]:
        """[N, 3, H, W] -> [N, embed_dim] in float32 and, `with_grid`, the patch tokens [N, tokens, width]."""
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
        only = None if with_grid else torch.zeros(len(x), dtype=torch.long, device=x.device)
        x = self.transformer(x, only)
        return project(x[:, 0], self.ln_post, self.proj), x[:, 1:] if with_grid else None


def project(x: Tensor, norm: nn.LayerNorm, projection: Tensor) -> Tensor:
    """The joint space's vectors [N, embed_dim] of states [N, width], float32 whatever the network computes in."""
    x = F.layer_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)
    return x @ projection.float()
