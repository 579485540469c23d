"""`maquette shape`: words or a photo to a coloured cloud or a mesh, and a cloud to a mesh."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..pipelines.convert import ready_model
from ..pipelines.families import check_family
from ..pipelines.picture_files import named_by_seed
from ..pipelines.point_e_files import point_e_task
from ..pipelines.presets import check_preset
from ..pipelines.request import check_numbers, check_points, check_request
from ..weights.table import known_models
from .drawn_pictures import place_for
from .interrupt import clean_up_on_interrupt, cleaning_up_on_interrupt
from .options import preset_of
from .toybox_hint import hint_at_toybox

if TYPE_CHECKING:
    from PIL.Image import Image
    from trimesh import Trimesh

    from ..pipelines import PointEPipeline
    from ..pipelines.point_e import ShapeOutput
    from ..point_e import PointCloud, SurfaceModel

TASKS = {"words": "text-to-3d", "photo": "image-to-3d", "nothing": "unconditional-3d"}
OF_CLOUDS = (".ply", ".npz")
OF_PHOTOS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
OF_MESHES = (".glb", ".gltf", ".obj", ".stl")
NO_SURFACE = "has no surface model and makes no meshes; give another --model"


@dataclass(frozen=True)
class Meshing:
    """How the clouds of a call become meshes.

    needed: the file holds a mesh, and it is an error if a cloud can have none; otherwise the file shows one if there is
    one. The other fields are the command's options.
    """

    model: str
    smooth: bool
    triangles: int | None
    needed: bool

    def mesh(self, cloud: PointCloud, surface: Callable[[], SurfaceModel | None]) -> Trimesh | None:
        """A mesh of as many of the cloud's points as the surface model knows.

        surface: gives the model's, if it has one; called for a cloud that can have a mesh. Raises NoMeshError.
        """
        from ..point_e.mesh import NoMeshError, check_solid, make_mesh

        try:
            check_solid(cloud)
            if (network := surface()) is None:
                raise NoMeshError(f"{self.model} {NO_SURFACE}")
            typer.echo("making a mesh …", err=True)
            cloud = cloud.farthest_sample(network.config["n_ctx"])
            return make_mesh(network, cloud, smooth=self.smooth, triangles=self.triangles)
        except NoMeshError as error:
            if self.needed:
                raise
            typer.echo(f"hint: there is no mesh beside it: {error}", err=True)
            return None


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
    preset: Annotated[str | None, preset_of("point-e")] = None,
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
    kind, what = _kind(what, model)
    _check_asked(kind, what, count, seed, via, preset, steps, guidance, points, remove_background)
    file = output or Path("shape.glb")
    meshing = _meshing(file, model, smooth, triangles)
    name = Path(what).stem if kind in ("photo", "cloud") else what
    target = place_for(output, name, [file.suffix.lower()])
    if kind == "cloud":
        _write_cloud(what, target, meshing)
        return
    photo = _photo(what, remove_background) if kind == "photo" else None
    with cleaning_up_on_interrupt():
        ready_model(model, point_e_task(model))
    if kind == "words":
        hint_at_toybox(model, what)

    typer.echo(f"loading {model} …", err=True)
    from ..pipelines import pipeline

    pipe: PointEPipeline = pipeline(TASKS[kind], model, via=via)
    if meshing and meshing.needed and pipe.surface is None:
        raise ValueError(f"{model} {NO_SURFACE}")
    if photo is not None:
        _hint_at_background(pipe, photo)
    failed: list[str] = []
    pipe(
        what if kind == "words" else None,
        image=photo,
        points=points,
        preset=preset,
        num_images_per_prompt=count,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        callback_on_batch_end=partial(_write_made, pipe, target, meshing, count == 1, failed),
    )
    if failed:
        raise ValueError("; ".join(failed))


def _kind(what: str | None, model: str) -> tuple[str, str]:
    """One of TASKS or "cloud", and what is given, or a name for what nothing is given for."""
    if what is None:
        if model in known_models() and point_e_task(model) != TASKS["nothing"]:
            raise ValueError("say what to make a shape of: words such as 'a red chair', a photo, or a cloud")
        return "nothing", "shape"
    what = what.encode("utf-8", "replace").decode()
    suffix = Path(what).suffix.lower()
    if suffix in OF_MESHES:
        raise ValueError(f"{what} is a mesh's name; shape takes words, a photo or a cloud (.ply, .npz)")
    if os.sep in what and os.path.isdir(what):
        raise ValueError(f"{what} is a folder; shape takes words, a photo or a cloud (.ply, .npz)")
    if suffix in (*OF_CLOUDS, *OF_PHOTOS) and not os.path.exists(what):
        raise FileNotFoundError(f"there is no file {what}")
    if suffix in OF_CLOUDS:
        return "cloud", what
    # Words do not end like a picture's file, and a name that does and is none is a slip; others have to be there.
    return "photo" if suffix in OF_PHOTOS or os.path.isfile(what) else "words", what


def _check_asked(
    kind: str,
    what: str,
    count: int,
    seed: int,
    via: str | None,
    preset: str | None,
    steps: int | None,
    guidance: float | None,
    points: int | None,
    remove_background: bool,
) -> None:
    """Raises ValueError for options that cannot be, or that mean nothing with this kind of thing."""
    asked = {
        "-n": count != 1,
        "--seed": seed != 0,
        "--via": via is not None,
        "--preset": preset is not None,
        "--steps": steps is not None,
        "--guidance": guidance is not None,
        "--points": points is not None,
        "--remove-background": remove_background,
    }
    if kind == "cloud" and any(asked.values()):
        given = ", ".join(name for name, said in asked.items() if said)
        raise ValueError(f"{what} is a cloud, and {given} is for making one; leave that out")
    if kind == "photo" and via is not None:
        raise ValueError("--via says what draws the words, and there is a photo; leave it out")
    if kind != "photo" and remove_background:
        raise ValueError("--remove-background goes with a photo, and there are words; leave it out")
    if kind == "words":
        check_request(what)
    check_numbers(1, count, steps, guidance, seed)
    check_points(points)
    check_preset(preset, "point-e")
    check_family(via)


def _meshing(file: Path, model: str, smooth: bool, triangles: int | None) -> Meshing | None:
    """How clouds become meshes for a file that holds or shows one; None for other files.

    Raises ValueError for a file of another kind, too few triangles, and smoothing or triangles of a file of clouds.
    """
    from ..point_e.export import SHOWN, needs_mesh
    from ..point_e.mesh import check_triangles

    needed = needs_mesh(file)
    meshed = needed or file.suffix.lower() in SHOWN
    if (smooth or triangles is not None) and not meshed:
        raise ValueError(
            f"--smooth and --triangles are for meshes, and {file.name} is a cloud; leave them out"
        )
    if triangles is not None:
        check_triangles(triangles)
    return Meshing(model, smooth, triangles, needed) if meshed else None


def _write_cloud(name: str, target: Callable[[], Path], meshing: Meshing | None) -> None:
    """A cloud that is there as another file, or with its mesh."""
    from ..point_e import PointCloud
    from ..point_e.export import save_shape
    from ..point_e.mesh import NoMeshError, within_reach

    cloud, solid = PointCloud.load(name), None
    if meshing is not None:
        cloud, moved = within_reach(cloud)
        if moved is not None:
            typer.echo(f"hint: {moved}", err=True)
        try:
            solid = meshing.mesh(cloud, partial(_surface_of, meshing.model))
        except NoMeshError as error:
            raise ValueError(f"{name}: {error}") from None
    clean_up_on_interrupt()
    typer.echo(save_shape(target(), cloud, solid).resolve())


def _write_made(
    pipe: PointEPipeline,
    target: Callable[[], Path],
    meshing: Meshing | None,
    alone: bool,
    failed: list[str],
    made: ShapeOutput,
) -> None:
    """Clouds that were made, the only one to `target` and others beside it. failed: gets why some have no mesh."""
    from ..point_e.export import save_shape

    clean_up_on_interrupt()
    for cloud, settings in zip(made.clouds, made.settings, strict=True):
        solid = None
        try:
            if meshing is not None:
                solid = meshing.mesh(cloud, lambda: pipe.surface)
        except ValueError as error:
            if alone:
                raise
            failed.append(f"seed {settings['seed']}: {error}")
            continue
        place = target() if alone else named_by_seed(target(), settings)
        typer.echo(save_shape(place, cloud, solid).resolve())


def _surface_of(model: str) -> SurfaceModel | None:
    """A model's surface model, if it has one."""
    with cleaning_up_on_interrupt():
        ready_model(model, point_e_task(model))
    typer.echo(f"loading {model} …", err=True)
    from ..pipelines.surface import load_surface

    return load_surface(model)


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
