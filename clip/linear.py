"""Linear layers of CLIP's transformers: the product with what surrounds it, in as few passes over memory as possible.

What is notable: on a CPU that multiplies bfloat16 natively, a frozen weight is packed once into oneDNN's own layout,
and bias, activation and residual sum are computed while the product is still in the cache.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..weights.precision import best_dtype

_packed_weights: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    inside: float = 1.0,
    outside: float = 1.0,
    silu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """outside · (inside · x weightᵀ + bias), after a SiLU if `silu`, plus `residual`: [..., inputs] -> [..., outputs].

    The factors cost nothing: they ride on the product.
    """
    if _packs(x, weight) and not _needs_gradients(x, bias, residual):
        packed, scaled_bias = _packed(weight, bias, inside, outside, x.numel() // x.shape[-1])
        if residual is not None and not silu:
            return _oneDNN().binary(x, residual, packed, scaled_bias, "add")
        y = _oneDNN()(x, packed, scaled_bias, "swish" if silu else "none", [], "")
        return y if residual is None else y.add_(residual)
    if inside == outside == 1:
        y = F.linear(x, weight, bias)
    elif x.dtype == torch.bfloat16 and x.device.type == "cpu":
        y = F.linear(
            x, weight * (inside * outside), bias * outside
        )  # such a product with a factor is a slow one
    else:
        y = torch.addmm(bias, x.flatten(0, -2), weight.t(), beta=outside, alpha=inside * outside)
        y = y.view(*x.shape[:-1], -1)
    trains = torch.is_grad_enabled()  # then nothing may be changed in place
    if silu:
        y = F.silu(y, inplace=not trains)
    if residual is None:
        return y
    return residual + y if trains else y.add_(residual)


def _needs_gradients(*tensors: Tensor | None) -> bool:
    """Packed products have none; those of a frozen network are asked for by guidance, say."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _packs(x: Tensor, weight: Tensor) -> bool:
    """Whether this is inference with a weight that stays: packing one that is used once would not pay."""
    return (
        x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and isinstance(weight, nn.Parameter)
        and not weight.requires_grad
        and not weight.is_inference()
        and packing_works(x.dtype)
    )


def _packed(weight: Tensor, bias: Tensor, inside: float, outside: float, rows: int) -> tuple[Tensor, Tensor]:
    """The weight and the bias with their factors, the weight in oneDNN's layout.

    Made anew when one of them has changed in place or was replaced; a change through `.data` goes unnoticed.
    """
    state = (weight._version, weight.data_ptr(), bias._version, bias.data_ptr(), inside, outside)
    known = _packed_weights.get(weight)
    if known is None or known[0] != state:
        scaled = (weight.detach() * (inside * outside)).contiguous()
        packed = torch.ops.mkldnn._reorder_linear_weight(scaled, rows)
        known = state, packed, bias.detach() * outside
        _packed_weights[weight] = known
    return known[1], known[2]


def _oneDNN():
    return torch.ops.mkldnn._linear_pointwise


@cache
def packing_works(dtype: torch.dtype) -> bool:
    """Whether this torch on this CPU packs weights of a format, and computes the same with them."""
    if dtype == torch.bfloat16 and best_dtype(torch.device("cpu")) != dtype:
        return False  # emulated, which takes longer than float32
    try:
        with torch.no_grad():
            x, weight = (
                torch.linspace(-1, 1, 64 * 48).view(64, 48),
                torch.linspace(-1, 1, 32 * 48).view(32, 48),
            )
            x, weight, bias = x.to(dtype), weight.to(dtype), torch.ones(32, dtype=dtype)
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, 64)
            plain = F.linear(x, weight, bias)
            ours = (
                _oneDNN()(x, packed, bias, "swish", [], ""),
                _oneDNN().binary(x, plain, packed, bias, "add"),
            )
            return all(
                torch.allclose(a.float(), b.float(), rtol=0.03, atol=0.03)
                for a, b in zip(ours, (F.silu(plain), plain + plain), strict=True)
            )
    except (AttributeError, RuntimeError):  # an older torch, or one without oneDNN
        return False
