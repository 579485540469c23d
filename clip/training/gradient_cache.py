"""Gradient caching: a large batch trains in the memory of a small one, with the same gradient.

A contrastive loss needs the vectors of the whole batch at once, but the networks that make them need not see it at
once: each chunk keeps only its vectors, and is computed again when its gradient has come back from the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def in_chunks(module: nn.Module, function: Callable[[Any, Tensor], Tensor], x: Tensor, chunk: int) -> Tensor:
    """function(module, x), computed for `chunk` rows of x at a time (0: all at once).

    No row's result may depend on other rows, which rules out batch norm in training. Backward holds the activations of
    one chunk at a time and computes the forward pass of each a second time, with the weights that `module` has now,
    even if they are cast copies that exist during this call only (`training/precision.py`).
    Source: Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup".
    """
    if not chunk or len(x) <= chunk:
        return function(module, x)
    if not torch.is_grad_enabled():
        return torch.cat([function(module, part) for part in x.split(chunk)])
    call = _Call(module, function)
    weights = {**dict(call.named_parameters()), **dict(call.named_buffers())}

    def encode(part: Tensor) -> Tensor:
        return torch.func.functional_call(call, weights, part)

    return torch.cat([checkpoint(encode, part, use_reentrant=False) for part in x.split(chunk)])


class _Call(nn.Module):
    """A module whose forward is `function`, because `functional_call` calls nothing but a module's forward."""

    def __init__(self, module: nn.Module, function: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.module, x)
