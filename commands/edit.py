"""`maquette edit`: a photo changed by the difference of two texts."""

from pathlib import Path
from typing import Annotated

import typer

from ..pipelines.picture_files import check_output, free_name
from ..pipelines.request import check_numbers, check_share, check_texts
from .drawn_pictures import write_drawn
from .unclip_model import load_unclip


def edit(
    photo: Annotated[Path, typer.Argument(help="The photo; its middle square is seen.")],
    before: Annotated[str, typer.Option("--from", help="What it shows, such as 'a red car'.")],
    after: Annotated[str, typer.Option("--to", help="What it is to show, such as 'a blue car'.")],
    strength: Annotated[float, typer.Option(help="How far to go there, from 0 to 1.")] = 0.4,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", show_default="the model's")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow what it shows.", show_default="the model's")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise that the details come from.")] = 0,
    model: Annotated[str, typer.Option(help="A model's name, or the folder of one.")] = "mini",
    output: Annotated[
        Path | None,
        typer.Option("-o", help="The file to write.", show_default="a new one named after the photo"),
    ] = None,
) -> None:
    """Change a photo from what one text says to what another says, and print where it is."""
    before, after = (text.encode("utf-8", "replace").decode() for text in (before, after))
    check_texts(before, after)
    check_share(strength, "the strength")
    check_numbers(1, 1, steps, guidance, seed)
    check_output(output or Path.cwd() / "picture.png")
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
    target = output or free_name(f"{photo.stem} {after}", Path.cwd())
    write_drawn(lambda: target, made, alone=True, said={"photo": photo.name})
