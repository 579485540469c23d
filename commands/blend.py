"""`maquette blend`: from one photo to another, as an animation."""

from pathlib import Path
from typing import Annotated

import typer

from ..pipelines.picture_files import ANIMATED, save_animation
from ..pipelines.request import check_frames, check_numbers
from .drawn_pictures import place_for
from .interrupt import clean_up_on_interrupt
from .options import Model
from .unclip_model import load_unclip


def blend(
    first: Annotated[Path, typer.Argument(help="The photo to begin with.")],
    last: Annotated[Path, typer.Argument(help="The photo to end with.")],
    steps: Annotated[int, typer.Option(help="How many pictures, both ends included.")] = 8,
    sampling_steps: Annotated[
        int | None, typer.Option(help="Sampling steps of each.", show_default="the model's")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the photos.", show_default="the model's")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise, which is the same for all pictures.")] = 0,
    model: Model = "mini",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            help=f"The animation to write: {', '.join(ANIMATED)}.",
            show_default="a new .gif named after the photos",
        ),
    ] = None,
) -> None:
    """Draw the pictures between two photos, and print where the animation of them is."""
    check_frames(steps)
    check_numbers(steps, 1, sampling_steps, guidance, seed)
    target = place_for(output, f"{first.stem} to {last.stem}", ANIMATED)
    from ..clip.preprocess import open_picture

    pictures = open_picture(first), open_picture(last)
    pipe = load_unclip(model)
    from ..pipelines.latent_edits import blend as blend_pictures

    made = blend_pictures(
        pipe, *pictures, steps, num_inference_steps=sampling_steps, guidance_scale=guidance, seed=seed
    )
    clean_up_on_interrupt()
    said = {**made.settings[0], "frames": str(steps), "photos": f"{first.name}, {last.name}"}
    typer.echo(save_animation(target(), made.images, said).resolve())
