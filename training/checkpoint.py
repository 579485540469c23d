"""Checkpoints that are whole or absent: written beside their place, flushed to disk, renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


def write_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Make `folder` by `write(beside)`, flush it to disk and rename it into place of what was there."""
    beside = folder.with_name(f".{folder.name}.partial")
    _discard(beside)
    beside.mkdir(parents=True)
    write(beside)
    for path in [*beside.rglob("*"), beside]:
        _flush(path)
    _discard(folder)
    beside.rename(folder)
    _flush(folder.parent)


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Make `path` by `write(beside)` and rename it into place."""
    beside = path.with_name(f".{path.stem}.partial{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(beside)
    _flush(beside)
    beside.replace(path)


def save(folder: Path, step: int, tensors: dict[str, torch.Tensor], facts: dict[str, Any], keep: int) -> None:
    """Write checkpoint `step` into `folder` and leave the newest `keep` there."""

    def write(beside: Path) -> None:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, beside / "state.safetensors")
        (beside / "facts.json").write_text(json.dumps({"step": step, **facts}, indent=1), encoding="utf-8")

    write_folder(folder / f"step-{step:08d}", write)
    for path in existing(folder)[:-keep]:
        _discard(path)


def existing(folder: Path) -> list[Path]:
    """The whole checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("step-*"))


def load(checkpoint: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and facts of a checkpoint. Raises ValueError if a file is missing or damaged."""
    try:
        facts = json.loads((checkpoint / "facts.json").read_text(encoding="utf-8"))
        return load_file(checkpoint / "state.safetensors"), facts
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"The checkpoint {checkpoint} is damaged ({error}); delete it to resume from the one before."
        ) from None


def _discard(folder: Path) -> None:
    if folder.exists():  # renamed first, so that a kill in between leaves no half-deleted checkpoint
        doomed = folder.with_name(f".{folder.name.strip('.')}.old")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
