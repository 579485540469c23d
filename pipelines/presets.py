"""Ways of sampling by name: what each takes in place of a model's own settings."""

from collections.abc import Mapping
from typing import Any

from ..weights.table import nearest

_GLIDE = {
    "sampler": "ddpm",
    "num_inference_steps": 100,
    "guidance_scale": 3.0,
    "guidance_interval": None,
    "dynamic_threshold": None,
    "upsampler_sampler": "ddim",
    "upsampler_steps": "fast27",
    "upsampler_strength": 1.0,
}
# "default" changes none of a model's own settings. "original" samples as the notebooks of openai/glide-text2im and
# openai/point-e do. "fast" takes as few steps of the decoder as kakaobrain/karlo's "fast".
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "glide": {"default": {}, "original": _GLIDE},
    "glide-inpaint": {
        "default": {},
        "original": {**_GLIDE, "guidance_scale": 5.0, "upsampler_sampler": "ddpm"},
    },
    "point-e": {
        "default": {},
        "original": {
            "base_sampler": "heun",
            "num_inference_steps": 64,
            "base_sigmas": (1e-3, 120.0),
            "base_churn": 3.0,
            "guidance_scale": 3.0,
            "guidance_interval": None,
            "upsampler_sampler": "heun",
            "upsampler_steps": 64,
            "upsampler_sigmas": (1e-3, 160.0),
            "upsampler_churn": 0.0,
            "upsampler_guidance_scale": 3.0,
        },
    },
    "unclip": {"default": {}, "fast": {"num_inference_steps": 25}},
}


def check_preset(name: str | None, family: str | None = None) -> None:
    """Raises ValueError unless it is None or the name of a preset.

    family: of PRESETS; None: of pictures drawn of words, whichever way.
    """
    families = ("glide", "unclip") if family is None else (family,)
    known = list(dict.fromkeys(preset for each in families for preset in PRESETS[each]))
    if name is not None and name not in known:
        raise ValueError(
            f"unknown preset {name!r}{nearest(str(name), known)}; known are {', '.join(known)}, "
            "or leave it out for the model's own settings"
        )


def with_preset(settings: Mapping[str, Any], name: str | None, family: str = "glide") -> dict[str, Any]:
    """A model's settings with those of the preset that it has in their place. Raises ValueError for an unknown name."""
    check_preset(name, family)
    preset = PRESETS[family][name] if name else {}
    return {**settings, **{key: value for key, value in preset.items() if key in settings}}
