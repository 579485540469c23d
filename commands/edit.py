"""`maquette edit`: a photo changed by the difference of two texts."""

from pathlib import Path
from typing import Annotated

import typer

from ..pipelines.request import check_numbers, check_share, check_texts
from .drawn_pictures import place_for, write_drawn
from .options import Model, OutputOfPhoto, Steps
from .unclip_model import load_unclip


def edit(
    photo: Annotated[Path, typer.Argument(help="The photo; its middle square is seen.")],
    before: Annotated[str, typer.Option("--from", help="What it shows, such as 'a red car'.")],
    after: Annotated[str, typer.Option("--to", help="What it is to show, such as 'a blue car'.")],
    strength: Annotated[float, typer.Option(help="How far to go there, from 0 to 1.")] = 0.4,
    steps: Steps = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow what it shows.", show_default="the model's")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise that the details come from.")] = 0,
    model: Model = "mini",
    output: OutputOfPhoto = None,
) -> None:
    """Change a photo from what one text says to what another says, and print where it is."""
    before, after = (text.encode("utf-8", "replace").decode() for text in (before, after))
    check_texts(before, after)
    check_share(strength, "the strength")
    check_numbers(1, 1, steps, guidance, seed)
    target = place_for(output, f"{photo.stem} {after}")
    from ..clip.preprocess import open_picture

    picture = open_picture(photo)
    pipe = load_unclip(model)
    from ..pipelines.latent_edits import edit as edit_picture

    made = edit_picture(
        pipe,
        picture,
        before,
        after,
        strength,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
    )
    write_drawn(target, made, alone=True, said={"photo": photo.name})
