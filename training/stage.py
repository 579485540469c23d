"""What a network must offer to be trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch


class Stage(Protocol):
    """A network with its loss; the loop in `fit` knows nothing else about it.

    A stage may also have
    - `begin(shards)`, called once before all else, for what it must know of the data as a whole and keeps in buffers of
      `model`;
    - `frozen`, modules that `loss` and `samples` compute with beside `model`, such as an encoder of texts. They are
      moved to the device, in eval mode and without gradients, are in no checkpoint, and must be the same again when the
      run is resumed;
    - `samples(model)`, which gives a picture, a sheet of what the averaged network makes now.
    """

    @property
    def model(self) -> torch.nn.Module:
        """What is trained: float32 parameters on the CPU, the same in every process, in their memory format."""
        ...

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Decode one raw sample (`{"__key__": …, "png": bytes, "txt": bytes, …}`) to arrays or tensors.

        Called from threads; must be deterministic (draw augmentations in `loss`, from its generator).
        """
        ...

    def loss(
        self, model: Callable[..., Any], batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The mean loss of a batch (scalar) and further scalars to log.

        `model` is called like the network and returns float32. `batch` holds stacked results of `prepare` on
        the training device. What is random is drawn from `generator` (on the CPU): a resumed run repeats it.
        """
        ...

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Write the averaged float32 network into `folder` as it is used for inference."""
        ...
