"""Any published file of weights as a flat dict of tensors, without running what is in it."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# OpenAI's archives keep these numbers among the weights; the shapes say the same.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a safetensors file, of what torch.save wrote, or of a TorchScript archive, by name.

    They keep their format (float16, say), lie on the CPU and are mapped from the file where its layout allows it, so
    that only what is used takes memory. A state dict inside a training checkpoint ("state_dict", "model_state_dict") is
    taken out of it, and the "module." that data-parallel training puts before each name is taken off. The names of a
    tuple are "0", "1", ….
    Checksums of a zip file, as torch.save and TorchScript write it, are compared.
    Raises FileNotFoundError, ValueError for a file that is no checkpoint, not what its checksums say or holds anything
    but weights (what it asks to be run is not run), and, with a note that names the file, what torch, safetensors or
    zipfile raise for one that is damaged.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the file of weights in it")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the path of a file of weights")
    try:
        return _state_dict(path, _content(path))
    except Exception as error:
        if not str(error).startswith(f"{path} "):  # as our own sentences do
            error.add_note(f"while reading {path}: if it is damaged, fetch or copy it again")
        raise


def _content(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(16)
    # The length of a safetensors header, then that header, JSON.
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_unpacked_size(path)
    if is_archive(path):
        from .torchscript import read_archive

        return read_archive(path)
    if not start.startswith((b"PK", b"\x80")):
        raise ValueError(
            f"{path} is no file of weights; expected safetensors, what torch.save writes, or a TorchScript archive"
        )
    import torch

    if zipped:
        with zipfile.ZipFile(path) as archive:
            if name := archive.testzip():
                raise ValueError(
                    f"{path} is damaged, as the checksum of {name} tells; fetch or copy it again"
                )
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:  # which advises to let the file run what it asks for
        raise ValueError(
            f"{path} is damaged, or asks to run what weights have no use for; it was not run"
        ) from error


def _numpy_numbers() -> list[Any]:
    """What makes a NumPy float of its bytes, under its names in old and new NumPy: training checkpoints hold scores."""
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float32, np.float64)]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *kinds,
    ]


def is_archive(path: str | os.PathLike) -> bool:
    """Whether a file of weights is a TorchScript archive, as OpenAI's published ones are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def _check_unpacked_size(path: Path) -> None:
    """Raises ValueError for a zip file that would fill memory or time: weights hardly compress."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > 100 * path.stat().st_size:
        raise ValueError(f"{path} would become far too large when unpacked")


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    import torch

    for name in ("state_dict", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if isinstance(content, tuple):
        content = {str(place): value for place, value in enumerate(content)}
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no weights by name; expected a state dict")
    weights = {name: value for name, value in content.items() if name not in NOT_WEIGHTS}
    others = [str(name)[:40] for name, value in weights.items() if not isinstance(value, torch.Tensor)]
    others += [str(name)[:40] for name in weights if not isinstance(name, str)]
    if others or not weights:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise ValueError(
            f"{path} is no state dict: {', '.join(others[:3])}{more} are no tensors; give the state dict alone"
        )
    weights = {name: value.detach() for name, value in weights.items()}
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    return weights
