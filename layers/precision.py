"""The number format and the device that are fastest here and keep pictures the same to the eye."""

from typing import Any

import torch


def best_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where `device` multiplies it natively, else float32.

    Natively do GPUs from compute capability 8 (2020) on, and CPUs with AMX or AVX-512 BF16.
    """
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        features = torch.cpu.get_capabilities()
        native = features.get("amx_bf16", False) or features.get("avx512_bf16", False)
    return torch.bfloat16 if native else torch.float32


def resolve_dtype(dtype: Any, device: torch.device) -> torch.dtype:
    """A floating torch dtype, or the one of that name; "auto": see `best_dtype`. Raises ValueError for others."""
    if dtype == "auto":
        return best_dtype(device)
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype must be a floating torch dtype, its name, or 'auto', not {dtype!r}")
    return found
