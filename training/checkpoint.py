"""Checkpoints that are whole or absent, written by all processes of a run and read by any number of them.

They are `torch.distributed.checkpoint`'s, in its safetensors layout: each process writes what it holds, and no file
holds pickled code.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..weights.write_whole import write_whole


@contextmanager
def write_together(target: Path) -> Iterator[Path]:
    """`write_whole` for all processes at once: one path for all, renamed when the last of them has written.

    `target` must be in a folder that all of them see.
    """
    state = PartialState()
    if state.is_main_process:
        target.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(target) as beside:
            broadcast_object_list([str(beside)])
            yield beside
            state.wait_for_everyone()
    else:
        path: list[Any] = [None]
        broadcast_object_list(path)
        yield Path(path[0])
        state.wait_for_everyone()
    state.wait_for_everyone()  # nobody goes on before it has been renamed


def save(folder: Path, step: int, tensors: dict[str, torch.Tensor], facts: dict[str, Any], keep: int) -> None:
    """Write checkpoint `step` into `folder` and leave the newest `keep` there. Every process must call it."""
    with write_together(folder / f"step-{step:08d}") as beside, _alone_without_a_warning() as alone:
        packed = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        writer = dcp.HuggingFaceStorageWriter(str(beside), save_distributed=True)
        dcp.save(packed, storage_writer=writer, no_dist=alone)
        if PartialState().is_main_process:
            text = json.dumps({"step": step, **facts}, indent=1)
            (beside / "facts.json").write_text(text, encoding="utf-8")
    if PartialState().is_main_process:
        for path in existing(folder)[:-keep]:
            shutil.rmtree(path)


def existing(folder: Path) -> list[Path]:
    """The whole checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("step-*"))


def read_facts(checkpoint: Path) -> dict[str, Any]:
    """What `save` was told beside the tensors, and the step."""
    return json.loads((checkpoint / "facts.json").read_text(encoding="utf-8"))


def load(checkpoint: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Fill `tensors`, sharded or not, with those of the checkpoint. Raises ValueError if they are others."""
    reader = dcp.HuggingFaceStorageReader(str(checkpoint))
    saved = reader.read_metadata().state_dict_metadata
    shapes = {name: tuple(getattr(entry, "size", ())) for name, entry in saved.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise ValueError(f"{checkpoint} is of another network; resume with the model it was trained with")
    with _alone_without_a_warning() as alone:
        dcp.load(tensors, storage_reader=reader, no_dist=alone)


@contextmanager
def _alone_without_a_warning() -> Iterator[bool]:
    """Whether this is the only process, which torch takes for an oversight and warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        yield PartialState().num_processes == 1
