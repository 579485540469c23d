"""`maquette vary`: a photo drawn anew, as what CLIP sees in it."""

from functools import cache, partial
from pathlib import Path
from typing import Annotated

import typer

from ..pipelines.picture_files import check_output, free_name
from ..pipelines.presets import PRESETS, check_preset
from ..pipelines.request import check_numbers, check_strength
from .drawn_pictures import write_drawn, write_sheet
from .unclip_model import load_unclip


def vary(
    photo: Annotated[Path, typer.Argument(help="The photo; its middle square is seen.")],
    count: Annotated[int, typer.Option("-n", help="How many pictures; more than one also make a sheet.")] = 4,
    seed: Annotated[int, typer.Option(help="Picture i is the one of seed + i.")] = 0,
    strength: Annotated[
        float | None,
        typer.Option(
            help="How much to draw anew: near 0 keeps the photo, 1 keeps only what CLIP sees in it.",
            show_default="the model's",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"How to sample: {', '.join(PRESETS['unclip'])}.", show_default="as the model says"
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", show_default="the model's")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the photo.", show_default="the model's")
    ] = None,
    model: Annotated[str, typer.Option(help="A model's name, or the folder of one.")] = "mini",
    output: Annotated[
        Path | None,
        typer.Option("-o", help="The file to write.", show_default="a new one named after the photo"),
    ] = None,
) -> None:
    """Draw a photo anew in several ways that keep what it shows, and print where the pictures are."""
    check_numbers(1, count, steps, guidance, seed)
    check_preset(preset, "unclip")
    if strength is not None:
        check_strength(strength)
    check_output(output or Path.cwd() / "picture.png")
    from ..clip.preprocess import open_picture

    picture = open_picture(photo)
    pipe = load_unclip(model)
    target = cache(lambda: output or free_name(f"{photo.stem} varied", Path.cwd()))
    said = {"photo": photo.name}
    made = pipe(
        picture,
        strength=strength,
        preset=preset,
        num_images_per_prompt=count,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        callback_on_batch_end=partial(write_drawn, target, alone=count == 1, said=said),
    )
    if count > 1:
        write_sheet(target(), made, said)
