"""What a run tells: means over micro-batches and processes, one JSON line each, and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator

from ..weights.write_whole import write_whole
from .config import TrainConfig


class Means:
    """Weighted means of scalars. They are summed on their device, so that a GPU is not waited for at each step."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[torch.Tensor, float]] = {}

    def add(self, values: Mapping[str, Any], weight: float = 1.0) -> None:
        for name, value in values.items():
            total, weights = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = total + weight * torch.as_tensor(value).detach().float(), weights + weight

    def over(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over all processes, which must have added the same names."""
        rows = [[total.item(), weight] for total, weight in self._sums.values()]
        table = torch.tensor(rows, device=accelerator.device)
        totals, weights = torch.as_tensor(accelerator.reduce(table, "sum")).unbind(1)
        return dict(zip(self._sums, (totals / weights).tolist(), strict=True))


class Record:
    """`config.yaml`, `log.jsonl` and `tensorboard/` in the folder of a run; only the main process writes."""

    def __init__(self, accelerator: Accelerator, out: Path):
        self.accelerator, self.log = accelerator, out / "log.jsonl"

    def open(self, step: int, config: TrainConfig) -> None:
        """Start after `step`, dropping what a killed run wrote after its last checkpoint."""
        self.accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": step + 1}})
        if not self.accelerator.is_main_process:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        recipe = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True) if self.log.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        for path, text in ((self.log.with_name("config.yaml"), recipe), (self.log, "".join(kept))):
            with write_whole(path) as beside:
                beside.write_text(text, encoding="utf-8")

    def write(self, step: int, values: dict[str, float]) -> None:
        self.accelerator.log(values, step=step)
        if self.accelerator.is_main_process:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
