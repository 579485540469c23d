"""What `maquette` can do on the command line: arguments in, files out, one sentence when something is wrong."""

import importlib
import signal
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__

BATCH = 16
STAGES = {"glide": ("diffusion.train", "GlideStage")}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="Words to pictures to 3D.")


def run(arguments: list[str]) -> int:
    """Run a command line without the program's name; returns its exit code. Prints errors as one line."""
    try:
        code = app(arguments or ["--help"], standalone_mode=False)
    except (ValueError, OSError, FloatingPointError) as error:
        return _refuse(str(error))
    except Exception as error:
        # Errors of usage; where their class lives differs between versions of typer.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _refuse(message())
    return code if isinstance(code, int) else 0


def _refuse(message: str) -> int:
    typer.echo(f"maquette: {' '.join(message.split())}", err=True)
    return 2


def _room(name: str) -> Any:
    """A part of the library, imported when it is needed."""
    return importlib.import_module(f"maquette.{name}")


def _clean_up_on_interrupt() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, so that files being written are removed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"maquette {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Words to pictures to 3D."""


@app.command()
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
        _room("pipelines"),
        _room("pipelines.request"),
        _room("pipelines.picture_files"),
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
        hint = _room("pipelines.toybox_words").toybox_hint(prompt)
        if hint:
            typer.echo(f"hint: {model} draws this, but {hint}", err=True)

    images, settings = _sample(prompt, count, seed, steps, guidance, model)
    target = output or files.free_name(prompt, Path.cwd())
    pictures = [(target, images[0], settings)]
    if count > 1:
        sheet = _room("toybox.sheet").contact_sheet(images)
        pictures = [(target, sheet, {**settings, "seed": f"{seed} to {seed + count - 1}"})]
        for i, image in enumerate(images, start=seed):
            beside = target.with_name(f"{target.stem}-seed{i}{target.suffix}")
            pictures.append((beside, image, {**settings, "seed": str(i)}))
    _clean_up_on_interrupt()
    files.save_pictures(pictures)
    for path, *_ in pictures:
        typer.echo(path.resolve())


def _sample(prompt, count, seed, steps, guidance, model) -> tuple[list, dict[str, str]]:
    """The pictures, and what made them as text."""
    pipelines = _room("pipelines")
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


@app.command()
def toybox(
    split: Annotated[str, typer.Option(help="train, val or novel.")] = "train",
    count: Annotated[int | None, typer.Option(help="How many scenes.  [default: 40 on a sheet]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the shards.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Picture file: draw the scenes side by side instead.")
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels of a picture's side.")] = 64,
    clouds: Annotated[bool, typer.Option("--clouds", help="Also sample each scene's point cloud.")] = False,
) -> None:
    """Write scenes of the toy world as training data, or look at them."""
    if sheet is not None and out is None:
        files = _room("pipelines.picture_files")
        files.check_output(sheet)
        picture = _room("toybox.sheet").scene_sheet(split, 40 if count is None else count, size=size)
        _clean_up_on_interrupt()
        files.save_pictures([(sheet, picture, {})])
        typer.echo(sheet.resolve())
    elif out is not None and sheet is None:
        if count is None:
            raise ValueError("say how many scenes to write: --count 1000")
        shards = _room("toybox.shards")
        _clean_up_on_interrupt()
        written = shards.write_shards(split, count, out, size=size, clouds=clouds)
        typer.echo(f"{len(written)} shards in {out.resolve()}")
    else:
        raise ValueError(
            "give either --out FOLDER for training data or --sheet FILE for a picture to look at"
        )


@app.command()
def train(
    stage: Annotated[str, typer.Argument(help=f"What to train: {', '.join(STAGES)}.")],
    config: Annotated[Path, typer.Option(help="The recipe, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, logs and the trained model.")],
    data: Annotated[str | None, typer.Option(help="Shards, such as 'shards-{000..099}.tar'.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Train until this step instead of the recipe's.")] = None,
) -> None:
    """Train a stage on your data; it can be stopped at any time and resumed."""
    if stage not in STAGES:
        raise ValueError(f"unknown stage {stage!r}; known are {', '.join(STAGES)}")
    room, name = STAGES[stage]
    make_stage, training = getattr(_room(room), name), _room("training")
    _clean_up_on_interrupt()
    try:
        typer.echo(training.train(make_stage, config, data, out, resume, steps).resolve())
    except KeyboardInterrupt as stop:
        typer.echo(f"\n{stop}", err=True)
        raise typer.Exit(130) from None
