"""What one training run is, read from a YAML file."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PRECISIONS = ("auto", "bfloat16", "float32")
FREE_TO_CHANGE = {"data", "steps", "keep", "validate_every", "sample_every", "checkpoint_every", "log_every"}


@dataclass(frozen=True)
class TrainConfig:
    """One training run; every key of a recipe file is a field here, and `model:` belongs to the stage.

    A step takes `batch_size` samples, `micro_batch` of them in a forward pass (0: as many as a process has).
    The rate climbs linearly over `warmup` steps, then falls along a cosine to `floor * learning_rate`.
    `validation_samples` of the data are held out. `clip` limits the norm of the gradient (0: no limit).
    What is due `*_every` so many steps is also due at the end (0: only then).
    """

    steps: int
    batch_size: int
    learning_rate: float
    data: str = ""
    micro_batch: int = 0
    warmup: int = 500
    floor: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    ema_decay: float = 0.999
    validation_samples: int = 256
    validate_every: int = 500
    sample_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 10
    keep: int = 2
    seed: int = 0
    precision: str = "auto"
    model: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "keep", "learning_rate"):
            _require(getattr(self, name) > 0, name, "greater than 0", self)
        for name in ("micro_batch", "warmup", "weight_decay", "clip", "validation_samples", "seed"):
            _require(getattr(self, name) >= 0, name, "0 or more", self)
        for name in ("validate_every", "sample_every", "checkpoint_every", "log_every"):
            _require(getattr(self, name) >= 0, name, "0 (only at the end) or more", self)
        _require(self.seed < 2**63, "seed", "below 2**63", self)
        _require(0 <= self.floor <= 1, "floor", "between 0 and 1, a fraction of learning_rate", self)
        _require(0 <= self.ema_decay < 1, "ema_decay", "at least 0 and below 1", self)
        _require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}", self)
        if self.micro_batch and self.batch_size % self.micro_batch:
            sizes = f"batch_size {self.batch_size} is not a multiple of micro_batch {self.micro_batch}"
            raise ValueError(f"{sizes}; change one of them.")

    @classmethod
    def from_file(cls, path: str | Path, **overrides: Any) -> TrainConfig:
        """Read a recipe; `overrides` replace its keys. Raises FileNotFoundError, ValueError with the key."""
        path = Path(path)
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FileNotFoundError(f"The recipe {path} cannot be read: {error.strerror}.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path} must hold `key: value` lines such as `steps: 1000`.")
        try:
            return cls.from_dict({**values, **overrides})
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Check names and types of `values`. Raises ValueError naming the key and what was expected."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        if unknown := [str(key) for key in values if key not in fields]:
            raise ValueError(f"Unknown key {unknown[0]!r}; the known ones are {', '.join(fields)}.")
        required = (name for name, f in fields.items() if _is_required(f))
        if missing := [name for name in required if name not in values]:
            raise ValueError(f"The key {missing[0]!r} is missing; add a line `{missing[0]}: …`.")
        return cls(**{name: _typed(name, fields[name].type, value) for name, value in values.items()})

    def rate(self, step: int) -> float:
        """The learning rate of step number `step`, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * (self.floor + (1 - self.floor) * cosine)

    def check_resumes(self, old: dict[str, Any]) -> None:
        """Raise ValueError naming the key if this recipe cannot continue a run of the recipe `old`."""
        # As a checkpoint's JSON has it. Where a network started from no longer matters once it is trained on.
        new, old = json.loads(json.dumps(dataclasses.asdict(self))), dict(old)
        for some in (new, old):
            some["model"] = {key: v for key, v in some.get("model", {}).items() if key != "start_from"}
        for key in [key for key in new | old if key not in FREE_TO_CHANGE]:
            if new.get(key) != old.get(key):
                raise ValueError(
                    f"The checkpoint was trained with {key} {old.get(key)!r} but the recipe says "
                    f"{new.get(key)!r}; resume with the same value, or train into another folder."
                )


def _is_required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _require(holds: bool, name: str, expected: str, config: TrainConfig) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, not {getattr(config, name)!r}.")


def _typed(name: str, annotation: Any, value: Any) -> Any:
    if annotation == "float":
        try:  # YAML reads 1e-4, without a point, as text
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
        raise ValueError(f"{name} must be a number, not {value!r}.")
    if annotation == "int":
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValueError(f"{name} must be a whole number, not {value!r}.")
    if annotation == "str":
        if isinstance(value, str):
            return value
        raise ValueError(f"{name} must be text, not {value!r}.")
    if isinstance(value, dict):
        return value
    raise ValueError(f"{name} must be a section of `key: value` lines, not {value!r}.")
