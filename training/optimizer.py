"""AdamW for all parameters, or Muon for the matrices of layers and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def make_optimizers(model: nn.Module, name: str, weight_decay: float) -> list[torch.optim.Optimizer]:
    """The optimizers, "adamw" or "muon", of all parameters that want a gradient; the caller sets their rates.

    Matrices decay, vectors do not, nor do scalars, which are apart because they are never sharded.
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
        optimizers.append(Muon(matrices, weight_decay=weight_decay))
    return optimizers


class Muon(torch.optim.Muon):
    """Muon that also takes convolutions, a filter as a row, at AdamW's rates.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the rates as in Liu et al. 2025, section 2.2.
    """

    def __init__(self, weights: list[Tensor], weight_decay: float):
        self.rows = [(weight, _as_rows(weight.detach(), weight)) for weight in weights]
        super().__init__(
            [rows for _, rows in self.rows], weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )

    def step(self, closure: Any = None) -> Any:
        for weight, rows in self.rows:
            rows.grad = None if weight.grad is None else _as_rows(weight.grad, weight)
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for weight, _ in self.rows:
            weight.grad = None


def state_tensors(optimizers: list[torch.optim.Optimizer], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the optimizers remember of each of the parameters `names`, by name: the very tensors, made if need be."""
    tensors, called = {}, {parameter: name for name, parameter in names.items()}
    for optimizer in optimizers:
        rows: dict[Any, Tensor] = (
            {flat: weight for weight, flat in optimizer.rows} if isinstance(optimizer, Muon) else {}
        )
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if not state and rows:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                elif not state:
                    state["step"] = torch.zeros((), device=parameter.device)
                    state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                    state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                name = called[rows[parameter] if rows else parameter]
                tensors |= {f"{kind}/{name}": tensor for kind, tensor in state.items()}
    return tensors


def _as_rows(tensor: Tensor, weight: Tensor) -> Tensor:
    """[out, …] -> [out, all the rest], a view of a tensor that lies in memory as `weight` does."""
    if tensor.ndim == 4 and not weight.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)  # channels last
    return tensor.flatten(1)
