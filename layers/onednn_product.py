"""A product with a weight in oneDNN's own layout, for CPUs that multiply bfloat16 natively.

torch has the operators for its compiler's use, without public names; `works` checks what they compute.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 1024  # that oneDNN is told to expect; the layout is the same for few


class OneDNNProduct:
    """x weightᵀ + bias with `weight` [outputs, inputs] bfloat16 packed once, for inference."""

    dtype = torch.bfloat16

    def __init__(self, weight: Tensor, bias: Tensor):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias = bias.detach()

    def __deepcopy__(self, memo: dict) -> "OneDNNProduct":
        return self  # it never changes

    def __call__(
        self, x: Tensor, silu: bool = False, residual: Tensor | None = None, gelu: str = ""
    ) -> Tensor:
        """[..., inputs] -> [..., outputs], after a SiLU if `silu`, plus `residual` of that shape.

        gelu: instead of both, a GELU that is computed as torch's `approximate` of this name says.
        """
        product = torch.ops.mkldnn._linear_pointwise
        if gelu:
            return product(x, self.weight, self.bias, "gelu", [], gelu)
        if residual is not None and not silu:
            return product.binary(x, residual, self.weight, self.bias, "add")
        y = product(x, self.weight, self.bias, "swish" if silu else "none", [], "")
        return y if residual is None else y.add_(residual)

    @staticmethod
    @cache
    @torch.no_grad()
    def works() -> bool:
        """Whether this torch on this CPU packs such weights, and computes the same with them."""
        x, weight = (torch.linspace(-1, 1, 48 * rows).view(rows, 48).bfloat16() for rows in (64, 32))
        bias = torch.ones(32, dtype=torch.bfloat16)
        plain = F.linear(x, weight, bias)
        try:
            packed = OneDNNProduct(weight, bias)
            results = [(packed(x, silu=True), F.silu(plain)), (packed(x, residual=plain), plain + plain)]
            results += [(packed(x, gelu=kind), F.gelu(plain, approximate=kind)) for kind in ("none", "tanh")]
        except (AttributeError, RuntimeError):  # a torch without oneDNN
            return False
        return all(torch.allclose(a.float(), b.float(), rtol=0.03, atol=0.03) for a, b in results)
