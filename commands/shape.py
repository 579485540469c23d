"""`maquette shape`: words or a photo to a coloured cloud or a mesh, and a cloud to a mesh."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..pipelines.convert import ready_model
from ..pipelines.families import check_family
from ..pipelines.picture_files import check_output, free_name
from ..pipelines.point_e_files import check_has_point_e, point_e_task
from ..pipelines.presets import PRESETS, check_preset
from ..pipelines.request import check_numbers, check_points, check_request
from ..weights.table import known_models
from .interrupt import clean_up_on_interrupt, cleaning_up_on_interrupt
from .toybox_hint import hint_at_toybox

if TYPE_CHECKING:
    from PIL.Image import Image
    from trimesh import Trimesh

    from ..pipelines import PointEPipeline
    from ..pipelines.point_e import ShapeOutput
    from ..point_e import PointCloud, SurfaceModel

UNCONDITIONAL = "unconditional-3d"
OF_MESHES = (".glb", ".gltf", ".obj", ".stl")
NO_SURFACE = "has no surface model and makes no meshes; give another --model"


def shape(
    what: Annotated[
        str | None,
        typer.Argument(
            help="Words such as 'a red chair', a photo of one thing, or a cloud to make a mesh of (.ply, .npz). "
            "Leave it out for an unconditional model.",
            metavar="[WORDS|PHOTO|CLOUD]",
            show_default=False,
        ),
    ] = None,
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
            help="glide or unclip: what draws a picture of the words first, for a model that reads pictures only.",
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
        float | None,
        typer.Option(help="How closely to follow the words or the photo.", show_default="the model's"),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            help="Points of the coarse cloud; fewer are faster, more are slower.", show_default="the model's"
        ),
    ] = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="Smooth away the grid's steps in a mesh.")] = False,
    triangles: Annotated[
        int | None, typer.Option(help="Reduce a mesh to at most this many triangles.", show_default="all")
    ] = None,
    remove_background: Annotated[
        bool, typer.Option("--remove-background", help="Cut the thing out of the photo first, with rembg.")
    ] = False,
    model: Annotated[str, typer.Option(help="A model's name, folder, or original base_40m.pt.")] = "mini",
) -> None:
    """Make a shape of your words, of a photo of one thing, or of a cloud, and print where it is."""
    if what is None and model in known_models() and point_e_task(model) != UNCONDITIONAL:
        raise ValueError("say what to make a shape of: words such as 'a red chair', a photo, or a cloud")
    unasked, what = what is None, (what or "shape").encode("utf-8", "replace").decode()
    if Path(what).suffix.lower() in OF_MESHES:
        raise ValueError(f"{what} is a mesh's name; shape takes words, a photo or a cloud (.ply, .npz)")
    if os.sep in what and os.path.isdir(what):
        raise ValueError(f"{what} is a folder; shape takes words, a photo or a cloud (.ply, .npz)")
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
    elif by_photo or unasked:
        check_numbers(1, count, steps, guidance, seed)
    else:
        check_request(what, count, steps, guidance, seed)
    check_points(points)
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
    placed = cache(lambda: output or free_name(name, Path.cwd(), ".glb"))
    target = output or Path("shape.glb")
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
            surface = partial(_surface_of, model)
            solid = _mesh_of(cloud, surface, f"{what}: ", model, smooth, triangles, needed=mesh)
        clean_up_on_interrupt()
        typer.echo(save_shape(placed(), cloud, solid).resolve())
        return
    photo = _photo(what, remove_background) if by_photo else None
    with cleaning_up_on_interrupt():
        ready_model(model, point_e_task(model))
    if not (by_photo or unasked):
        hint_at_toybox(model, what)

    typer.echo(f"loading {model} …", err=True)
    from ..pipelines import pipeline

    task = UNCONDITIONAL if unasked else "image-to-3d" if by_photo else "text-to-3d"
    pipe: PointEPipeline = pipeline(task, model, via=via)
    if mesh and pipe.surface is None:
        raise ValueError(f"{model} {NO_SURFACE}")
    if photo is not None:
        _hint_at_background(pipe, photo)

    failed: list[str] = []

    def keep(made: ShapeOutput) -> None:
        clean_up_on_interrupt()
        for cloud, settings in zip(made.clouds, made.settings, strict=True):
            place = placed() if count == 1 else _named_by_seed(placed(), settings["seed"])
            solid = None
            try:
                if mesh or drawn:
                    solid = _mesh_of(cloud, lambda: pipe.surface, "", model, smooth, triangles, needed=mesh)
            except ValueError as error:
                if count == 1:
                    raise
                failed.append(f"seed {settings['seed']}: {error}")
                continue
            typer.echo(save_shape(place, cloud, solid).resolve())

    pipe(
        None if by_photo or unasked else what,
        image=photo,
        points=points,
        preset=preset,
        num_images_per_prompt=count,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        callback_on_batch_end=keep,
    )
    if failed:
        raise ValueError("; ".join(failed))


def _fitted(cloud: PointCloud) -> PointCloud:
    """A cloud where meshes and drawings have it, with a hint if it was elsewhere or of another size."""
    from ..point_e.mesh import SIDE

    reach, length = abs(cloud.coords).max(), (cloud.coords.max(0) - cloud.coords.min(0)).max()
    if reach <= SIDE / 2 and not 0 < length < SIDE / 4:
        return cloud
    typer.echo(
        f"hint: the cloud is {length:.3g} long and reached {reach:.3g} from the origin; it was centred and scaled",
        err=True,
    )
    return cloud.fitted()


def _surface_of(model: str) -> SurfaceModel | None:
    """A model's surface model, if it has one."""
    with cleaning_up_on_interrupt():
        ready_model(model, point_e_task(model))
    typer.echo(f"loading {model} …", err=True)
    from ..pipelines import pipeline

    return pipeline("image-to-3d", model).surface


def _mesh_of(
    cloud: PointCloud,
    surface: Callable[[], SurfaceModel | None],
    name: str,
    model: str,
    smooth: bool,
    triangles: int | None,
    needed: bool,
) -> Trimesh | None:
    """A mesh of a cloud, of as many of its points as the model's surface model knows.

    surface: gives that, if the cloud can have a mesh. needed: raise ValueError, with `name` before, where there can be
    none, for a picture of the cloud does without.
    """
    from ..point_e.mesh import check_solid, make_mesh

    def none(why: object) -> None:
        if needed:
            raise ValueError(f"{name}{why}")
        typer.echo(f"hint: there is no mesh beside it: {why}", err=True)

    try:
        check_solid(cloud)
    except ValueError as error:
        return none(error)
    if (network := surface()) is None:
        return none(f"{model} {NO_SURFACE}")
    cloud = cloud.farthest_sample(network.config["n_ctx"])
    try:
        return make_mesh(network, cloud, smooth=smooth, triangles=triangles)
    except ValueError as error:
        return none(error)


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
