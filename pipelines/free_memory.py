"""How much memory is free, and how many pictures at once fit into it."""

from collections.abc import Callable

import psutil
import torch


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still get on a device: of what the machine has free and, on Linux, of `ulimit -v`."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free = psutil.virtual_memory().available
    if psutil.LINUX:
        process = psutil.Process()
        limit, _ = process.rlimit(psutil.RLIMIT_AS)
        if limit != psutil.RLIM_INFINITY:
            free = min(free, limit - process.memory_info().vms)
    return max(0, free)


def rows_that_fit(rows: int, size: int, bytes_each: Callable[[int], int], free: int) -> int:
    """How many of `rows` pictures, of `size` pixels a side, fit into `free` bytes at once.

    bytes_each: a size -> what one such picture takes. Raises MemoryError if not one fits; says which size would.
    """
    if bytes_each(size) <= free:
        return min(rows, free // bytes_each(size))
    smaller = next((side for side in range(size - 4, 0, -4) if bytes_each(side) <= free), None)
    raise MemoryError(
        f"a picture of {size} px takes about {bytes_each(size) / 2**30:.1f} GiB of memory, and "
        f"{free / 2**30:.1f} are free; "
        + (f"a size of up to {smaller} fits" if smaller else "end other programs, or take a smaller model")
    )
