"""Fast paths, swapped in once after loading: on a CPU, frozen weights packed for its fastest products.

What is notable: in a packed block, bias, activation and residual sum are computed while the product is still in the
cache, and quick GELU costs one pass over memory in place of three, because its 1.702 rides on the products around it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .int16_product import Int16Product
from .onednn_product import OneDNNProduct
from .precision import best_dtype
from .transformer import QUICK, Block, at_position


def prepare(module: nn.Module, approximate: bool = False) -> nn.Module:
    """Freeze `module` and swap, in place, its transformer blocks and linear layers for packed ones; returns it.

    For inference with weights that stay. Names, parameters and state dict remain; moved to another device or format,
    or asked for a gradient, the layers compute as plain ones do. Where nothing is gained, on a GPU say, nothing is
    swapped. approximate: float32 products may run through 16-bit integers where this CPU does these faster, within 1e-3
    of the largest number of a result.
    """
    module.requires_grad_(False)
    for name, child in module.named_children():
        if isinstance(child, Block) and _gains(child.mlp.c_fc):
            setattr(module, name, PackedBlock(child, approximate))
        elif type(child) is nn.Linear and _product(child, approximate):
            setattr(module, name, PackedLinear(child, approximate))
        else:
            prepare(child, approximate)
    return module


class PackedLinear(nn.Linear):
    """outside · (inside · x weightᵀ + bias) with `linear`'s weight packed for this CPU, where that pays."""

    def __init__(
        self, linear: nn.Linear, approximate: bool = False, inside: float = 1.0, outside: float = 1.0
    ):
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias, self.inside, self.outside = linear.weight, linear.bias, inside, outside
        self.product = None
        if kind := _product(linear, approximate):
            with torch.no_grad():
                self.product = kind(linear.weight * (inside * outside), linear.bias * outside)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, silu: bool = False, residual: Tensor | None = None, gelu: str = ""
    ) -> Tensor:
        """[..., inputs] -> [..., outputs], after a SiLU if `silu`, plus `residual` of that shape.

        gelu: instead of both, a GELU that is computed as torch's `approximate` of this name says.
        """
        packed = self.product
        if packed and x.dtype == packed.dtype and x.device.type == "cpu" and not x.requires_grad:
            if not gelu:
                return packed(x, silu, residual)
            if isinstance(packed, OneDNNProduct):
                return packed(x, gelu=gelu)
            return F.gelu(packed(x), approximate=gelu)
        if self.inside == self.outside == 1:
            y = F.linear(x, self.weight, self.bias)
        else:
            alpha = self.inside * self.outside
            y = torch.addmm(self.bias, x.flatten(0, -2), self.weight.t(), beta=self.outside, alpha=alpha)
            y = y.view(*x.shape[:-1], -1)
        if gelu:
            return F.gelu(y, approximate=gelu)
        inplace = not y.requires_grad
        y = F.silu(y, inplace=inplace) if silu else y
        return y if residual is None else y.add_(residual) if inplace else y + residual


class PackedBlock(nn.Module):
    """A `Block` with packed products."""

    def __init__(self, block: Block, approximate: bool):
        super().__init__()
        self.attn, self.ln_1, self.mlp, self.ln_2 = block.attn, block.ln_1, block.mlp, block.ln_2
        quick = QUICK if self.mlp.quick else 1.0
        self.attn.c_qkv = PackedLinear(self.attn.c_qkv, approximate)
        self.attn.c_proj = PackedLinear(self.attn.c_proj, approximate)
        self.mlp.c_fc = PackedLinear(self.mlp.c_fc, approximate, outside=quick)
        self.mlp.c_proj = PackedLinear(self.mlp.c_proj, approximate, inside=1 / quick)

    def forward(self, x: Tensor, mask: Tensor | None = None, only: Tensor | None = None) -> Tensor:
        """As `Block.forward`."""
        attn, mlp = self.attn, self.mlp
        x = attn.c_proj(attn.mix(attn.c_qkv(self.ln_1(x)), mask, only), residual=at_position(x, only))
        h = mlp.c_fc(self.ln_2(x), silu=mlp.quick, gelu="" if mlp.quick else mlp.approximate)
        return mlp.c_proj(h, residual=x)


def _gains(linear: nn.Linear) -> bool:
    """Whether a block gains by being packed: by its products or, in float32, by the passes that they save."""
    return linear.weight.device.type == "cpu" and (
        linear.weight.dtype == torch.float32 or _product(linear, False) is not None
    )


def _product(linear: nn.Linear, approximate: bool) -> type[Int16Product] | type[OneDNNProduct] | None:
    """The product that is faster than a plain one for this layer's weight, on this CPU."""
    weight = linear.weight
    if weight.device.type != "cpu" or linear.bias is None:
        return None
    if weight.dtype == torch.bfloat16:  # where it is emulated, plain products take no longer
        return OneDNNProduct if best_dtype(weight.device) == weight.dtype and OneDNNProduct.works() else None
    return (
        Int16Product if approximate and weight.dtype == torch.float32 and Int16Product.suits(weight) else None
    )
