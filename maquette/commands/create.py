"""`maquette create`: words to pictures."""

import warnings
from pathlib import Path
from typing import Annotated, Any, NamedTuple

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
    best_of: Annotated[
        int | None,
        typer.Option(
            help="Draw so many and keep the -n that fit the words best, by mini's CLIP.", show_default=False
        ),
    ] = None,
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
    drawn = _drawn(request.check_count(count), best_of)
    request.check_seed(seed, drawn)
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

    # First, as it may fail, and drawing takes long.
    clip = room("clip.model").ClipModel.from_pretrained("mini") if best_of is not None else None
    made = _sample(prompt, drawn, seed, steps, guidance, model)
    if clip is not None:
        made = _best(clip, prompt, made, count)
    target = output or files.free_name(prompt, Path.cwd())
    pictures = [(target, made[0].image, made[0].settings)]
    if count > 1:
        sheet = room("toybox.sheet").contact_sheet([one.image for one in made])
        seeds = ", ".join(str(one.seed) for one in made) if best_of else f"{seed} to {seed + count - 1}"
        pictures = [(target, sheet, {**made[0].settings, "seed": seeds})]
        for one in made:
            beside = target.with_name(f"{target.stem}-seed{one.seed}{target.suffix}")
            pictures.append((beside, one.image, one.settings))
    clean_up_on_interrupt()
    files.save_pictures(pictures)
    for path, *_ in pictures:
        typer.echo(path.resolve())


class Made(NamedTuple):
    """A picture, its seed, and what made it as text."""

    seed: int
    image: Any
    settings: dict[str, str]


def _drawn(count: int, best_of: int | None) -> int:
    """How many pictures to draw. Raises ValueError for fewer than are to be kept, and for more than 10,000."""
    if best_of is not None and not count <= best_of <= 10_000:
        raise ValueError(
            f"--best-of must be a whole number from {count}, the pictures to keep, to 10000, not {best_of}"
        )
    return best_of or count


def _best(clip: Any, prompt: str, made: list[Made], count: int) -> list[Made]:
    """The `count` pictures that fit best, best first; prints all scores."""
    ranking = room("pipelines.ranking")
    scores = ranking.clip_scores(clip, prompt, [one.image for one in made])
    order = ranking.best(scores, len(scores))
    for place, i in enumerate(order):
        kept = "  kept" if place < count else ""
        typer.echo(f"seed {made[i].seed}: CLIP score {scores[i]:.3f}{kept}", err=True)
    return [
        made[i]._replace(settings={**made[i].settings, "clip_score": f"{scores[i]:.4f}"})
        for i in order[:count]
    ]


def _sample(prompt, count, seed, steps, guidance, model) -> list[Made]:
    """The pictures of so many seeds, in their order."""
    pipelines = room("pipelines")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", pipelines.PromptWarning)
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
    settings = {
        "prompt": prompt,
        "model": model,
        "steps": str(pipe.config["num_inference_steps"] if steps is None else steps),
        "guidance": str(pipe.config["guidance_scale"] if guidance is None else guidance),
        "version": f"maquette {__version__}",
    }
    return [Made(seed + i, image, {**settings, "seed": str(seed + i)}) for i, image in enumerate(images)]
