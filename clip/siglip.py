"""SigLIP's image tower, and its weights' names here. Its text tower is `layers.Transformer`, as CLIP's is."""

import re
from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn

from ..layers import MLP, Transformer, attend

NORM_EPS = 1e-6
# timm's names for the weights of the image tower, and open_clip's for those of the text tower.
NAMES = {
    r"^text\.text_projection\.weight$": "text_projection",
    r"^text\.text_projection\.bias$": "text_projection_bias",
    r"^text\.": "",
    r"^visual\.trunk\.patch_embed\.proj\.": "visual.conv1.",
    r"^visual\.trunk\.pos_embed$": "visual.positional_embedding",
    r"^visual\.trunk\.norm\.": "visual.ln_post.",
    r"^visual\.trunk\.blocks\.(\d+)\.norm(\d)\.": r"visual.transformer.resblocks.\1.ln_\2.",
    r"^visual\.trunk\.blocks\.(\d+)\.attn\.qkv\.": r"visual.transformer.resblocks.\1.attn.c_qkv.",
    r"^visual\.trunk\.blocks\.(\d+)\.attn\.proj\.": r"visual.transformer.resblocks.\1.attn.c_proj.",
    r"^visual\.trunk\.blocks\.": "visual.transformer.resblocks.",
    r"^visual\.trunk\.": "visual.",
    r"^(visual\..+\.mlp)\.fc1\.": r"\1.c_fc.",
    r"^(visual\..+\.mlp)\.fc2\.": r"\1.c_proj.",
}


class SiglipVision(nn.Module):
    """Pixels -> one vector and a token for each patch, without a class token or a projection.

    Source: SigLIP (Zhai et al. 2023), whose tower is the ViT of "Scaling Vision Transformers" (Zhai et al. 2021).
    """

    def __init__(
        self,
        image_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        inner: int | None,
        activation: str,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size)
        patches = (image_resolution // patch_size) ** 2
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(patches, width))
        self.transformer = Transformer(
            width, layers, heads, mlp_width=inner, activation=activation, per_head=False, eps=NORM_EPS
        )
        self.ln_post = nn.LayerNorm(width, NORM_EPS)
        self.attn_pool = AttentionPool(width, heads, inner, activation)

    def forward(self, pixels: Tensor, with_grid: bool = True) -> tuple[Tensor, Tensor | None]:
        """[N, 3, H, W] -> [N, width] in float32 and, `with_grid`, the patch tokens [N, tokens, width]."""
        x = rearrange(self.conv1(pixels), "n width h w -> n (h w) width") + self.positional_embedding
        x = self.transformer(x)
        return self.attn_pool(self.ln_post(x)).float(), x if with_grid else None


class AttentionPool(nn.Module):
    """What a learned query sees in all tokens, [N, length, width] -> [N, width]."""

    def __init__(self, width: int, heads: int, inner: int | None, activation: str):
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(width**-0.5 * torch.randn(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, NORM_EPS)
        self.mlp = MLP(width, inner, activation)

    def forward(self, x: Tensor) -> Tensor:
        k, v = rearrange(
            self.kv(x), "n length (two heads c) -> two n heads length c", two=2, heads=self.heads
        )
        q = rearrange(self.q(self.latent), "one length (heads c) -> one heads length c", heads=self.heads)
        seen = attend(q.expand(len(x), -1, -1, -1), k, v)
        y = self.proj(rearrange(seen, "n heads one c -> n one (heads c)"))
        return (y + self.mlp(self.norm(y)))[:, 0]


def siglip_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of open_clip's SigLIP and SigLIP2 checkpoints under the names and in the layout of here."""
    named = {}
    for key, value in state_dict.items():
        for theirs, ours in NAMES.items():
            key = re.sub(theirs, ours, key)
        if key == "visual.positional_embedding" and value.dim() == 3:
            value = value[0]
        named[key] = (
            value.T if key == "text_projection" and "text.text_projection.weight" in state_dict else value
        )
    return named
