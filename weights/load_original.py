"""One strict way to load a published checkpoint's weights into a module."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch

from .table import nearest

Module = TypeVar("Module", bound=torch.nn.Module)


def load_original(
    module: Module, state_dict: Mapping[str, torch.Tensor], dtype: torch.dtype = torch.float32
) -> Module:
    """Give `module` copies of `state_dict` (its keys and shapes) in `dtype` and return it in eval mode.

    A module made on the "meta" device, where its random start costs nothing, comes to be where the weights are.
    Raises ValueError naming up to five missing, unexpected or misshapen keys, or ones that hold NaN or infinity;
    `module` is then untouched.
    """
    expected = module.state_dict()
    problems = [f"{key} (missing)" for key in expected if key not in state_dict]
    problems += [f"{key} (unexpected)" for key in state_dict if key not in expected]
    problems += [
        f"{key} (shape {list(state_dict[key].shape)}, expected {list(value.shape)})"
        for key, value in expected.items()
        if key in state_dict and state_dict[key].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(
            f"these weights do not fit {type(module).__name__}: {', '.join(problems[:5])}{more}; "
            "give the checkpoint of this network and, for a non-standard size, its config"
        )
    copies = {}
    for key, value in state_dict.items():
        kept = dtype if value.is_floating_point() else value.dtype
        # In the memory format in which the module was made.
        copies[key] = torch.empty_like(expected[key], dtype=kept, device=value.device).copy_(value)
    if broken := [key for key, value in copies.items() if not _is_finite(value)]:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise ValueError(
            f"these weights hold NaN or infinity in {', '.join(broken[:5])}{more}; they are damaged, or their training "
            f"had failed, or {dtype} is too narrow for them: fetch or copy them again, or take another checkpoint"
        )
    module.load_state_dict(copies, assign=True)
    return module.eval()


def _is_finite(value: torch.Tensor) -> bool:
    """Whether all numbers are; the smallest and the largest tell it in one pass, ten times as fast as one by one."""
    if not value.is_floating_point() or not value.numel():
        return True
    return bool(torch.stack(value.aminmax()).isfinite().all())


def check_config_keys(config: Mapping, known: Iterable[str]) -> None:
    """What every network's `from_original` does first. Raises ValueError naming the keys that are not `known`."""
    known = list(known)
    if unknown := [str(key) for key in config if key not in known]:
        hints = ", ".join(f"{key!r}{nearest(key, known)}" for key in unknown)
        raise ValueError(f"unknown config key {hints}; known are {', '.join(known)}")
