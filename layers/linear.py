"""Linear layers of CLIP's transformers: the product with what surrounds it, in as few passes over memory as possible.

What is notable: on a CPU, a frozen weight is packed once into the layout of this CPU's fastest product (`kernels/`),
and bias, activation and residual sum are computed while the product is still in the cache.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.weak import WeakTensorKeyDictionary

from .int16_product import Int16Linear
from .onednn_product import OneDNNLinear
from .precision import best_dtype

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
    kind = None if _needs_gradients(x, bias, residual) else _kind(x, weight)
    if kind is not None:
        return _packed(kind, x, weight, bias, inside, outside)(x, silu, residual)
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


def _kind(x: Tensor, weight: Tensor) -> type[Int16Linear | OneDNNLinear] | None:
    """The fastest packed layer, if this is inference with a weight that stays: to pack for one use costs more."""
    if x.device.type != "cpu" or _observed() or not isinstance(weight, nn.Parameter):
        return None
    if weight.requires_grad or weight.is_inference():
        return None
    if x.dtype == torch.bfloat16:  # where it is emulated, plain products take no longer
        works = best_dtype(x.device) == x.dtype and OneDNNLinear.works(x.dtype)
        return OneDNNLinear if works else None
    return Int16Linear if x.dtype == torch.float32 and Int16Linear.suits(weight) else None


def _observed() -> bool:
    """Whether a tracer, a dispatch mode or a transform looks on, which packed products would be invisible to."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or _get_current_dispatch_mode() is not None
        or peek_interpreter_stack() is not None
    )


def _packed(
    kind: type[Int16Linear | OneDNNLinear],
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    inside: float,
    outside: float,
) -> Int16Linear | OneDNNLinear:
    """The layer of the weight and the bias with their factors.

    Made anew when one of them has changed in place or was replaced; a change through `.data` goes unnoticed.
    """
    state = kind, weight._version, weight.data_ptr(), bias._version, bias.data_ptr(), inside, outside
    known = _packed_weights.get(weight)
    if known is None or known[0] != state:
        scaled = weight.detach() * (inside * outside), bias.detach() * outside
        layer = (
            OneDNNLinear(*scaled, x.numel() // x.shape[-1]) if kind is OneDNNLinear else Int16Linear(*scaled)
        )
        known = _packed_weights[weight] = state, layer
    return known[1]
