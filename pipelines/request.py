"""What a request for pictures may hold, checked before anything heavy is loaded."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

MAX_SEED = 2**63 - 1


class PromptWarning(UserWarning):
    """Something about a prompt that does not stop the work, such as its being cut off."""


def check_prompts(prompt: str | Sequence[str]) -> list[str]:
    """The prompts as a list. Raises TypeError unless they are texts, ValueError if there is none or one is empty."""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, Sequence) or not all(isinstance(text, str) for text in prompts):
        raise TypeError(f"the prompt must be a text or a list of texts, not {prompt!r}")
    if not prompts:
        raise ValueError("there is no prompt; say what to draw, such as 'a red chair'")
    if not all(text.strip() for text in prompts):
        raise ValueError("the prompt is empty; say what to draw, such as 'a red chair'")
    return list(prompts)


def check_count(count: Any) -> int:
    """The number of pictures. Raises ValueError unless it is a whole number from 1 to 10,000."""
    return _whole(count, "the number of pictures", 1, 10_000)


def check_steps(steps: Any) -> int:
    """The number of sampling steps. Raises ValueError unless it is a whole number from 1 to 1000."""
    return _whole(steps, "the number of steps", 1, 1000)


def check_seed(seed: Any, count: int = 1) -> int:
    """The seed of the first of `count` pictures. Raises ValueError unless all seeds are from 0 to 2**63 - 1."""
    return _whole(seed, "the seed", 0, MAX_SEED - count + 1)


def check_guidance(scale: Any) -> float:
    """The guidance scale. Raises ValueError unless it is a finite number."""
    try:
        number = math.nan if isinstance(scale, str) else float(scale)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"the guidance scale must be a number such as 3.0, not {scale!r}")
    return number


def _whole(value: Any, what: str, least: int, most: int | None = None) -> int:
    expected = f"from {least} to {most}" if most is not None else f"of at least {least}"
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        raise ValueError(f"{what} must be a whole number {expected}, not {value!r}")
    return number
