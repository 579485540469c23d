"""Any published file of weights as a flat dict of tensors, without running what is in it."""

from __future__ import annotations

import os
import re
import warnings
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
    that only what is used is read. A state dict inside a training checkpoint ("state_dict") is taken out of it, and the
    "module." that data-parallel training puts before each name is taken off.
    Raises FileNotFoundError, and ValueError for a file that is no checkpoint, is damaged, or holds anything but
    weights: what it asks to be run is not run.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the file of weights in it")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the path of a file of weights")
    try:
        content = _read(path)
    except MemoryError:
        raise ValueError(f"{path} needs more memory than there is") from None
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    return _state_dict(path, content)


def is_archive(path: str | os.PathLike) -> bool:
    """Whether a file of weights is a TorchScript archive, as OpenAI's published ones are."""
    return zipfile.is_zipfile(path) and "constants.pkl" in _tails(Path(path))


def _read(path: Path) -> Any:
    """What the file holds. Raises ValueError, a sentence that lacks only the file's name before it."""
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise ValueError("is empty; fetch or copy it again")
    # The length of a safetensors header, then that header, JSON.
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return _read_safetensors(path)
    if start.startswith(b"PK"):
        return _read_zip(path)
    if start.startswith(b"\x80"):
        return _read_torch(path, mapped=False)
    raise ValueError(
        "is no file of weights; expected safetensors, what torch.save writes, or a TorchScript archive"
    )


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"is damaged or not whole ({_first_line(error)}); fetch or copy it again") from None


def _read_zip(path: Path) -> Any:
    from .torchscript import read_archive

    try:
        tails = _tails(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        raise ValueError("is damaged or not whole; fetch or copy it again") from None
    if "data.pkl" not in tails:
        raise ValueError("is a zip archive, but not one of weights; give the file of weights itself")
    # As torch tells them apart.
    return read_archive(path) if "constants.pkl" in tails else _read_torch(path, mapped=True)


def _tails(path: Path) -> set[str]:
    """The names in a zip archive without the folder that all are in."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2] for name in archive.namelist()}


def _read_torch(path: Path, mapped: bool) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except Exception as error:
        # For a damaged file torch raises whatever its parts raise.
        said = str(error)
        if found := re.search(r"GLOBAL ([\w.]+)", said) or re.search(r"Cannot use ([\w.]+)", said):
            raise ValueError(
                f"asks to run {found[1]}, which weights have no use for; it was not run, give a file that holds "
                "weights alone"
            ) from None
        why = (
            "it holds more than tensors, of which nothing was run"
            if "eights only" in said
            else _first_line(error)
        )
        raise ValueError(f"is damaged or no file of weights ({why}); fetch or copy it again") from None


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    import torch

    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120].rstrip(".")
