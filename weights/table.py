"""The table of models that Maquette knows by name, models.json."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@cache
def known_models() -> dict[str, dict[str, Any]]:
    """name -> "tasks" (task -> folder beside this file) and "knows" (the world it was shown)."""
    return json.loads((HERE / "models.json").read_text(encoding="utf-8"))


def bundled_folder(name: str, task: str) -> Path:
    """Where the weights that ship with the package lie for a task."""
    return HERE / known_models()[name]["tasks"][task]
