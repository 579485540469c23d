"""`maquette inpaint`: a part of a photo painted anew, or what lies past its edges."""

from pathlib import Path
from typing import Annotated

import typer

from ..pipelines.picture_files import check_output, free_name, save_drawn
from ..pipelines.request import check_request
from ..weights import find_model
from .interrupt import clean_up_on_interrupt


def inpaint(
    photo: Annotated[Path, typer.Argument(help="The photo; its transparent pixels are painted.")],
    prompt: Annotated[str, typer.Argument(help="What it is to show, such as 'a red chair'.")],
    mask: Annotated[
        Path | None, typer.Option(help="A picture, white where to paint and black where the photo stays.")
    ] = None,
    box: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Where to paint, in pixels, in place of a mask.")
    ] = None,
    expand: Annotated[
        str, typer.Option(metavar="N|L,T,R,B", help="Pixels to add and paint: on all sides, or on each.")
    ] = "0",
    count: Annotated[int, typer.Option("-n", help="How many pictures; more than one also make a sheet.")] = 1,
    seed: Annotated[int, typer.Option(help="Picture i is the one of seed + i.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", show_default="the model's")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the words.", show_default="the model's")
    ] = None,
    model: Annotated[str, typer.Option(help="A model's name, or the folder of one.")] = "mini",
    output: Annotated[
        Path | None,
        typer.Option("-o", help="The file to write.", show_default="a new one named after the prompt"),
    ] = None,
) -> None:
    """Paint a part of a photo as your words say; all other pixels stay as they are."""
    prompt = prompt.encode("utf-8", "replace").decode()
    check_request(prompt, count, steps, guidance, seed)
    find_model(model, "inpainting")
    check_output(output or Path.cwd() / "picture.png")
    from ..clip.preprocess import open_upright
    from ..pipelines.photo_regions import mask_photo

    where = {
        "image": open_upright(photo),
        "mask": None if mask is None else open_upright(mask),
        "box": None if box is None else _numbers(box, "--box"),
        "expand": _numbers(expand, "--expand"),
    }
    mask_photo(**where)

    typer.echo(f"loading {model} …", err=True)
    from ..pipelines import pipeline

    pipe = pipeline("inpainting", model)
    made = pipe(
        prompt,
        **where,
        num_images_per_prompt=count,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
    )
    said = {"photo": photo.name, "mask": mask and mask.name, "box": box, "expand": expand}
    said = {key: str(value) for key, value in said.items() if value and value != "0"}
    clean_up_on_interrupt()
    target = output or free_name(prompt, Path.cwd())
    for path in save_drawn(target, made.images, [{**each, **said} for each in made.settings]):
        typer.echo(path.resolve())


def _numbers(text: str, option: str) -> int | list[int]:
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes whole numbers with commas between them, not {text!r}") from None
    return numbers if len(numbers) > 1 else numbers[0]
