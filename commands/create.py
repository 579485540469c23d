"""`maquette create`: words to pictures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..pipelines.families import FAMILIES, chosen_family
from ..pipelines.presets import PRESETS, check_preset
from ..pipelines.request import check_drawing, check_request
from .drawn_pictures import place_for, write_drawn, write_sheet
from .interrupt import cleaning_up_on_interrupt
from .options import Count, Guidance, OutputOfPrompt, Seed, Steps
from .toybox_hint import hint_at_toybox

if TYPE_CHECKING:
    from ..pipelines.base import PictureOutput


def create(
    prompt: Annotated[str, typer.Argument(help="What to draw, such as 'a red chair'.")],
    count: Count = 1,
    seed: Seed = 0,
    size: Annotated[
        int | None, typer.Option(help="Pixels of a side, a multiple of 4.", show_default="the model's")
    ] = None,
    photo: Annotated[Path | None, typer.Option("--from", help="Begin with this picture.")] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How much of it to draw anew, above 0 to 1.", show_default="0.6"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"How to sample: {'; '.join(f'{each}: ' + ', '.join(PRESETS[each]) for each in FAMILIES)}.",
            show_default="as the model says",
        ),
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    clip_guidance: Annotated[
        float | None, typer.Option(help="How strongly a CLIP guides as well, such as 1.", show_default="not")
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(help="Which CLIP that is.", show_default="the model's noise-aware one, or mini"),
    ] = None,
    model: Annotated[str, typer.Option(help="A model's name, folder, or original base.pt.")] = "mini",
    via: Annotated[
        str | None, typer.Option(help="glide or unclip.", show_default="what the model is; mini: glide")
    ] = None,
    best_of: Annotated[
        int | None,
        typer.Option(help="Draw this many and keep the -n that fit the words best, by mini's CLIP."),
    ] = None,
    output: OutputOfPrompt = None,
) -> None:
    """Make pictures of your words and print where they are.

    Each batch is written as soon as it is drawn, so that nothing is lost if a later one fails.
    """
    prompt = prompt.encode("utf-8", "replace").decode()
    check_request(prompt, count, steps, guidance, seed)
    check_drawing(size, strength, photo is not None, clip_guidance, preset)
    if best_of is not None and best_of < count:
        raise ValueError(f"--best-of must be at least {count}, the pictures to keep, not {best_of}")
    if clip is not None and clip_guidance is None:
        raise ValueError("--clip says which CLIP guides; say how far as well, such as --clip-guidance 1")
    drawn = best_of or count
    check_request(prompt, drawn, seed=seed)
    target = place_for(output, prompt)
    picture = None if photo is None else _opened(photo)
    of_glide = {
        "--size": size,
        "--from": photo,
        "--strength": strength,
        "--clip-guidance": clip_guidance,
        "--clip": clip,
    }
    with cleaning_up_on_interrupt():
        family = chosen_family(model, via)
    check_preset(preset, family)
    if family == "unclip" and (given := [name for name, value in of_glide.items() if value is not None]):
        raise ValueError(f"{given[0]} goes with GLIDE, and {model} draws via unCLIP; leave it out")
    hint_at_toybox(model, prompt)

    typer.echo(f"loading {model} …", err=True)
    from ..clip.model import ClipModel
    from ..pipelines import pipeline
    from ..pipelines.ranking import ranked

    pipe = pipeline("text-to-image", model, via=family)
    judge = None if best_of is None else ClipModel.from_pretrained("mini")
    guide = None
    if clip_guidance is not None and (clip is not None or pipe.noised_clip is None):
        if clip is None and model != "mini":
            raise ValueError(f"{model} has no CLIP of its own; say which one guides, such as --clip ViT-B/32")
        guide = ClipModel.from_pretrained(clip or "mini")
    said = {} if photo is None else {"from": photo.name}
    keep = partial(write_drawn, target, alone=count == 1, said=said)
    more: dict[str, Any] = {"image": picture, "strength": strength, "size": size}
    more |= {"clip_guidance_scale": clip_guidance, "clip": guide}
    made = pipe(
        prompt,
        **(more if family == "glide" else {}),
        preset=preset,
        num_images_per_prompt=drawn,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        callback_on_batch_end=None if judge else keep,
    )
    if judge is not None:
        made = _best(ranked(judge, prompt, made), count)
        keep(made)
    if count > 1:
        write_sheet(target(), made, said)


def _best(made: PictureOutput, count: int) -> PictureOutput:
    """The first `count` of ranked pictures; says how all scored."""
    for place, settings in enumerate(made.settings):
        kept = "  kept" if place < count else ""
        score = float(settings["clip_score"])
        typer.echo(f"seed {settings['seed']}: CLIP score {score:.3f}{kept}", err=True)
    return replace(made, images=made.images[:count], settings=made.settings[:count])


def _opened(photo: Path) -> Any:
    from ..clip.preprocess import open_picture

    return open_picture(photo)
