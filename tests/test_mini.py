"""What ships in the package: mini's weights, and a picture drawn with them."""

import numpy as np
import pytest
import torch
import trimesh
from maquette import GlidePipeline, PointEPipeline, pipeline
from maquette.__main__ import main
from maquette.clip import ClipModel
from maquette.pipelines import GlideInpaintPipeline, UnCLIPPipeline, UnCLIPVariationPipeline
from maquette.point_e import PointCloud
from maquette.point_e.evaluation.cloud_judge import judged
from maquette.toybox import COLOURS, THINGS, make_scene, render
from maquette.toybox.judge import Judge
from maquette.weights import find_model
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from safetensors import safe_open


def test_mini_is_small_half_precision_and_inpaints():
    folder = find_model("mini", "text-to-image")
    with safe_open(folder / "unet" / "diffusion_pytorch_model.safetensors", "pt") as weights:
        slices = [weights.get_slice(key) for key in weights.keys()]  # noqa: SIM118 - it is no dict
    assert {one.get_dtype() for one in slices} == {"F16"}
    assert sum(torch.Size(one.get_shape()).numel() for one in slices) <= 12_000_000
    pipe = GlidePipeline.from_pretrained("mini")
    assert pipe.unet.config["inpaint"] and pipe.unet.config["image_size"] == 64
    assert pipe.tokenizer.vocab_size <= 1024
    assert (folder.parent / "MODEL_CARD.md").is_file()


@pytest.mark.parametrize(
    "kind", [GlidePipeline, GlideInpaintPipeline, UnCLIPPipeline, UnCLIPVariationPipeline, PointEPipeline]
)
def test_all_of_a_model_moves(kind):
    pipe = kind.from_pretrained("mini", device="meta")
    parts = {name: part for name in pipe.parts if (part := getattr(pipe, name)) is not None}
    assert parts.keys() == {name for name, part in pipe.components.items() if part is not None}
    networks = [part for part in parts.values() if isinstance(part, torch.nn.Module)]
    assert len(networks) >= 2
    assert {value.device.type for network in networks for value in network.state_dict().values()} == {"meta"}


def test_surfaces_stay_exact():
    pipe = PointEPipeline.from_pretrained("mini", dtype=torch.bfloat16)
    assert (pipe.base.dtype, pipe.surface.dtype) == (torch.bfloat16, torch.float32)


def test_mini_draws_what_it_is_told():
    prompts = ["a red ring", "a blue mug", "a green chair", "a yellow house"]
    images = pipeline("text-to-image", "mini")(prompts, seed=0).images
    colours = [colour for _, colour in Judge.load().name(images)]
    assert sum(colour in prompt for colour, prompt in zip(colours, prompts, strict=True)) >= 3


def test_its_unclip_varies_what_a_picture_shows():
    scenes = [scene for i in range(12) if len((scene := make_scene("val", i)).objects) == 1][:4]
    pictures = [Image.fromarray(render(scene, 256)) for scene in scenes]
    images = pipeline("image-variation", "mini")(pictures, num_inference_steps=12, seed=0).images
    found = Judge.load().name(images)
    shown = [(scene.objects[0].thing, scene.objects[0].colour) for scene in scenes]
    assert sum(a == b for a, b in zip(found, shown, strict=True)) >= 3


def test_its_point_e_makes_clouds_of_words_and_of_pictures():
    scenes = [scene for i in range(40) if len((scene := make_scene("val", i)).objects) == 1][:4]
    toys = [scene.objects[0] for scene in scenes]
    pipe = pipeline("text-to-3d", "mini")
    for given in (
        {"prompt": [f"a {toy.colour} {toy.thing}" for toy in toys]},
        {"image": [Image.fromarray(render(scene, 256)) for scene in scenes]},
    ):
        clouds = pipe(**given, points=512, seed=0).clouds
        found = judged(clouds).log_probabilities.argmax(1)
        assert sum(THINGS[i] == toy.thing for i, toy in zip(found, toys, strict=True)) >= 3


def test_words_become_a_coloured_mesh(tmp_path, capsys):
    cloud, solid = str(tmp_path / "mug.ply"), str(tmp_path / "mug.glb")
    assert main(["shape", "a blue mug", "-o", cloud]) == 0
    assert main(["shape", cloud, "-o", solid]) == 0
    mesh = trimesh.load_mesh(solid)
    red, _, blue, _ = mesh.visual.vertex_colors.mean(axis=0)
    assert mesh.is_watertight and blue > red + 50
    assert THINGS[judged([PointCloud.load(cloud)]).log_probabilities.argmax()] == "mug"


def test_its_clip_knows_what_renders_show():
    scenes = [scene for i in range(60) if len((scene := make_scene("val", i)).objects) == 1]
    pairs = [(thing, colour) for thing in THINGS for colour in COLOURS]
    clip = ClipModel.from_pretrained("mini")
    assert clip.dim == 256 and sum(p.numel() for p in clip.encoder.parameters()) <= 12_000_000
    words = clip.embed_texts(
        [f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {thing}" for thing, colour in pairs]
    )
    nearest = (clip.embed_images([Image.fromarray(render(scene)) for scene in scenes]) @ words.T).argmax(1)
    right = [
        pairs[i] == (s.objects[0].thing, s.objects[0].colour) for i, s in zip(nearest, scenes, strict=True)
    ]
    assert sum(right) >= 0.85 * len(right)
    grid = clip.encoder.encode_image(torch.zeros(1, 3, 64, 64, dtype=clip.encoder.dtype)).grid
    assert grid.shape == (1, 64, 192)


def test_words_it_never_saw_work_with_a_hint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["create", "a red dragon", "--steps", "2"]) == 0
    out, err = capsys.readouterr()
    assert "hint:" in err and "'dragon'" in err
    assert Image.open(out.strip()).size == (256, 256)


@pytest.mark.slow
def test_known_pixels_of_twenty_photos_of_odd_sizes_come_back_bit_for_bit():
    pipe, chance = pipeline("inpainting", "mini"), np.random.default_rng(0)
    pipe.register_to_config(upsampler_steps=2)
    pipe.set_progress_bar_config(disable=True)
    for number in range(20):
        width, height = 2 * chance.integers(32, 350, 2) + 1
        x, y = chance.integers(0, (width - 24, height - 24)).tolist()
        corner = chance.integers((x + 16, y + 16), (width, height)).tolist()
        pixels = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
        photo = Image.fromarray(pixels).convert(("RGB", "RGBA", "L")[number % 3])
        hole, given = Image.new("L", photo.size), {}
        if number % 2:
            ImageDraw.Draw(hole).ellipse((x, y, *corner), 255)
            hole = hole.filter(ImageFilter.GaussianBlur(number % 4))
        else:
            hole.paste(255, (x, y, *corner))
        if photo.mode == "RGBA":
            photo.putalpha(ImageChops.invert(hole))
        else:
            given = {"mask": hole} if number % 2 else {"box": (x, y, corner[0] - x, corner[1] - y)}
        painted = pipe("a red ball", photo, **given, num_inference_steps=2, seed=number).images[0]
        before, after, hole = (np.asarray(picture) for picture in (photo.convert("RGB"), painted, hole))
        assert np.array_equal(after[hole <= 8], before[hole <= 8]), (number, photo)
        assert (after != before)[hole > 200].mean() > 0.5, (number, photo)
