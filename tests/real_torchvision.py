"""The real torchvision to compare with, also where it was built for another torch and maquette hides it."""

import importlib
import sys
from contextlib import contextmanager

import torch

_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@contextmanager
def real_transforms():
    """`torchvision.transforms`; what was hidden is so again afterwards."""
    if "torchvision" not in sys.modules or sys.modules["torchvision"] is not None:
        yield importlib.import_module("torchvision.transforms")
        return
    del sys.modules["torchvision"]
    # Its import asks for these operators, which its own library, made for another torch, cannot bring.
    library = torch.library.Library("torchvision", "DEF")
    library.define(f"nms{_BOXES}")
    library.define(f"qnms{_BOXES}")
    try:
        yield importlib.import_module("torchvision.transforms")
    finally:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        library._destroy()
