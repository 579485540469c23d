"""What a Point-E checkpoint's shapes and an original config say about a network's arguments."""

import inspect
from collections.abc import Mapping
from typing import Any

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
