"""What `maquette train STAGE` calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .config import TrainConfig
from .loop import fit
from .stage import Stage


def train(
    make_stage: Callable[[TrainConfig], Stage],
    config: str | Path,
    data: str | None,
    out: str | Path,
    resume: bool = False,
    steps: int | None = None,
) -> Path:
    """Train the stage that `make_stage` builds from the recipe file `config`; returns the result's folder.

    `data` (see Shards) and `steps` replace the recipe's. Raises what `TrainConfig.from_file`,
    `make_stage` and `fit` raise: one clear sentence for bad input, and for where it stopped after Ctrl-C.
    """
    replaced = {"data": data, "steps": steps}
    recipe = TrainConfig.from_file(
        config, **{key: value for key, value in replaced.items() if value is not None}
    )
    if not recipe.data:
        raise ValueError(f"no data: give --data FOLDER, or a line `data: …` in {config}")
    return fit(make_stage(recipe), recipe, recipe.data, out, resume)
