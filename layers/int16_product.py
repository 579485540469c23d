"""A float32 product that runs through 16-bit integers, for x86 CPUs that stop at AVX2.

What is notable: such a CPU multiplies int16 twice as fast as float32. The rounding is usually finer than TF32's, and a
row of the result depends on its row of x alone, whatever the batch. `int16_product.c` says how. It is compiled when the
package is installed; where that failed, `works()` is False and everything goes on in float32. The product is an
operator of torch, so tracers and compilers see it.
"""

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

COLUMNS, STRETCH = 16, 256  # as in the C file


class Int16Product:
    """x weightᵀ + bias with `weight` [outputs, inputs] float32 packed once, its outputs a multiple of 16.

    For inference: there is no gradient. Raises RuntimeError where `works()` is False.
    """

    dtype = torch.float32

    def __init__(self, weight: Tensor, bias: Tensor):
        outputs, inputs = weight.shape
        if outputs % COLUMNS or not outputs or bias.shape != (outputs,):
            raise ValueError(
                f"weight of shape {tuple(weight.shape)} and bias of shape {tuple(bias.shape)}; expected [outputs, "
                f"inputs] and [outputs], with outputs a multiple of {COLUMNS}"
            )
        library = _library()
        if library is None:
            raise RuntimeError(
                "int16_product.c was not compiled when maquette was installed; a C compiler is needed"
            )
        self.bias = _plain(bias.detach())
        self.weight = torch.empty(outputs, (inputs + 1) // 2 * 2, dtype=torch.int16)
        self.units = torch.empty(outputs, -(-inputs // STRETCH))
        weight = _plain(weight.detach())
        library.pack_1(
            weight.data_ptr(),
            outputs,
            inputs,
            self.weight.data_ptr(),
            self.units.data_ptr(),
            torch.get_num_threads(),
        )
        self.inputs, self.outputs = inputs, outputs

    def __deepcopy__(self, memo: dict) -> "Int16Product":
        return self  # it never changes

    def __call__(self, x: Tensor, silu: bool = False, residual: Tensor | None = None) -> Tensor:
        """[..., inputs] -> [..., outputs], after a SiLU if `silu`, plus `residual` of that shape; all float32.

        Raises ValueError for another shape, TypeError for another format, MemoryError if there is too little memory.
        """
        shape = (*x.shape[:-1], self.outputs)
        if x.shape[-1] != self.inputs or (residual is not None and residual.shape != shape):
            raise ValueError(
                f"x of shape {tuple(x.shape)} and residual of shape "
                f"{None if residual is None else tuple(residual.shape)}; expected [..., {self.inputs}] and {shape}"
            )
        return int16_linear(x, self.weight, self.units, self.bias, silu, residual)

    @staticmethod
    def suits(weight: Tensor) -> bool:
        """Whether this weight can be packed and its products are then faster."""
        return weight.dtype == torch.float32 and not weight.shape[0] % COLUMNS and Int16Product.pays()

    @staticmethod
    def works() -> bool:
        """Whether the C file was compiled and this CPU can run it."""
        return _support() > 0

    @staticmethod
    def pays() -> bool:
        """Whether it is this CPU's fastest way, too: not where float32 products are wider than AVX2's."""
        return _support() > 1


@torch.library.custom_op("maquette::int16_linear", mutates_args=())
def int16_linear(
    x: Tensor, weight: Tensor, units: Tensor, bias: Tensor, silu: bool, residual: Tensor | None
) -> Tensor:
    """The operator behind `Int16Product`, on its packed weight and units."""
    library = _library()
    assert library is not None
    x, residual = _plain(x), None if residual is None else _plain(residual)
    y = x.new_empty(*x.shape[:-1], len(weight))
    failed = library.product_1(
        x.data_ptr(),
        y.numel() // len(weight),
        x.shape[-1],
        weight.data_ptr(),
        units.data_ptr(),
        len(weight),
        bias.data_ptr(),
        silu,
        None if residual is None else residual.data_ptr(),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError("no memory left for a product")
    return y


@int16_linear.register_fake
def _(x, weight, units, bias, silu, residual):
    return x.new_empty(*x.shape[:-1], len(weight))


def _plain(x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise TypeError(f"{x.dtype} on {x.device}; expected float32 on the CPU")
    return x.contiguous()


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled C file; None if there is none, or one that this machine or this version cannot use."""
    files = (Path(__file__).with_name(f"_int16_product{suffix}") for suffix in EXTENSION_SUFFIXES)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    size, pointer, number = ctypes.c_long, ctypes.c_void_p, ctypes.c_int
    try:
        library = ctypes.CDLL(str(file))  # after torch, whose OpenMP it then shares if the names agree
        library.support_1.argtypes, library.support_1.restype = [], number
        library.pack_1.argtypes = [pointer, size, size, pointer, pointer, number]
        library.pack_1.restype = None
        library.product_1.argtypes = [pointer, size, size, pointer, pointer, size, pointer]
        library.product_1.argtypes += [number, pointer, pointer, number]
        library.product_1.restype = number
    except (OSError, AttributeError):
        return None
    return library


@cache
def _support() -> int:
    library = _library()
    return 0 if library is None else library.support_1()
