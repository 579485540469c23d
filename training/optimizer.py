"""AdamW for all parameters, or Muon for the matrices of layers and AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
MOMENTUM = 0.95  # of Muon


def make_optimizers(
    model: nn.Module, name: str, weight_decay: float, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """The optimizers, "adamw" or "muon", of all parameters that want a gradient; the caller sets their rates.

    Matrices decay, vectors do not, nor do scalars, which are apart because they are never sharded. dtype: see Muon.
    """
    layers = model.modules() if name == "muon" else ()
    weights: set[Tensor] = {layer.weight for layer in layers if isinstance(layer, LAYERS)}
    matrices: list[Tensor] = []
    kinds: list[list[Tensor]] = [[], [], []]
    for parameter in (parameter for parameter in model.parameters() if parameter.requires_grad):
        (matrices if parameter in weights else kinds[min(parameter.ndim, 2)]).append(parameter)
    decays = (0, 0, weight_decay)
    groups = [{"params": some, "weight_decay": decay} for some, decay in zip(kinds, decays, strict=True)]
    optimizers: list[torch.optim.Optimizer] = []
    if any(kinds):
        optimizers.append(torch.optim.AdamW([group for group in groups if group["params"]], fused=True))
    if matrices:
        optimizers.append(Muon(matrices, weight_decay, dtype))
    return optimizers


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolutions, a filter as a row, at AdamW's rates.

    dtype: what the matrices are multiplied in. torch's own does it in bfloat16 alone, which takes 10 to 20 times as
    long as float32 on a CPU that has no such products.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the rates as in Liu et al. 2025, section 2.2.
    """

    def __init__(self, weights: list[Tensor], weight_decay: float, dtype: torch.dtype):
        super().__init__(weights, {"lr": 1e-3, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                momentum = _momentum(self.state[weight], weight)
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                rows = weight.grad.lerp(momentum, MOMENTUM).flatten(1)
                rate = group["lr"] * 0.2 * math.sqrt(max(rows.shape))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(orthogonal(rows.to(self.dtype)).reshape(weight.shape), alpha=rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix [N, M] with singular values near 1 in place of its own, by five steps of a Newton-Schulz iteration."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def state_tensors(optimizers: list[torch.optim.Optimizer], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the optimizers remember of each of the parameters `names`, by name: the very tensors, made if need be."""
    tensors, called = {}, {parameter: name for name, parameter in names.items()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if isinstance(optimizer, Muon):
                    _momentum(state, parameter)
                elif not state:
                    state["step"] = torch.zeros((), device=parameter.device)
                    state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                    state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                tensors |= {f"{kind}/{called[parameter]}": tensor for kind, tensor in state.items()}
    return tensors


def _momentum(state: dict[str, Tensor], weight: Tensor) -> Tensor:
    """Muon's memory of a weight, made if need be."""
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
    return state["momentum_buffer"]
