"""How much work a step of training is."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def training_flops(forward: Callable[[], Any]) -> int:
    """The floating-point operations of a forward and a backward pass, which takes twice as many as the forward one."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return 3 * counter.get_total_flops()
