"""The weights in a TorchScript archive, read as data: none of the code in it runs.

Such an archive is a zip file: data.pkl describes the module and its submodules as objects, data/N hold the storages
that its tensors are views of, and code/ the classes as TorchScript source. `torch.jit.load` would compile that source.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# More than any model has: an archive can describe a module that contains itself.
MAX_MODULES = 10_000
# The kinds of storages, and torch's names of what they hold.
KINDS = "Float Double Half BFloat16 Long Int Short Bool"
DTYPES = {f"torch.{kind}Storage": kind.lower() for kind in KINDS.split()}
DTYPES |= {"torch.CharStorage": "int8", "torch.ByteStorage": "uint8"}
# Calls that give their first argument back, and all that weights have a use for.
SAME = ("torch._utils._rebuild_parameter", "torch.jit._pickle.restore_type_tag")
TORCH = r"torch\.(jit\._pickle\.\w+|_utils\._rebuild_(parameter|tensor_v2)|device|\w+Storage)"
KNOWN = re.compile(rf"__torch__\..+|{TORCH}|collections\.OrderedDict")


class StandIn:
    """What is made of everything that an archive names: the arguments and the state that it was given."""

    name: str
    arguments: tuple
    state: dict

    def __new__(cls, *arguments: Any) -> StandIn:
        self = super().__new__(cls)
        self.arguments, self.state = arguments, {}
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Description(pickle.Unpickler):
    """Reads data.pkl into plain values and stand-ins. Nothing is imported for a name in it, and nothing called."""

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if not KNOWN.fullmatch(path):
            raise ValueError(f"the archive asks to run {path}, which weights have no use for; it was not run")
        return type(name, (StandIn,), {"name": path})

    def persistent_load(self, pid: Any) -> Any:
        return pid  # ("storage", kind, key, device, length)


def read_archive(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers under the names, and in the order, of `torch.jit.load(path).state_dict()`.

    Raises ValueError if it asks for more than tensors, and what zipfile, which compares the checksums, pickle or torch
    raise if it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}

        def content(place: str) -> bytes:
            if place not in entries:
                raise ValueError(f"{path} is damaged: it holds no {place}; fetch or copy it again")
            return archive.read(entries[place])

        names: dict[str, list[str]] = {}
        for place, entry in entries.items():
            if place.startswith("code/") and place.endswith(".py"):
                names |= _weight_names(place, archive.read(entry).decode())
        description = content("data.pkl")
        # The unpickler makes room for whatever place in its memo a damaged description names.
        for opcode, number, _ in pickletools.genops(description):
            if "PUT" in opcode.name and int(number or 0) > len(description):
                raise ValueError(f"{path} is damaged; fetch or copy it again")
        storages: dict[str, Tensor] = {}

        def tensor(described: StandIn) -> Tensor:
            while described.name in SAME:
                described = described.arguments[0]
            (_, kind, key, *_), offset, size, stride, *_ = described.arguments
            if key not in storages:
                storages[key] = torch.empty(0, dtype=getattr(torch, DTYPES[kind.name]))
                if numbers := bytearray(content(f"data/{key}")):
                    storages[key] = torch.frombuffer(numbers, dtype=storages[key].dtype)
            return storages[key].as_strided(size, stride, offset)

        root = Description(io.BytesIO(description)).load()
        return {name: tensor(one) for name, one in _described(root, names)}


def _weight_names(path: str, source: str) -> dict[str, list[str]]:
    """class -> the names of its parameters, then of its buffers; the source lists them in lines of their own."""
    module, names = path.removeprefix("code/").removesuffix(".py").replace("/", "."), {}
    for name, body in re.findall(r"^class (\w+)(.*?)(?=^class |\Z)", source, re.MULTILINE | re.DOTALL):
        lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*?)\]", body, re.MULTILINE)
        names[f"{module}.{name}"] = re.findall(r'"([^"]+)"', " ".join(lists))
    return names


def _described(root: StandIn, names: dict[str, list[str]]) -> Iterator[tuple[str, StandIn]]:
    """The tensors of a module and of those in it, depth first, by name."""
    waiting = [("", root)]
    for _ in range(MAX_MODULES):
        if not waiting:
            return
        prefix, module = waiting.pop()
        if module.name not in names:
            raise ValueError(f"the archive is damaged: it holds no source of {module.name}")
        for name in names[module.name]:
            # A parameter that a module does without is None.
            if isinstance(module.state.get(name), StandIn):
                yield prefix + name, module.state[name]
        for name, value in reversed(module.state.items()):
            if isinstance(value, StandIn) and value.name.startswith("__torch__."):
                waiting.append((f"{prefix}{name}.", value))
    raise ValueError("the archive describes a module that never ends")
