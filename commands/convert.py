"""`maquette convert`: original checkpoints to a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from .interrupt import clean_up_on_interrupt


def convert(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="GLIDE's base.pt and, if you have them, upsample.pt, clip_image_enc.pt and clip_text_enc.pt; "
            "or base_inpaint.pt and upsample_inpaint.pt. Or Karlo's prior, ViT-L-14_stats.th, decoder and "
            "ViT-L-14.pt and, if you have it, improved-sr. Or one of Point-E's base networks, such as base_40m.pt, "
            "with ViT-L-14.pt and, if you have them, upsample_40m.pt and sdf.pt. Files are recognised by their "
            "weights, not by their names.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The model folder to write, for --model.", show_default=False)
    ],
    vocabulary: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="GPT-2's, two files.",
            metavar="ENCODER.JSON VOCAB.BPE",
            show_default="what is here, or downloaded",
        ),
    ] = None,
) -> None:
    """Make a model folder of original checkpoints of GLIDE, Karlo or Point-E, and print where it is."""
    from ..pipelines.convert import convert as convert_files
    from ..weights.model_folder import INDEX
    from ..weights.write_whole import check_writable

    if (out / INDEX).exists():
        raise FileExistsError(f"{out} holds a model already; give a new folder as --out")
    check_writable(out)
    clean_up_on_interrupt()
    convert_files(files, out, vocabulary)
    typer.echo(out.resolve())
