"""One strict way to load what a network's `save_pretrained` wrote."""

from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import FrozenDict
from diffusers.utils import logging


def load_saved(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A `kind` (a diffusers ModelMixin) in eval mode, with every one of its weights from `folder`, in `dtype`.

    Raises ValueError in one sentence for files that are damaged or do not fit together.
    """
    # diffusers reports what does not fit as a log line and goes on, or raises; here it is an error in one sentence.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        network, info = kind.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # the libraries below raise a dozen kinds
        reason = str(error).split("\n")[0]
        raise ValueError(f"the weights in {folder} cannot be loaded: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
    amiss = [key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind]]
    if amiss:
        raise ValueError(
            f"the weights in {folder} do not fit the config.json beside them: {', '.join(map(str, amiss[:5]))}"
        )
    # Where it lay on this machine is nobody's business when it is saved again.
    entries = {key: value for key, value in network.config.items() if key != "_name_or_path"}
    network._internal_dict = FrozenDict(entries)
    return network.eval()
