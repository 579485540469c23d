"""What one training run is, read from a YAML file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from ..weights.noted import noted

FREE_TO_CHANGE = {  # in a recipe by which a run is resumed
    "data",
    "steps",
    "keep",
    "validate_every",
    "sample_every",
    "checkpoint_every",
    "log_every",
    "shard",
}


class TrainConfig(BaseModel, title="recipe", extra="forbid", frozen=True, allow_inf_nan=False):
    """One training run; every key of a recipe file is a field here.

    `model` holds the arguments of the network and `stage` says how it is trained: the stage checks both.
    A step takes `batch_size` samples, `micro_batch` of them in a forward pass (0: as many as a process has).
    The rate climbs linearly over `warmup` steps (None: 500, but at most a tenth of all), then falls along a cosine
    to `floor * learning_rate`.
    `optimizer` "muon" is Muon for the matrices of layers and AdamW for the rest, at the same rate.
    `max_gradient_norm` limits the norm of the gradient (0: no limit). `validation_samples` of the data are held out.
    What is due `*_every` so many steps is also due at the end (0: only then).
    `shard` shares out weights and the optimizer's state between the processes instead of giving all to each.
    """

    steps: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    data: str = ""
    micro_batch: NonNegativeInt = 0
    warmup: NonNegativeInt | None = None
    floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: NonNegativeFloat = 0.01
    max_gradient_norm: NonNegativeFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    validation_samples: NonNegativeInt = 256
    validate_every: NonNegativeInt = 500
    sample_every: NonNegativeInt = 500
    checkpoint_every: NonNegativeInt = 500
    log_every: NonNegativeInt = 10
    keep: PositiveInt = 2
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    shard: bool = False
    model: dict[str, Any] = {}
    stage: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        if self.micro_batch and self.batch_size % self.micro_batch:
            sizes = f"batch_size {self.batch_size} is not a multiple of micro_batch {self.micro_batch}"
            raise ValueError(f"{sizes}; change one of them")
        return self

    @classmethod
    def from_file(cls, path: str | Path, **overrides: Any) -> TrainConfig:
        """Read a recipe; `overrides` replace its keys.

        Raises what opening the file and YAML raise, and pydantic's ValidationError, a ValueError, with the keys.
        """
        with open(path, encoding="utf-8") as file, noted(f"{path} is no recipe"):
            values = yaml.safe_load(file)
        return cls.model_validate(values | overrides if isinstance(values, dict) else values)

    def rate(self, step: int) -> float:
        """The learning rate of step number `step`, counted from 0."""
        warmup = min(500, self.steps // 10) if self.warmup is None else self.warmup
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.steps - warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * (self.floor + (1 - self.floor) * cosine)

    def check_resumes(self, old: dict[str, Any]) -> None:
        """Raise ValueError naming the key if this recipe cannot continue a run of the recipe `old`."""
        new, old = self.model_dump(mode="json"), dict(old)
        if self.stage.get("interpolate") is None:  # what a network started from may lie elsewhere by now
            for some in (new, old):
                some["stage"] = {key: value for key, value in some["stage"].items() if key != "start_from"}
        for key in [key for key in new | old if key not in FREE_TO_CHANGE]:
            if new.get(key) != old.get(key):
                raise ValueError(
                    f"the checkpoint was trained with {key} {old.get(key)!r} but the recipe says "
                    f"{new.get(key)!r}; resume with the same value, or train into another folder"
                )
