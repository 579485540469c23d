"""FSDP2: every process holds its share of each weight, of its gradient, of the optimizer's state and of the averages.

A network is one unit: its weights are gathered for a pass, in which they can then be cast, lent to another call or
computed with in chunks like those of any other network. What is shared out for good is more than three quarters of
what training holds. torch's `fully_shard` is called directly because accelerate offers it on GPUs only, and because it
takes no scalars (CLIP's temperature is one) unless it is told to leave them alone.
"""

from __future__ import annotations

import torch
from accelerate import PartialState
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


def shard(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Share out the parameters of `module`, in place, between all processes, which must have made them the same.

    Scalars stay whole: their gradients are the caller's to average.
    """
    mesh = init_device_mesh(device.type, (PartialState().num_processes,))
    module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    fully_shard(module, mesh=mesh, ignored_params={p for p in module.parameters() if p.ndim == 0})
    return module


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` with the shares of all processes, which must all ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
