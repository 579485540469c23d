"""`maquette vary`: a photo drawn anew, as what CLIP sees in it."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..pipelines.presets import check_preset
from ..pipelines.request import check_numbers, check_strength
from .drawn_pictures import place_for, write_drawn, write_sheet
from .options import Count, Model, OutputOfPhoto, Seed, Steps, preset_of
from .unclip_model import load_unclip


def vary(
    photo: Annotated[Path, typer.Argument(help="The photo; its middle square is seen.")],
    count: Count = 4,
    seed: Seed = 0,
    strength: Annotated[
        float | None,
        typer.Option(
            help="How much to draw anew: near 0 keeps the photo, 1 keeps only what CLIP sees in it.",
            show_default="the model's",
        ),
    ] = None,
    preset: Annotated[str | None, preset_of("unclip")] = None,
    steps: Steps = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the photo.", show_default="the model's")
    ] = None,
    model: Model = "mini",
    output: OutputOfPhoto = None,
) -> None:
    """Draw a photo anew in several ways that keep what it shows, and print where the pictures are."""
    check_numbers(1, count, steps, guidance, seed)
    check_preset(preset, "unclip")
    if strength is not None:
        check_strength(strength)
    target = place_for(output, f"{photo.stem} varied")
    from ..clip.preprocess import open_picture

    picture = open_picture(photo)
    pipe = load_unclip(model)
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
