"""Ways of sampling GLIDE by name: what each takes in place of a model's own settings."""

from collections.abc import Mapping
from typing import Any

from ..weights.table import nearest

# original: as the notebooks of openai/glide-text2im sample.
PRESETS: dict[str, dict[str, Any]] = {
    "original": {
        "sampler": "ddpm",
        "num_inference_steps": 100,
        "guidance_scale": 3.0,
        "guidance_interval": None,
        "dynamic_threshold": None,
        "upsampler_sampler": "ddim",
        "upsampler_steps": "fast27",
    },
}


def check_preset(name: str | None) -> None:
    """Raises ValueError unless it is None or the name of a preset."""
    if name is not None and name not in PRESETS:
        raise ValueError(
            f"unknown preset {name!r}{nearest(str(name), PRESETS)}; known are {', '.join(PRESETS)}, "
            "or leave it out for the model's own settings"
        )


def with_preset(settings: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """A model's settings with the preset's in their place. Raises ValueError for an unknown name."""
    check_preset(name)
    return {**settings, **(PRESETS[name] if name else {})}
