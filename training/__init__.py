"""One training loop, data shards, EMA, checkpoints and resume; every stage plugs its loss into it."""

from .command import train
from .config import TrainConfig
from .data import Shards
from .loop import fit
from .stage import Stage

__all__ = ["Shards", "Stage", "TrainConfig", "fit", "train"]
