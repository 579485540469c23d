"""The house rules that a machine can check: complete package list, imports downwards only, a light front door."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each room may import; a stage's training, train.py or training/, may import training and toybox as well.
MAY_IMPORT = {
    "maquette": {"commands", "pipelines", "search", "clip"},
    "commands": {
        "pipelines",
        "search",
        "point_e",
        "unclip",
        "diffusion",
        "clip",
        "weights",
        "training",
        "toybox",
    },
    "pipelines": {"point_e", "unclip", "diffusion", "clip", "layers", "weights", "toybox"},
    "search": {"clip", "weights"},
    "point_e": {"diffusion", "clip", "layers", "weights", "toybox"},
    "unclip": {"diffusion", "clip", "layers", "weights"},
    "diffusion": {"clip", "layers", "weights"},
    "clip": {"layers", "weights"},  # and clip/evaluation/ the reader of shards in training/
    "layers": set(),
    "weights": set(),
    "training": {"layers", "weights"},
    "toybox": {"training", "weights"},
}
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


def test_every_room_is_packaged_and_type_checked():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert sorted(tools["pyright"]["include"]) == ROOMS
    setuptools = tools["setuptools"]
    folders = {
        path.parent.relative_to(ROOT)
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if path.parent.name != "__pycache__"
    }
    expected = {
        ".".join(
            folder.parts if folder.parts[0] == "maquette" else ("maquette", *folder.parts)
        ): folder.as_posix()
        for folder in folders
    }
    assert sorted(setuptools["packages"]) == sorted(expected)
    assert setuptools["package-dir"] == expected


def imports_of(path):
    """(room or top-level package, whether relative) for each import in a library file."""
    depth = len(path.relative_to(ROOT).parts) - 1
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0], False
        elif isinstance(node, ast.ImportFrom) and node.level > depth:
            yield from (
                (name.split(".")[0], True)
                for name in ([node.module] if node.module else [a.name for a in node.names])
            )


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downwards(room):
    assert room in MAY_IMPORT, f"say in MAY_IMPORT what {room}/ may import"
    for path in (ROOT / room).rglob("*.py"):
        trains = {"train.py", "training", "evaluation"} & set(path.parts)
        allowed = MAY_IMPORT[room] | ({"training", "toybox"} if trains else set())
        for name, relative in imports_of(path):
            where = path.relative_to(ROOT)
            if relative:
                assert name in allowed, f"{where} imports {name}, which {room}/ may not know"
            else:
                assert name not in MAY_IMPORT or room == "maquette", f"{where} must import {name} relatively"


def modules_imported_by(path, files):
    """The library's files that a file imports, inside functions and for types as well."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    package = parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        # One level above the rooms is the package `maquette` itself, whose folder lies beside them.
        base = package[: len(package) - node.level + 1] if node.level <= len(package) else ()
        named = (*base, *(node.module.split(".") if node.module else ()))
        for alias in node.names:
            for found in ((*named, alias.name), named, (*named, "__init__")):
                if found in files:
                    yield found
                    break


def test_no_file_imports_itself_through_others():
    files = {
        path.relative_to(ROOT).with_suffix("").parts: path
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
    }
    imports = {name: set(modules_imported_by(path, files)) - {name} for name, path in files.items()}
    assert sum(map(len, imports.values())) > len(files), "the imports were not found"
    done = set()

    def visit(name, way):
        assert name not in way, " -> ".join("/".join(step) for step in (*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(imports[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in sorted(imports):
        visit(name, ())
