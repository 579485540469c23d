"""What a request may hold, checked before anything heavy is loaded."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from .presets import check_preset

MAX_SEED = 2**63 - 1
MAX_POINTS = 2**14
# Pictures fall apart far below that.
MAX_GUIDANCE = 1000


class PromptWarning(UserWarning):
    """Something about a prompt that does not stop the work, such as its being cut off."""


def check_request(
    prompt: str | Sequence[str],
    count: Any = 1,
    steps: Any = None,
    guidance_scale: Any = None,
    seed: Any = None,
) -> list[str]:
    """The prompt of each sample: each prompt `count` times, one after the other.

    Raises TypeError for prompts that are no texts; ValueError for none or an empty one, a count that is not from 1 to
    10,000, steps that are not from 1 to 1000, a guidance scale beyond 1000 or -1000, and seeds that do not all lie from
    0 to 2**63 - 1. None: the model's own, or any seed.
    """
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, Sequence) or not all(isinstance(text, str) for text in prompts):
        raise TypeError(f"the prompt must be a text or a list of texts, not {prompt!r}")
    if not prompts:
        raise ValueError("there is no prompt; say what to make, such as 'a red chair'")
    if not all(text.strip() for text in prompts):
        raise ValueError("the prompt is empty; say what to make, such as 'a red chair'")
    check_numbers(len(prompts), count, steps, guidance_scale, seed)
    return [text for text in prompts for _ in range(count)]


def check_numbers(
    things: int, count: Any = 1, steps: Any = None, guidance_scale: Any = None, seed: Any = None
) -> None:
    """The numbers of a request for `count` samples of each of so many things. Raises ValueError as `check_request`."""
    _check_whole(count, "the number of samples", 1, 10_000)
    if steps is not None:
        _check_whole(steps, "the number of steps", 1, 1000)
    if guidance_scale is not None:
        check_guidance(guidance_scale, "the guidance scale", "3.0")
    if seed is not None:
        _check_whole(seed, "the seed", 0, MAX_SEED - things * count + 1)


def check_drawing(
    size: Any = None,
    strength: Any = None,
    from_photo: bool = False,
    clip_guidance_scale: Any = None,
    preset: str | None = None,
) -> None:
    """What a request for pictures may say beside `check_request`; None: nothing.

    Raises ValueError for a size that is no multiple of 4 from 4 to 4096, a strength that is not above 0 and at most 1
    or that comes without a photo, a CLIP guidance scale beyond 1000 or -1000, and an unknown preset.
    """
    check_preset(preset)
    if size is not None:
        _check_whole(size, "the size in pixels", 4, 4096)
        if size % 4:
            raise ValueError(
                f"the size in pixels must be a multiple of 4, such as {size + 4 - size % 4}, not {size}"
            )
    if strength is not None:
        check_strength(strength)
        if not from_photo:
            raise ValueError(
                "a strength says how much of a photo is drawn anew, and there is no photo; give one"
            )
    if clip_guidance_scale is not None:
        check_guidance(clip_guidance_scale, "the CLIP guidance scale", "1.0")


def check_strength(value: Any) -> None:
    """Raises ValueError unless it is above 0 and at most 1."""
    if not _is_finite(value) or not 0 < value <= 1:
        raise ValueError(
            f"the strength must be above 0 (the photo as it is) and at most 1 (all drawn anew), not {value!r}"
        )


def check_points(value: Any) -> None:
    """Raises ValueError unless a network may make so many points; None: its own number."""
    if value is not None:
        _check_whole(value, "the number of points", 1, MAX_POINTS)


def check_frames(value: Any) -> None:
    """Raises ValueError unless so many pictures lead from one to another."""
    _check_whole(value, "the steps of a blend, both ends included,", 2, 1000)


def check_texts(before: str, after: str) -> None:
    """Raises ValueError unless two texts say two things."""
    if not before.strip() or not after.strip():
        raise ValueError("a text is empty; say what the picture shows and what it is to show")
    if before.split() == after.split():
        raise ValueError(f"both texts are {before!r}; say what is to be different")


def check_share(value: Any, what: str) -> None:
    """Raises ValueError unless it lies from 0 to 1."""
    if not _is_finite(value) or not 0 <= value <= 1:
        raise ValueError(f"{what} must be from 0 (the photo as it is) to 1, not {value!r}")


def check_guidance(value: Any, what: str, such_as: str) -> None:
    """Raises ValueError, which calls it `what` and names a usual one, for a scale beyond 1000 or -1000."""
    if not _is_finite(value) or abs(value) > MAX_GUIDANCE:
        raise ValueError(
            f"{what} must be a number from -{MAX_GUIDANCE} to {MAX_GUIDANCE} such as {such_as}, not {value!r}"
        )


def _is_finite(number: Any) -> bool:
    try:
        return not isinstance(number, bool) and math.isfinite(number)
    except (TypeError, OverflowError):
        return False


def _check_whole(value: Any, what: str, least: int, most: int) -> None:
    try:
        right = not isinstance(value, bool) and least <= operator.index(value) <= most
    except TypeError:
        right = False
    if not right:
        raise ValueError(f"{what} must be a whole number from {least} to {most}, not {value!r}")
