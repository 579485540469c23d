"""Shapes of arguments, checked at the door."""

from torch import Tensor


def check_shapes(**given: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raises ValueError naming the first tensor that has not the shape beside it; None passes."""
    for name, (value, shape) in given.items():
        if value is not None and value.shape != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {shape}")
