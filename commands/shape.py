"""`maquette shape`: words or a photo to a coloured cloud or a mesh, and a cloud to a mesh."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..pipelines.convert import ready_model
from ..pipelines.families import check_family
from ..pipelines.picture_files import check_output, free_name
from ..pipelines.point_e_files import check_has_point_e, point_e_task
from ..pipelines.presets import PRESETS, check_preset
from ..pipelines.request import check_numbers, check_request
from .interrupt import clean_up_on_interrupt, cleaning_up_on_interrupt
from .toybox_hint import hint_at_toybox

if TYPE_CHECKING:
    from PIL.Image import Image
    from trimesh import Trimesh

    from ..pipelines import PointEPipeline
    from ..pipelines.point_e import ShapeOutput
    from ..point_e import PointCloud


def shape(
    what: Annotated[
        str,
        typer.Argument(
            help="Words such as 'a red chair', a photo of one thing, or a cloud to make a mesh of (.ply, .npz).",
            metavar="WORDS|PHOTO|CLOUD",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            help="The file to write: .ply or .npz, a cloud; .glb, .obj, .stl or …-mesh.ply, a mesh; .html, a page to "
            "turn it around in; .gif or .png, pictures of it.",
            show_default="a new .glb named after the words",
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", help="How many shapes, each in a file of its own.")] = 1,
    seed: Annotated[int, typer.Option(help="Shape i is the one of seed + i.")] = 0,
    via: Annotated[
        str | None,
        typer.Option(
            help="glide or unclip: what draws the words for a model that makes shapes of pictures.",
            show_default="the model's own way",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"How to sample: {', '.join(PRESETS['point-e'])}.", show_default="as the model says"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps of the coarse cloud.", show_default="the model's")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow words or photo.", show_default="the model's")
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            help="Points of the coarse cloud; few take less time, many more.", show_default="the model's"
        ),
    ] = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="Take the grid's steps out of a mesh.")] = False,
    triangles: Annotated[
        int | None, typer.Option(help="Leave at most so many of a mesh.", show_default="all")
    ] = None,
    remove_background: Annotated[
        bool, typer.Option("--remove-background", help="Cut the thing out of the photo first, with rembg.")
    ] = False,
    model: Annotated[str, typer.Option(help="A model's name, folder, or original base_40m.pt.")] = "mini",
) -> None:
    """Make a shape of your words, of a photo of one thing, or of a cloud, and print where it is."""
    what = what.encode("utf-8", "replace").decode()
    by_cloud = Path(what).suffix.lower() in (".ply", ".npz")
    by_photo = not by_cloud and _is_photo(what)
    if by_cloud:
        making = {"-n": count != 1, "--seed": seed != 0, "--remove-background": remove_background}
        asked = {
            "--via": via,
            "--preset": preset,
            "--steps": steps,
            "--guidance": guidance,
            "--points": points,
        }
        making |= {name: value is not None for name, value in asked.items()}
        if given := [name for name, said in making.items() if said]:
            raise ValueError(f"{what} is a cloud, and {', '.join(given)} is for making one; leave that out")
    elif by_photo:
        check_numbers(1, count, steps, guidance, seed)
    else:
        check_request(what, count, steps, guidance, seed)
    check_preset(preset, "point-e")
    check_family(via)
    if by_photo and via is not None:
        raise ValueError("--via says what draws the words, and there is a photo; leave it out")
    if remove_background and not by_photo:
        raise ValueError("--remove-background goes with a photo, and there are words; leave it out")
    check_has_point_e(model)
    from ..point_e.export import needs_mesh, save_shape
    from ..point_e.mesh import check_triangles

    name = Path(what).stem if by_photo or by_cloud else what
    target = output or free_name(name, Path.cwd(), ".glb")
    mesh, drawn = needs_mesh(target), target.suffix.lower() in (".html", ".gif", ".png")
    if (smooth or triangles is not None) and not (mesh or drawn):
        raise ValueError(
            f"--smooth and --triangles are for meshes, and {target.name} is a cloud; leave them out"
        )
    if triangles is not None:
        check_triangles(triangles)
    check_output(target, [target.suffix.lower()])
    if by_cloud:
        from ..point_e import PointCloud

        cloud, solid = PointCloud.load(what), None
        if mesh or drawn:
            cloud = _fitted(cloud)
            solid = _mesh_of(cloud, what, model, smooth, triangles, needed=mesh)
        clean_up_on_interrupt()
        typer.echo(save_shape(target, cloud, solid).resolve())
        return
    photo = _photo(what, remove_background) if by_photo else None
    with cleaning_up_on_interrupt():
        ready_model(model, point_e_task(model))
    if not by_photo:
        hint_at_toybox(model, what)

    typer.echo(f"loading {model} …", err=True)
    from ..pipelines import pipeline

    pipe: PointEPipeline = pipeline("image-to-3d" if by_photo else "text-to-3d", model, via=via)
    if photo is not None:
        _hint_at_background(pipe, photo)

    def keep(made: ShapeOutput) -> None:
        clean_up_on_interrupt()
        meshes = made.meshes or [None] * len(made.clouds)
        for cloud, solid, settings in zip(made.clouds, meshes, made.settings, strict=True):
            place = target if count == 1 else _named_by_seed(target, settings["seed"])
            typer.echo(save_shape(place, cloud, solid).resolve())

    pipe(
        None if by_photo else what,
        image=photo,
        points=points,
        mesh=mesh or (drawn and pipe.surface is not None),
        smooth=smooth,
        triangles=triangles,
        preset=preset,
        num_images_per_prompt=count,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        callback_on_batch_end=keep,
    )


def _fitted(cloud: PointCloud) -> PointCloud:
    """A cloud where meshes and drawings have it, with a hint if it was elsewhere."""
    from ..point_e.mesh import SIDE

    if (reach := abs(cloud.coords).max()) <= SIDE / 2:
        return cloud
    typer.echo(f"hint: the cloud reached {reach:.3g} from the origin; it was centred and scaled", err=True)
    return cloud.fitted()


def _mesh_of(
    cloud: PointCloud, name: str, model: str, smooth: bool, triangles: int | None, needed: bool
) -> Trimesh | None:
    """A mesh of a cloud that is there, of as many of its points as the model's surface model knows.

    needed: raise ValueError where there can be none, for a picture of the cloud does without.
    """
    from ..point_e.mesh import check_solid, make_mesh

    try:
        check_solid(cloud)
    except ValueError as error:
        if needed:
            raise ValueError(f"{name}: {error}") from None
        typer.echo(f"hint: there is no mesh beside it: {error}", err=True)
        return None
    with cleaning_up_on_interrupt():
        ready_model(model, point_e_task(model))
    typer.echo(f"loading {model} …", err=True)
    from ..pipelines import pipeline

    surface = pipeline("image-to-3d", model).surface
    if surface is None:
        if needed:
            raise ValueError(f"{model} has no surface model and makes no meshes; give another --model")
        return None
    cloud = cloud.farthest_sample(surface.config["n_ctx"])
    return make_mesh(surface, cloud, smooth=smooth, triangles=triangles)


def _is_photo(what: str) -> bool:
    """Words do not end like a picture's file, and a name that does and is none is a slip; others have to be there."""
    ends = Path(what).suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
    return ends or os.path.isfile(what)


def _photo(name: str, remove_background: bool) -> Image:
    from ..clip.preprocess import open_picture
    from ..pipelines.background import without_background

    picture = open_picture(name)
    return without_background(picture) if remove_background else picture


def _hint_at_background(pipe: PointEPipeline, photo: Image) -> None:
    from ..pipelines.background import can_remove_background, has_background

    if pipe.config["plain_background"] and has_background(photo):
        how = "" if can_remove_background() else ", after pip install 'rembg[cpu]'"
        typer.echo(
            "hint: the photo has a background, and this model knows one thing on plain white; "
            f"--remove-background cuts it out{how}",
            err=True,
        )


def _named_by_seed(target: Path, seed: str) -> Path:
    """Where one of several shapes lies. A mesh's name ends in -mesh."""
    stem = target.stem.removesuffix("-mesh")
    end = target.stem[len(stem) :]
    return target.with_name(f"{stem}-seed{seed}{end}{target.suffix}")
