"""`maquette inpaint`: a part of a photo painted anew, or what lies past its edges."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..pipelines.convert import ready_model
from ..pipelines.presets import check_preset
from ..pipelines.request import check_request
from .drawn_pictures import place_for, write_drawn, write_sheet
from .interrupt import cleaning_up_on_interrupt
from .options import Count, Guidance, Model, OutputOfPrompt, Seed, Steps, preset_of
from .toybox_hint import hint_at_toybox


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
        str | None,
        typer.Option(metavar="N|L,T,R,B", help="Pixels to add and paint on every side, or on each."),
    ] = None,
    count: Count = 1,
    seed: Seed = 0,
    preset: Annotated[str | None, preset_of("glide-inpaint")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    model: Model = "mini",
    output: OutputOfPrompt = None,
) -> None:
    """Repaint part of a photo as your words say, leave the rest as it is, and print where the pictures are."""
    prompt = prompt.encode("utf-8", "replace").decode()
    check_request(prompt, count, steps, guidance, seed)
    check_preset(preset, "glide-inpaint")
    target = place_for(output, prompt)
    where = _where(photo, mask, box, expand)
    with cleaning_up_on_interrupt():
        ready_model(model, "inpainting")
    hint_at_toybox(model, prompt)

    typer.echo(f"loading {model} …", err=True)
    from ..pipelines import pipeline

    pipe = pipeline("inpainting", model)
    if output and output.suffix.lower() in (".jpg", ".jpeg"):
        typer.echo("hint: a JPEG changes all pixels a little; .png and .webp keep the photo's own", err=True)
    said = {"photo": photo.name, "mask": mask and mask.name, "box": box, "expand": expand}
    said = {name: str(value) for name, value in said.items() if value}
    made = pipe(
        prompt,
        **where,
        preset=preset,
        num_images_per_prompt=count,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        callback_on_batch_end=partial(write_drawn, target, alone=count == 1, said=said),
    )
    if count > 1:
        write_sheet(target(), made, said)


def _where(photo: Path, mask: Path | None, box: str | None, expand: str | None) -> dict[str, Any]:
    """The pipeline's arguments that say what to paint, checked."""
    from ..clip.preprocess import open_upright
    from ..pipelines.photo_regions import mask_photo

    where = {
        "image": open_upright(photo),
        "mask": None if mask is None else open_upright(mask),
        "box": None if box is None else _numbers(box, "--box"),
        "expand": 0 if expand is None else _numbers(expand, "--expand"),
    }
    mask_photo(**where)
    return where


def _numbers(text: str, option: str) -> int | list[int]:
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes whole numbers with commas between them, not {text!r}") from None
    return numbers if len(numbers) > 1 else numbers[0]
