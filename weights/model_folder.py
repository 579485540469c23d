"""A model's folder: model_index.json says its pipeline and its settings; each part has a folder of its name.

Bundled, saved, trained and converted models all lie so, and here is where a name becomes such a folder.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .checksums import check_checksums, write_checksums
from .download import cache_folder
from .noted import noted
from .table import HERE, known_models, nearest
from .write_whole import write_whole

INDEX = "model_index.json"
TOKENIZER = "tokenizer.json"


def read_index(folder: Path) -> dict[str, Any]:
    """What a model's folder says of itself. Raises ValueError for a damaged index, and OSError."""
    text = (folder / INDEX).read_bytes()
    with noted(f"{folder / INDEX} is damaged"):
        return json.loads(text)


def find_folder(model: str | os.PathLike, task: str) -> Path | None:
    """The model folder that a name of the table or a path stands for; None if there is none, such as for a file.

    Raises FileNotFoundError for a folder that is not a model's.
    """
    name = os.fspath(model)
    entry = known_models(task).get(name)
    if entry is not None:
        bundled, converted = entry["tasks"][task], converted_folder(name, task)
        if isinstance(bundled, str):
            return HERE / bundled
        return converted if entry.get("converted") and converted.is_dir() else None
    if not os.path.isdir(name):
        return None
    if not os.path.isfile(os.path.join(name, INDEX)):
        raise FileNotFoundError(f"{name} is not a model's folder: it has no {INDEX}; give one that has")
    return Path(name)


def find_model(model: str | os.PathLike, task: str) -> Path:
    """As `find_folder`, but what has no folder is refused: ValueError for an unknown name, else FileNotFoundError."""
    folder = find_folder(model, task)
    if folder is not None:
        return folder
    name, known = os.fspath(model), known_models(task)
    if name in known:
        raise FileNotFoundError(f"{name} is not here yet; `maquette download {name}` fetches it")
    if name in (models := known_models()):
        tasks = " and ".join(models[name]["tasks"])
        raise ValueError(f"{name} is for {tasks}; for {task} there are {', '.join(known)}")
    if os.path.isfile(name):
        raise ValueError(
            f"{name} is a file; `maquette convert {name} --out DIR` makes the folder that is expected"
        )
    if os.sep in name:
        raise FileNotFoundError(f"there is no model folder {name}; give the folder that holds its {INDEX}")
    raise ValueError(
        f"unknown model {name!r}{nearest(name, known)}; known are {', '.join(known)}, "
        "or give the path of a model's folder"
    )


def converted_folder(name: str, task: str) -> Path:
    """Where in the cache the model folder lies that is made of a published model's files on first use.

    Tasks that take the same files share it.
    """
    tasks = known_models()[name]["tasks"]
    first = next(other for other in tasks if tasks[other] == tasks[task])
    return cache_folder() / f"{name}-{first}"


def has_part(index: Mapping[str, Any], name: str) -> bool:
    """Whether a model_index.json names a part that is there; diffusers writes [null, null] for one that is not."""
    entry = index.get(name)
    return isinstance(entry, list) and len(entry) > 1 and isinstance(entry[1], str)


def part_folder(folder: Path, part: str) -> Path:
    """Where a part of a model lies. Raises ValueError if it has no such part, and what `read_index` raises."""
    index = read_index(folder)
    if not has_part(index, part):
        parts = ", ".join(name for name in index if has_part(index, name))
        raise ValueError(f"{folder} has no {part}, only {parts}; give a model that has one")
    return folder.joinpath(*(index[part][2:] or [part]))


def load_part(kind: Any, folder: Path, dtype: Any) -> Any:
    """A part from its own folder: a tokenizer, or a network in eval mode and `dtype`, as `load_saved` loads it.

    Raises FileNotFoundError without such a folder, and ValueError if its checksums say that it is not what was saved.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"the model is not whole: there is no folder {folder}")
    if hasattr(kind, "from_file"):
        check_checksums(folder)
        return kind.from_file(folder / TOKENIZER)
    from .load_saved import load_saved

    return load_saved(kind, folder, dtype)


@contextmanager
def new_folder(folder: str | os.PathLike, mark: str = INDEX) -> Iterator[Path]:
    """A folder to write a model to, which at the end takes the place of `folder` or of the model that lies there.

    mark: the file by which a model is known. Raises FileExistsError, and touches nothing, if something else lies there.
    """
    folder = Path(folder).absolute()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / mark).is_file()):
        raise FileExistsError(f"{folder} holds something else than a model; give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(folder) as beside:
        beside.mkdir()
        yield beside


def write_model_folder(
    folder: str | os.PathLike,
    pipeline: str,
    parts: Mapping[str, Any] | Iterator[tuple[str, Any]],
    settings: Mapping[str, Any],
) -> None:
    """Write a whole model folder, in place of the model that may lie there.

    pipeline: the name of the class that loads it. parts: name -> network or tokenizer, in their present format, or the
    path of a folder of one to copy, of which `settings` say what it is; or pairs of these, one asked for when the one
    before is written. Beside each part lie its checksums, which loading compares.
    Raises what `new_folder` raises.
    """
    pairs = parts if isinstance(parts, Iterator) else parts.items()
    index: dict[str, Any] = {"_class_name": pipeline, **settings}
    with new_folder(folder) as beside:
        for name, part in pairs:
            if isinstance(part, Path):
                shutil.copytree(part, beside / name)
                continue
            index[name] = [type(part).__module__, type(part).__name__]
            if hasattr(part, "save_pretrained"):
                part.save_pretrained(beside / name)
            else:
                (beside / name).mkdir()
                part.save(beside / name / TOKENIZER)
            write_checksums(beside / name)
            del part  # before the next one is made
        (beside / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def save_into(
    model: Any,
    folder: str | os.PathLike,
    pipeline: str,
    parts: Mapping[str, Any],
    beside: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Write trained parts and settings as a whole model in `folder`.

    model: the folder of a model all of whose other parts and settings are kept, and its pipeline. Without one it is a
    model of `pipeline` that has the parts `beside` as well. Raises what `write_model_folder` raises, and OSError for
    what cannot be copied.
    """
    if not model:
        write_model_folder(folder, pipeline, {**parts, **beside}, settings)
        return
    index, others = read_index(model), {}
    for name, entry in index.items():
        lies = model.joinpath(*(entry[2:] or [name])) if isinstance(entry, list) else None
        if lies and lies.is_dir() and name not in parts:
            others[name] = lies
            index[name] = entry[:2]
    write_model_folder(folder, index["_class_name"], {**others, **parts}, {**index, **settings})
