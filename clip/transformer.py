"""CLIP's image transformer; its text transformer is `layers.Transformer` itself."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..layers import Transformer


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
        self.transformer = Transformer(
            width, layers, heads, mlp_width=inner, activation=activation, per_head=False
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))

    def forward(self, pixels: Tensor, with_grid: bool = True) -> tuple[Tensor, Tensor | None]:
        """[N, 3, H, W] -> [N, embed_dim] in float32 and, `with_grid`, the patch tokens [N, tokens, width]."""
        x = rearrange(self.conv1(pixels), "n width h w -> n (h w) width")
        first = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
        only = None if with_grid else torch.zeros(len(x), dtype=torch.long, device=x.device)
        x = self.transformer(x, only=only)
        return project(x[:, 0], self.ln_post, self.proj), x[:, 1:] if with_grid else None


def project(x: Tensor, norm: nn.LayerNorm, projection: Tensor) -> Tensor:
    """The joint space's vectors [N, embed_dim] of states [N, width], float32 whatever the network computes in."""
    x = F.layer_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)
    return x @ projection.float()
