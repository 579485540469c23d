"""What colour words look like: eleven hues with jitter, and the fixed colours of details."""

from __future__ import annotations

import colorsys

import numpy as np

SRGB = {
    "red": (204, 26, 32),
    "orange": (247, 124, 18),
    "yellow": (250, 214, 34),
    "green": (46, 152, 58),
    "blue": (32, 84, 208),
    "purple": (122, 44, 168),
    "pink": (250, 132, 184),
    "brown": (112, 66, 34),
    "black": (24, 24, 27),
    "white": (246, 246, 243),
    "gray": (126, 128, 131),
}
DETAILS = {
    "wood": (122, 82, 48),
    "cream": (240, 228, 202),
    "paper": (248, 247, 242),
    "metal": (150, 154, 160),
    "slate": (74, 78, 88),
    "rubber": (34, 34, 37),
    "glass": (166, 204, 226),
    "carrot": (240, 118, 24),
    "lamp light": (255, 240, 180),
}
# Hue (of a full turn), saturation and value move at most this far: never into a neighbouring colour word.
JITTER = {"black": (0.0, 0.0, 0.03), "white": (0.0, 0.01, 0.02), "gray": (0.0, 0.02, 0.05)}
USUAL_JITTER = (0.010, 0.06, 0.05)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    srgb = np.asarray(srgb, float)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light, clipped to [0, 1], to sRGB in [0, 1] (IEC 61966-2-1)."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def paint(colour: str, rng: np.random.Generator) -> np.ndarray:
    """One colour [3], sRGB in [0, 1], that the word `colour` names."""
    hsv = np.array(colorsys.rgb_to_hsv(*(channel / 255 for channel in SRGB[colour])))
    hsv += rng.uniform(-1, 1, 3) * JITTER.get(colour, USUAL_JITTER)
    return np.array(colorsys.hsv_to_rgb(hsv[0] % 1, *np.clip(hsv[1:], 0, 1)))


def palette(colour: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Every palette name of a thing -> sRGB [3]; details turn pale on dark things, gray on white ones."""
    names = {name: np.array(value) / 255 for name, value in DETAILS.items()}
    names["main"] = paint(colour, rng)
    names["mark"] = names["paper"] if colour in ("black", "brown", "purple", "blue") else names["rubber"]
    if colour == "white":
        names["spot"] = names["pillow"] = names["metal"]
    else:
        names["spot"] = names["pillow"] = names["paper"]
    return names
