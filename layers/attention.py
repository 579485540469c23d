"""Attention as every network here computes it."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of [N, heads, length, channels].

    causal: no position sees a later one; mask: to be broadcast, bool, True where a query (row) sees a key (column), or
    numbers added to their product, in the format of the others, which is the only one that CUDA's kernels take.

    In training on a CPU through plain products, whose backward is several times faster than the fused one's.
    """
    if not (torch.is_grad_enabled() and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        told = mask.dtype == torch.bool
        weights = weights.masked_fill(~mask, float("-inf")) if told else weights + mask
    return torch.softmax(weights, dim=-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention.

    causal: no position sees a later one. per_head: whether `c_qkv` gives query, key and value of the first head, then
    of the next one, as in GLIDE, Karlo and Point-E, or all queries, then all keys, then all values, as in CLIP.
    """

    def __init__(self, width: int, heads: int, causal: bool = False, per_head: bool = True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.order = (
            "n length (heads three c) -> three n heads length c"
            if per_head
            else "n length (three heads c) -> three n heads length c"
        )
        self.c_qkv = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, only: Tensor | None = None) -> Tensor:
        """x [N, length, width] -> the same shape, or [N, 1, width] for the one position `only` [N] of each.

        mask: [N or 1, 1, length or 1, length], True where a position (row) sees another (column), or see `attend`; not
        with `only`.
        """
        return self.c_proj(self.mix(self.c_qkv(x), mask, only))

    def mix(self, qkv: Tensor, mask: Tensor | None = None, only: Tensor | None = None) -> Tensor:
        """What stands between the two products: `c_qkv`'s result [N, length, 3 width] -> [N, length or 1, width]."""
        q, k, v = rearrange(qkv, self.order, three=3, heads=self.heads)
        causal = self.causal
        if only is not None:
            q = q[torch.arange(len(q), device=q.device), :, only][:, :, None]
            if causal:
                causal = False
                mask = (torch.arange(k.shape[2], device=k.device) <= only[:, None])[:, None, None]
        return rearrange(attend(q, k, v, causal, mask), "n heads length c -> n length (heads c)")


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence to another; keys and values lie head by head in `c_kv`'s result."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.c_q = nn.Linear(width, width)
        self.c_kv = nn.Linear(width, 2 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [N, length, width] and context [N, other length, width] -> [N, length, width]."""
        q = rearrange(self.c_q(x), "n length (heads c) -> n heads length c", heads=self.heads)
        k, v = rearrange(
            self.c_kv(context), "n length (heads two c) -> two n heads length c", two=2, heads=self.heads
        )
        return self.c_proj(rearrange(attend(q, k, v), "n heads length c -> n length (heads c)"))
