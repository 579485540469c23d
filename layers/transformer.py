"""The transformer block of all networks, plain PyTorch; `packed.py` swaps its packed form in.

Submodules have the names of the published checkpoints of GLIDE, Karlo and Point-E.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention

QUICK = 1.702  # quick GELU is x * sigmoid(1.702 x)
# More than any has: a damaged config may ask for any number.
MAX_LAYERS = 1000
# And torch's word for how GELU is computed.
ACTIVATIONS = {"gelu": "none", "gelu_tanh": "tanh", "quick_gelu": "none"}


class MLP(nn.Module):
    """The feed-forward half of a block, `inner` (four times as many as outside) channels wide inside."""

    def __init__(self, width: int, inner: int | None = None, activation: str = "gelu"):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
        self.quick, self.approximate = activation == "quick_gelu", ACTIVATIONS[activation]
        self.c_fc = nn.Linear(width, inner or 4 * width)
        self.c_proj = nn.Linear(inner or 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.c_fc(x)
        return self.c_proj(
            F.silu(QUICK * h) / QUICK if self.quick else F.gelu(h, approximate=self.approximate)
        )


class Block(nn.Module):
    """A pre-norm transformer block. Arguments as in `Attention`, `MLP` and `nn.LayerNorm`."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool = False,
        per_head: bool = True,
        mlp_width: int | None = None,
        activation: str = "gelu",
        eps: float = 1e-5,
    ):
        super().__init__()
        self.attn = Attention(width, heads, causal, per_head)
        self.ln_1 = nn.LayerNorm(width, eps)
        self.mlp = MLP(width, mlp_width, activation)
        self.ln_2 = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor, mask: Tensor | None = None, only: Tensor | None = None) -> Tensor:
        """x [N, length, width] -> the same, or [N, 1, width] for the one position `only` [N] of each."""
        x = at_position(x, only) + self.attn(self.ln_1(x), mask, only)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks, [N, length, width] -> the same shape. block: the other arguments of `Block`."""

    def __init__(self, width: int, layers: int, heads: int, **block):
        super().__init__()
        if layers > MAX_LAYERS:
            raise ValueError(f"a transformer has at most {MAX_LAYERS:,} layers, not {layers:,}")
        self.resblocks = nn.ModuleList(Block(width, heads, **block) for _ in range(layers))
        for child in self.resblocks:
            _initialise(child, width, layers)

    def forward(self, x: Tensor, mask: Tensor | None = None, only: Tensor | None = None) -> Tensor:
        """With `only` [N], the last block computes nothing but that position of each: [N, 1, width]."""
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, mask)
        return last(x, mask, only)


def at_position(x: Tensor, only: Tensor | None) -> Tensor:
    """x [N, length, width], or what stands at one position of each, [N, 1, width]."""
    return x if only is None else x[torch.arange(len(x), device=x.device), only][:, None]


def _initialise(block: nn.Module, width: int, layers: int) -> None:
    """The deeper the stack, the smaller the sums that its blocks start with. Source: CLIP's code, as in GPT-2."""
    small = (2 * layers * width) ** -0.5
    stds = {
        "attn.c_qkv": width**-0.5,
        "attn.c_proj": small,
        "mlp.c_fc": (2 * width) ** -0.5,
        "mlp.c_proj": small,
    }
    for name, std in stds.items():
        layer = block.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
