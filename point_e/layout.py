"""What a Point-E checkpoint's shapes and an original config say about a network's arguments."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..weights.load_original import check_config_keys

# Keys of the original configs that matter to training or to its factory only, or that the weights hold as well.
NO_ARGUMENTS = {"name", "init_scale", "cond_drop_prob", "channel_scales", "channel_biases"}


def arguments(network: type, told: dict[str, Any], config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The constructor arguments of `network`: what shapes `told`, and for the rest `config`.

    config: in the original's vocabulary. Raises ValueError naming the keys that it does not have.
    """
    config = config or {}
    check_config_keys(config, [*inspect.signature(network).parameters, *sorted(NO_ARGUMENTS)])
    return {key: value for key, value in config.items() if key not in NO_ARGUMENTS} | told


def sizes(state_dict: Mapping[str, Tensor], told_by: dict[str, tuple[str, int]]) -> dict[str, int]:
    """{argument: (key, axis)} -> {argument: size}, without those whose key is missing: loading names that key."""
    return {name: state_dict[key].shape[axis] for name, (key, axis) in told_by.items() if key in state_dict}


def depth(state_dict: Mapping[str, Tensor], stack: str) -> int:
    """The number of blocks in `stack`.resblocks."""
    return len({key.split(".")[2] for key in state_dict if key.startswith(f"{stack}.resblocks.")})
