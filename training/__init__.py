"""One training loop, data shards, EMA, checkpoints and resume; every stage plugs its loss into it."""

from .command import train
from .config import TrainConfig
from .loop import fit
from .shards import Shards
from .stage import Stage

__all__ = ["Shards", "Stage", "TrainConfig", "fit", "train"]
