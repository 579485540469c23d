"""`maquette create`: words to pictures."""

from pathlib import Path
from typing import Annotated

import typer

from ..pipelines.picture_files import check_output, free_name, save_drawn
from ..pipelines.request import check_request
from ..weights import find_model, known_models
from .interrupt import clean_up_on_interrupt


def create(
    prompt: Annotated[str, typer.Argument(help="What to draw, such as 'a red chair'.")],
    count: Annotated[int, typer.Option("-n", help="How many pictures; more than one also make a sheet.")] = 1,
    seed: Annotated[int, typer.Option(help="Picture i is the one of seed + i.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", show_default="the model's")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the words.", show_default="the model's")
    ] = None,
    model: Annotated[str, typer.Option(help="A model's name, or the folder of one.")] = "mini",
    best_of: Annotated[
        int | None,
        typer.Option(help="Draw so many and keep the -n that fit the words best, by mini's CLIP."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", help="The file to write.", show_default="a new one named after the prompt"),
    ] = None,
) -> None:
    """Make pictures of your words and print where they are."""
    prompt = prompt.encode("utf-8", "replace").decode()
    check_request(prompt, count, steps, guidance, seed)
    if best_of is not None and best_of < count:
        raise ValueError(f"--best-of must be at least {count}, the pictures to keep, not {best_of}")
    drawn = best_of or count
    check_request(prompt, drawn, seed=seed)
    find_model(model, "text-to-image")
    check_output(output or Path.cwd() / "picture.png")
    if known_models().get(model, {}).get("knows") == "toybox":
        from ..pipelines.toybox_words import toybox_hint

        if hint := toybox_hint(prompt):
            typer.echo(f"hint: {model} draws this, but {hint}", err=True)

    typer.echo(f"loading {model} …", err=True)
    from ..clip.model import ClipModel
    from ..pipelines import pipeline
    from ..pipelines.ranking import ranked

    pipe = pipeline("text-to-image", model)
    clip = None if best_of is None else ClipModel.from_pretrained("mini")
    made = pipe(
        prompt, num_images_per_prompt=drawn, num_inference_steps=steps, guidance_scale=guidance, seed=seed
    )
    if clip is not None:
        made = ranked(clip, prompt, made)
        for place, settings in enumerate(made.settings):
            kept = "  kept" if place < count else ""
            score = float(settings["clip_score"])
            typer.echo(f"seed {settings['seed']}: CLIP score {score:.3f}{kept}", err=True)
    clean_up_on_interrupt()
    target = output or free_name(prompt, Path.cwd())
    for path in save_drawn(target, made.images[:count], made.settings[:count]):
        typer.echo(path.resolve())
