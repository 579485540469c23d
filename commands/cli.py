"""The `maquette` command line: arguments in, files out, one sentence when something is wrong."""

import sys
import warnings
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from .blend import blend
from .classify import classify
from .clouds import clouds
from .convert import convert
from .create import create
from .edit import edit
from .embed import embed
from .embed_shards import embed_shards
from .evaluate_clip import evaluate_clip
from .evaluate_clouds import evaluate_clouds
from .inpaint import inpaint
from .models import download, models
from .search import search
from .shape import shape
from .toybox import toybox
from .train import train
from .vary import vary

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="Words to pictures to 3D.")
drawing = (create, inpaint, vary, blend, edit, shape)
looking = (classify, embed, embed_shards, search)
for command in (*drawing, *looking, toybox, clouds, train, models, download, convert):
    app.command()(command)
evaluate = typer.Typer()
evaluate.command("clip")(evaluate_clip)
evaluate.command("clouds")(evaluate_clouds)
app.add_typer(evaluate, name="evaluate")
app.add_typer(evaluate, name="eval", hidden=True)


def _warn(message: Warning | str, *_: object) -> None:
    """Print a warning on lines of its own, beside a progress bar too."""
    from tqdm import tqdm

    tqdm.write(f"warning: {message}", sys.stderr)


def run(arguments: list[str]) -> int:
    """Run a command line without the program's name; returns its exit code.

    Prints errors as one line, or with --debug among the arguments as Python does.
    """
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = app(arguments or ["--help"], standalone_mode=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in a library that is written in Rust is not an Exception
        if debug:
            raise
        # Errors of usage give their text by this method; which module holds their class depends on typer's version.
        message = getattr(error, "format_message", None)
        said = message() if message else str(error) or type(error).__name__
        said += "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        typer.echo(f"maquette: {' '.join(said.split())}", err=True)
        return 2
    return code if isinstance(code, int) else 0


@evaluate.callback(invoke_without_command=True)
def measure(context: typer.Context) -> None:
    """Measure a CLIP on your data, or how good generated clouds are."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"maquette {version_of('maquette')}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    # Only for the help: `run` takes --debug out of the arguments, wherever it stands, before typer reads them.
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Words to pictures to 3D."""
