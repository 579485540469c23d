"""`maquette models` and `maquette download`: which models there are, and fetching one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..pipelines.convert import ready_model
from ..weights import cached_path, find_model, find_weights, known_models, model_entry
from ..weights.model_folder import INDEX, converted_folder
from .interrupt import clean_up_on_interrupt

HEADINGS = ("NAME", "TASKS", "SIZE", "HERE", "WHERE")
OPEN_CLIP_HEADINGS = ("NAME", "PARAMETERS", "WIDTH", "PICTURES", "COMPUTED BY")


def models(
    every: Annotated[
        bool, typer.Option("--all", help="List open_clip's models, for pictures and words, too.")
    ] = False,
) -> None:
    """List the models that are known by name, their sizes, and which of them are already here."""
    _table([HEADINGS, *(_row(name, entry) for name, entry in known_models().items())])
    if every:
        from ..clip.open_clip_names import open_clip_names

        typer.echo()
        _table([OPEN_CLIP_HEADINGS, *(_open_clip_row(name) for name in open_clip_names())])
        typer.echo("\nAlso repositories on the Hub, hf-hub:org/name.")
    else:
        typer.echo(
            "\nAlso open_clip's names, such as ViT-B-32/laion2b_s34b_b79k (--all lists them), and repositories on the "
            "Hub, hf-hub:org/name."
        )


def download(
    name: Annotated[str, typer.Argument(help="A name that `maquette models` lists, or one of open_clip's.")],
) -> None:
    """Fetch a model's weights before they are needed, and print where they are."""
    clean_up_on_interrupt()
    if name not in known_models() and (":" in name or "/" in name):
        from ..clip.hub import HUB, hub_folder
        from ..clip.open_clip_names import find_open_clip, open_clip_names

        architecture = name.partition("/")[0]
        if name.startswith(HUB):
            typer.echo(hub_folder(name))
            return
        if any(one.startswith(f"{architecture}/") for one in open_clip_names()):
            typer.echo(find_open_clip(name)[0])
            return
    entry = model_entry(name)
    if "files" not in entry or entry.get("converted"):
        for place in dict.fromkeys(ready_model(name, task) for task in entry["tasks"]):
            typer.echo(place)
    else:
        for part in entry["files"]:
            typer.echo(find_weights(name, part))


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _open_clip_row(name: str) -> tuple[str, ...]:
    """Name, parameters in millions, length of the vectors, side of the pictures, and whose network computes it."""
    from ..clip.open_clip_names import open_clip_config, open_clip_millions

    config = open_clip_config(name)
    pictures = config.pictures()
    computed = "Maquette" if config.ours else "open_clip"
    millions = f"{open_clip_millions(name):,} M"
    return name, millions, str(pictures["embed_dim"]), f"{pictures['image_resolution']} px", computed


def _row(name: str, entry: dict) -> tuple[str, str, str, str, str]:
    tasks = ", ".join(entry["tasks"])
    if "repository" in entry:
        size = f"{2 * entry['parameters']:,.0f} to {_megabytes(4 * entry['parameters'])}"
        return name, tasks, size, _on_the_hub(entry["repository"]), entry["source"]
    if "files" not in entry:
        folders = list(dict.fromkeys(find_model(name, task) for task in entry["tasks"]))
        size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
        return name, tasks, _megabytes(size / 1e6), "yes", str(folders[0].parent)
    needed = dict.fromkeys(part for parts in entry["tasks"].values() for part in parts)
    files = [entry["files"][part] for part in needed]
    kept = [cached_path(one["url"], one["sha256"]) for one in files]
    begun = sum(_size(place.with_name(f"{place.name}.partial")) for place in kept) / 1e6
    # Where nothing says how large a file is: its weights take two bytes each, or four.
    least, most = (
        sum(one.get("megabytes", width * one.get("parameters", 0)) for one in files) for width in (2, 4)
    )
    size = _megabytes(most) if least == most else f"{least:,.0f} to {_megabytes(most)}"
    folders = dict.fromkeys(converted_folder(name, task) for task in entry["tasks"])
    places = list(folders) if entry.get("converted") else kept
    here = sum(place.exists() for place in places)
    if here == len(places):
        return name, tasks, size, "yes", ", ".join(str(place) for place in places)
    said = f"{here} of {len(places)}" if here else _megabytes(begun) if begun else "no"
    return name, tasks, size, said, entry["source"]


def _on_the_hub(repository: str) -> str:
    """Whether a repository is in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    return "yes" if isinstance(try_to_load_from_cache(repository, INDEX), str) else "no"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _megabytes(megabytes: float) -> str:
    return f"{megabytes:,.0f} MB"
