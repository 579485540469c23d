"""`maquette create`: words to pictures."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from .rooms import clean_up_on_interrupt, room

BATCH = 16


def create(
    prompt: Annotated[str, typer.Argument(help="What to draw, such as 'a red chair'.")],
    count: Annotated[int, typer.Option("-n", help="How many pictures; more than one also make a sheet.")] = 1,
    seed: Annotated[int, typer.Option(help="Picture i is the one of seed + i.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.  [default: the model's]")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the words.  [default: the model's]")
    ] = None,
    model: Annotated[str, typer.Option(help="A model's name, or the folder of one.")] = "mini",
    output: Annotated[
        Path | None,
        typer.Option("-o", help="The file to write.  [default: a new one named after the prompt]"),
    ] = None,
) -> None:
    """Make pictures of your words and print where they are."""
    prompt = prompt.encode("utf-8", "replace").decode()
    pipelines, request, files = (
        room("pipelines"),
        room("pipelines.request"),
        room("pipelines.picture_files"),
    )
    request.check_prompts(prompt)
    request.check_seed(seed, request.check_count(count))
    if steps is not None:
        request.check_steps(steps)
    if guidance is not None:
        request.check_guidance(guidance)
    pipelines.find_model("text-to-image", model)
    files.check_output(output or Path.cwd() / "picture.png")
    if pipelines.known_models().get(model, {}).get("knows") == "toybox":
        hint = room("pipelines.toybox_words").toybox_hint(prompt)
        if hint:
            typer.echo(f"hint: {model} draws this, but {hint}", err=True)

    images, settings = _sample(prompt, count, seed, steps, guidance, model)
    target = output or files.free_name(prompt, Path.cwd())
    pictures = [(target, images[0], settings)]
    if count > 1:
        sheet = room("toybox.sheet").contact_sheet(images)
        pictures = [(target, sheet, {**settings, "seed": f"{seed} to {seed + count - 1}"})]
        for i, image in enumerate(images, start=seed):
            beside = target.with_name(f"{target.stem}-seed{i}{target.suffix}")
            pictures.append((beside, image, {**settings, "seed": str(i)}))
    clean_up_on_interrupt()
    files.save_pictures(pictures)
    for path, *_ in pictures:
        typer.echo(path.resolve())


def _sample(prompt, count, seed, steps, guidance, model) -> tuple[list, dict[str, str]]:
    """The pictures, and what made them as text."""
    pipelines = room("pipelines")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", pipelines.PromptWarning)
        warnings.showwarning = lambda message, *_: typer.echo(f"warning: {message}", err=True)
        typer.echo(f"loading {model} …", err=True)
        pipe = pipelines.pipeline("text-to-image", model)
        images = []
        for first in range(0, count, BATCH):
            some = min(BATCH, count - first)
            which = f" {first + 1} to {first + some} of {count}" if count > 1 else ""
            pipe.set_progress_bar_config(desc=f"drawing{which}", unit="step")
            images += pipe(
                prompt,
                num_images_per_prompt=some,
                num_inference_steps=steps,
                guidance_scale=guidance,
                seed=seed + first,
            ).images
    return images, {
        "prompt": prompt,
        "seed": str(seed),
        "model": model,
        "steps": str(pipe.config["num_inference_steps"] if steps is None else steps),
        "guidance": str(pipe.config["guidance_scale"] if guidance is None else guidance),
        "version": f"maquette {__version__}",
    }
