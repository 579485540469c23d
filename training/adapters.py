"""Low-rank adapters: a large network is fine-tuned by little matrices beside its own. Source: Hu et al. 2021 (LoRA)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def add_adapters(module: nn.Module, layers: str, rank: int) -> None:
    """Give the layers whose names `layers`, a regular expression, describes adapters, which alone have gradients.

    They change nothing before they are trained. Raises ValueError if peft is not installed.
    """
    if find_spec("peft") is None:
        raise ValueError("training adapters needs peft; install it with: pip install 'maquette[lora]'")
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds

    module.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), module)


def merged(module: Module) -> Module:
    """`module`, in place, with its adapters added to the weights they adapt; a plain one comes back as it is."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "lora_A"):
                layer: Any = child
                layer.merge()
                setattr(parent, name, layer.get_base_layer())
    return module
