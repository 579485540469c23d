"""One strict way to load a published checkpoint's weights into a module."""

from collections.abc import Mapping
from typing import TypeVar

import torch

Module = TypeVar("Module", bound=torch.nn.Module)


def load_original(module: Module, state_dict: Mapping[str, torch.Tensor]) -> Module:
    """Copy `state_dict` (keys and shapes of `module`) into `module` as float32 and return it in eval mode.

    A module made on the "meta" device, where its random start costs nothing, comes to be on the CPU.
    Raises ValueError naming up to five missing, unexpected or misshapen keys; `module` is then untouched.
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
    if any(parameter.is_meta for parameter in module.parameters()):
        copies = {
            key: torch.empty_like(
                value, dtype=value.dtype if not value.is_floating_point() else torch.float32
            )
            for key, value in state_dict.items()
        }
        module.load_state_dict(copies, assign=True)
    module.float().load_state_dict(state_dict)
    return module.eval()
