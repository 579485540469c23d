"""GLIDE's text transformer: tokens -> one vector for the time embedding and states for the attention blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.attention import attend


class TextAttention(nn.Module):
    """Self-attention over all tokens; queries, keys and values interleaved per head as in the original."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.c_qkv = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.c_qkv(x).view(n, length, self.heads, -1).transpose(1, 2).chunk(3, dim=-1)
        x = attend(q, k, v)
        return self.c_proj(x.transpose(1, 2).reshape(n, length, width))


class TextMLP(nn.Module):
    """The feed-forward half of a block, four times as wide inside."""

    def __init__(self, width: int):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class TextBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn = TextAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = TextMLP(width)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class TextTransformer(nn.Module):
    """A stack of blocks over embedded text, [N, length, width] -> the same shape. Source: GLIDE, section 3.1."""

    def __init__(self, width: int, layers: int, heads: int):
        super().__init__()
        self.resblocks = nn.ModuleList(TextBlock(width, heads) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


def timestep_embedding(timesteps: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal embedding of timesteps [N] -> float32 [N, width], cosines first. Source: DDPM, appendix B."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * max_period**-exponent
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))
