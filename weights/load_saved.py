"""One strict way to load what a network's `save_pretrained` wrote."""

from pathlib import Path
from typing import Any

import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file

from .checksums import check_checksums
from .load_original import load_original


def load_saved(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A `kind` (a diffusers ModelMixin) in eval mode, with every one of its weights from `folder`, in `dtype`.

    `kind.from_pretrained` reports missing, unexpected and misshapen keys in its log and goes on; here they are a
    ValueError, as in `load_original`, and so are files that differ from the checksums beside them.
    Raises what diffusers and safetensors raise for missing or damaged files.
    """
    check_checksums(folder)
    # Where nothing takes memory, whatever sizes the config asks for.
    with torch.device("meta"):
        network = kind.from_config(kind.load_config(folder, local_files_only=True))
    return load_original(network, load_file(folder / SAFETENSORS_WEIGHTS_NAME), dtype)
