"""Options that mean the same in several commands."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..pipelines.presets import PRESETS

Count = Annotated[int, typer.Option("-n", help="How many pictures; more than one also make a sheet.")]
Seed = Annotated[int, typer.Option(help="Picture i is the one of seed + i.")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps.", show_default="the model's")]
Guidance = Annotated[
    float | None, typer.Option(help="How closely to follow the words.", show_default="the model's")
]
Model = Annotated[str, typer.Option(help="A model's name, or the folder of one.")]
ClipName = Annotated[str, typer.Option(help="A CLIP model's name, file or folder.")]
OutputOfPrompt = Annotated[
    Path | None,
    typer.Option("-o", help="The file to write.", show_default="a new one named after the prompt"),
]
OutputOfPhoto = Annotated[
    Path | None, typer.Option("-o", help="The file to write.", show_default="a new one named after the photo")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def preset_of(family: str) -> Any:
    """The option of the presets that a family has."""
    return typer.Option(
        help=f"How to sample: {', '.join(PRESETS[family])}.", show_default="as the model says"
    )
