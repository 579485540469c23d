"""The weights in a TorchScript archive, read as data: none of the code in it runs.

Such an archive is a zip file: data.pkl describes the module and its submodules as objects, data/N hold the storages
that its tensors are views of, and code/ the classes as TorchScript source. `torch.jit.load` would compile that source.
data.pkl is a pickle, a small program; here it is followed by hand, and its calls build what a fixed list says.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MAX_PICKLE = 1 << 28
MAX_MODULES, MAX_DEPTH = 100_000, 100
STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": "float32",
        "Double": "float64",
        "Half": "float16",
        "BFloat16": "bfloat16",
        "Long": "int64",
        "Int": "int32",
        "Short": "int16",
        "Char": "int8",
        "Byte": "uint8",
        "Bool": "bool",
        "ComplexFloat": "complex64",
        "ComplexDouble": "complex128",
    }.items()
}
TENSOR, DICT = "torch._utils._rebuild_tensor_v2", "collections.OrderedDict"
# Calls whose result is their first argument.
SAME = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
SAME = ("torch._utils._rebuild_parameter", "torch.device", *(f"torch.jit._pickle.{name}" for name in SAME))

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PLAIN = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE")
EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
DAMAGED = "is damaged or not whole; fetch or copy it again"


class Unreadable(ValueError):
    """Why an archive is refused: a sentence that lacks only the file's name before it."""


@dataclass
class Named:
    """What a pickle calls by its name: a class, a function, a kind of storage. Nothing is imported for it."""

    name: str


@dataclass
class ScriptObject:
    """An object of a TorchScript class: its name and its attributes."""

    class_name: str
    attributes: dict[str, Any] = field(default_factory=dict)


def read_archive(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers under the names, and in the order, of `torch.jit.load(path).state_dict()`.

    Raises Unreadable for a damaged archive and for one that asks for anything but tensors.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        try:
            pickle = _text(archive, entries["data.pkl"])
            weights: dict[str, list[str]] = {}
            for name, info in entries.items():
                if name.startswith("code/") and name.endswith(".py"):
                    module = name[len("code/") : -len(".py")].replace("/", ".")
                    weights |= _weight_names(module, _text(archive, info).decode("utf-8", "replace"))
            root = follow(pickle, lambda kind, key: _storage(content, entries[f"data/{key}"], kind))
            if not isinstance(root, ScriptObject):
                raise Unreadable("is a TorchScript archive without a module")
            return _collect(root, weights)
        except Unreadable:
            raise
        except Exception:
            # What a damaged description brings about depends on where it is damaged.
            raise Unreadable(DAMAGED) from None


def follow(pickle: bytes, storage: Callable[[str, str], Tensor]) -> Any:
    """The value that a pickle describes, made of plain values, ScriptObjects and tensors.

    storage(kind, key) gives the flat tensor of a storage. Raises Unreadable for any name that weights have no use for.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    argument: Any
    for opcode, argument, _ in pickletools.genops(pickle):
        match opcode.name:
            case name if name in PLAIN:
                stack.append(argument)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case name if name in EMPTY:
                stack.append(EMPTY[name]())
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "APPEND" | "APPENDS":
                values = [stack.pop()] if opcode.name == "APPEND" else since_mark()
                stack[-1].extend(values)
            case "SETITEM" | "SETITEMS":
                values = [stack.pop(-2), stack.pop()] if opcode.name == "SETITEM" else since_mark()
                stack[-1].update(zip(values[::2], values[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_named(argument.replace(" ", ".")))
            case "NEWOBJ" | "REDUCE":
                arguments = stack.pop()
                stack.append(_made(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                stack[-1].attributes = state if isinstance(state, dict) else {}
            case "BINPERSID":
                _, kind, key, *_ = stack.pop()
                stack.append(storage(kind.name, key))
            case other:
                raise Unreadable(f"is no TorchScript archive as torch writes them ({other} in its data.pkl)")
    raise Unreadable(DAMAGED)


def _named(name: str) -> Named:
    if not name.startswith("__torch__.") and name not in (TENSOR, DICT, *SAME, *STORAGES):
        raise Unreadable(
            f"asks to run {name}, which weights have no use for; it was not run, give a file that holds weights alone"
        )
    return Named(name)


def _made(what: Named, arguments: tuple) -> Any:
    """What calling `what` would give."""
    if what.name.startswith("__torch__."):
        return ScriptObject(what.name)
    if what.name == TENSOR:
        flat, offset, size, stride, *_ = arguments
        return flat.as_strided(size, stride, offset) if math.prod(size) else flat.new_empty(size)
    return dict(*arguments) if what.name == DICT else arguments[0]


def _storage(content: mmap.mmap, info: zipfile.ZipInfo, kind: str) -> Tensor:
    """A storage as a flat tensor, mapped from the archive."""
    import torch

    dtype = getattr(torch, STORAGES[kind])
    # The local header, in which the name and the padding may be longer than in the directory.
    head = content[info.header_offset : info.header_offset + 30]
    if head[:4] != b"PK\x03\x04" or info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise Unreadable(DAMAGED)
    start = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
    count = info.file_size // dtype.itemsize
    if start + info.file_size > len(content):
        raise Unreadable(DAMAGED)
    return (
        torch.frombuffer(content, dtype=dtype, count=count, offset=start)
        if count
        else torch.empty(0, dtype=dtype)
    )


def _text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MAX_PICKLE:
        raise Unreadable(f"has {info.file_size / 1e6:,.0f} MB where its weights should only be described")
    return archive.read(info)


def _weight_names(module: str, source: str) -> dict[str, list[str]]:
    """class -> the names of its parameters, then of its buffers; the source lists them in lines of their own."""
    names = {}
    for one in re.split(r"^class ", source, flags=re.MULTILINE)[1:]:
        lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*?)\]", one, flags=re.MULTILINE)
        names[f"{module}.{re.split(r'[^0-9A-Za-z_]', one, maxsplit=1)[0]}"] = re.findall(
            r'"([^"]+)"', " ".join(lists)
        )
    return names


def _collect(root: ScriptObject, weights: dict[str, list[str]]) -> dict[str, Tensor]:
    """The tensors of a module and of those in it, depth first."""
    import torch

    found: dict[str, Tensor] = {}
    waiting, visited = [("", root)], 0
    while waiting:
        prefix, module = waiting.pop()
        visited += 1
        if visited > MAX_MODULES or prefix.count(".") > MAX_DEPTH:
            raise Unreadable("describes a module that never ends")
        for name in weights[module.class_name]:
            value = module.attributes.get(name)
            if isinstance(value, torch.Tensor):
                found[prefix + name] = value
        inner = [
            (f"{prefix}{name}.", value)
            for name, value in module.attributes.items()
            if isinstance(value, ScriptObject)
        ]
        waiting += reversed(inner)
    return found
