"""The shapes of a checkpoint's weights, which tell a network's sizes."""

from collections.abc import Iterable, Mapping

from torch import Tensor


class Shapes(dict[str, tuple[int, ...]]):
    """The shape of each weight of what should be a checkpoint of `kind`.

    Asking for a key that is absent raises ValueError, which says that this is no such checkpoint and names the key.
    """

    def __init__(self, state_dict: Mapping[str, Tensor], kind: str):
        super().__init__({key: tuple(value.shape) for key, value in state_dict.items()})
        self.kind = kind

    def __missing__(self, key: str) -> tuple[int, ...]:
        raise ValueError(f"not a {self.kind} checkpoint: key {key!r} is missing")


def sizes(state_dict: Mapping[str, Tensor], told_by: dict[str, tuple[str, int]]) -> dict[str, int]:
    """{argument: (key, axis)} -> {argument: size}, without those whose key is missing: loading names that key."""
    return {name: state_dict[key].shape[axis] for name, (key, axis) in told_by.items() if key in state_dict}


def depth(keys: Iterable[str], stack: str) -> int:
    """The number of blocks in `stack`.resblocks."""
    return len({key.split(".")[2] for key in keys if key.startswith(f"{stack}.resblocks.")})
