"""Mixed precision at the door: the parameters are cast once per forward pass, on every device alike.

Unlike under autocast, the network trains in the one format that it later samples in, and what it computes does not
depend on a list of operations that differs between devices; GLIDE's U-Net takes the same time either way.
"""

from __future__ import annotations

from typing import Any

import torch

BATCH_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


class InDtype(torch.nn.Module):
    """`model` computing in `dtype` while its parameters and their gradients stay float32.

    Called like `model`. Floating inputs are cast, outputs come back as float32; buffers are left as they are.
    The cast weights exist during the call only. Activation checkpointing, which computes parts of `model` again in
    the backward pass, must therefore keep them itself, as `clip/training/gradient_cache.py` does.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.dtype == torch.float32:
            return self.model(*args, **kwargs)
        weights = _cast(dict(self.model.named_parameters()), self.dtype) | self._of_batch_norms()
        args, kwargs = _cast(args, self.dtype), _cast(kwargs, self.dtype)
        return _cast(torch.func.functional_call(self.model, weights, args, kwargs), torch.float32)

    def _of_batch_norms(self) -> dict[str, torch.nn.Parameter]:
        """The parameters of batch norms, float32 as their running statistics are: torch wants one format for both."""
        return {
            f"{name}.{key}": parameter
            for name, module in self.model.named_modules()
            if isinstance(module, BATCH_NORMS)
            for key, parameter in module.named_parameters(recurse=False)
        }


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _cast(v, dtype) for key, v in value.items()}
    return type(value)(_cast(v, dtype) for v in value) if type(value) in (tuple, list) else value
