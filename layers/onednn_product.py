"""A linear layer whose weight lies in oneDNN's own layout, for CPUs that multiply bfloat16 natively."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


class OneDNNLinear:
    """x weightᵀ + bias with `weight` [outputs, inputs] packed once; bias, SiLU and residual cost no pass of their own.

    rows: how many rows of x are expected. For inference: there is no gradient. Raises what torch raises where it
    packs no weights of this format; `works` tells beforehand.
    """

    def __init__(self, weight: Tensor, bias: Tensor, rows: int):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)
        self.bias = bias.detach()

    def __call__(self, x: Tensor, silu: bool = False, residual: Tensor | None = None) -> Tensor:
        """[..., inputs] -> [..., outputs], after a SiLU if `silu`, plus `residual` of that shape."""
        product = torch.ops.mkldnn._linear_pointwise
        if residual is not None and not silu:
            return product.binary(x, residual, self.weight, self.bias, "add")
        y = product(x, self.weight, self.bias, "swish" if silu else "none", [], "")
        return y if residual is None else y.add_(residual)

    @staticmethod
    @cache
    def works(dtype: torch.dtype) -> bool:
        """Whether this torch on this CPU packs weights of a format, and computes the same with them."""
        try:
            with torch.no_grad():
                x, weight = (torch.linspace(-1, 1, 48 * rows).view(rows, 48).to(dtype) for rows in (64, 32))
                bias = torch.ones(32, dtype=dtype)
                ours, plain = OneDNNLinear(weight, bias, 64), F.linear(x, weight, bias)
                return all(
                    torch.allclose(a.float(), b.float(), rtol=0.03, atol=0.03)
                    for a, b in (
                        (ours(x, silu=True), F.silu(plain)),
                        (ours(x, residual=plain), plain + plain),
                    )
                )
        except (AttributeError, RuntimeError):  # an older torch, or one without oneDNN
            return False
