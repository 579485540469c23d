"""Point-E's published checkpoints from files: recognised, made into a model, and refused where they make none."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FULL_GOLDENS
from goldens.formula import formula_state_dict, formula_tensor
from maquette.__main__ import main
from maquette.pipelines import PointEPipeline, convert, point_e_files
from maquette.pipelines.picture_files import named_by_seed
from maquette.pipelines.surface import load_surface
from maquette.point_e import PointCloud, PointDiffusionTransformer, PointNetClassifier, PointUpsampler
from maquette.point_e.export import needs_mesh
from maquette.weights import known_models, read_weights
from maquette.weights.model_folder import converted_folder
from openai_archive import EMBED_DIM, WIDTH, write_archive
from PIL import Image
from tiny_models import tiny_point_e

TINY = {"base_40m.pt": "base_grid", "base_40m_textvec.pt": "base_vector", "base_40m_uncond.pt": "base_uncond"}
TINY |= {"upsample_40m.pt": "upsample", "sdf.pt": "sdf"}
WIDTHS = {"base_grid": WIDTH, "upsample": WIDTH, "base_vector": EMBED_DIM}
FULL = {"base_40m.pt": "base40M", "base_40m_textvec.pt": "base40M_textvec", "base_300m.pt": "base300M"}
FULL |= {"base_40m_imagevec.pt": "base40M_imagevec", "base_40m_uncond.pt": "base40M_uncond"}
FULL |= {"upsample_40m.pt": "upsample", "sdf.pt": "sdf"}


@pytest.fixture(scope="module")
def originals(golden, tmp_path_factory):
    """Tiny ones laid out as published, the CLIP's widths being those of the tiny archive."""
    folder = tmp_path_factory.mktemp("originals")
    for file, name in TINY.items():
        manifest, _ = golden(f"point_e/{name}")
        weights = formula_state_dict(manifest["weights"], manifest["salt"])
        for key in [key for key in weights if key.startswith("clip_embed") and name in WIDTHS]:
            shape = [WIDTHS[name] if size in (80, 48) else size for size in weights[key].shape]
            weights[key] = formula_tensor(key, shape, scale=0.1)
        torch.save(weights, folder / file)
    write_archive(folder / "ViT-L-14.pt")
    return folder


def run(capsys, *arguments):
    code = main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out.split(), err


def test_a_set_becomes_a_model(originals, tmp_path, capsys):
    files = [originals / name for name in ("sdf.pt", "ViT-L-14.pt", "base_40m.pt", "upsample_40m.pt")]
    assert run(capsys, "convert", *files, "--out", tmp_path / "model") == (0, [str(tmp_path / "model")], "")
    pipe = PointEPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    for part, file in (("base", "base_40m.pt"), ("upsampler", "upsample_40m.pt"), ("surface", "sdf.pt")):
        given, saved = read_weights(originals / file), getattr(pipe, part).state_dict()
        assert all(torch.equal(saved[key], given[key]) for key in given) and saved.keys() == given.keys()
    assert pipe.config["glide_model"] == "glide" and pipe.config["plain_background"]
    assert not pipe.config["reads_words"] and "3D render" in pipe.config["picture_prompt"]
    photo = tmp_path / "photo.png"
    Image.effect_noise((64, 64), 100).save(photo)
    few = ["--steps", "2", "--model", tmp_path / "model"]
    code, (path,), err = run(capsys, "shape", photo, "-o", tmp_path / "cloud.ply", *few)
    assert (code, path) == (0, str(tmp_path / "cloud.ply"))
    assert "hint: the photo has a background" in err and "pip install 'rembg[cpu]'" in err
    two = ["-n", 2, "--seed", 4, "--points", 16]
    code, paths, _ = run(capsys, "shape", photo, *two, "-o", tmp_path / "cloud.npz", *few)
    assert (code, paths) == (0, [str(tmp_path / f"cloud-seed{seed}.npz") for seed in (4, 5)])
    first, second = (np.load(path) for path in paths)
    assert sorted(first) == ["B", "G", "R", "coords"] and (first["coords"] != second["coords"]).any()
    assert first["coords"].shape == (16 + pipe.upsampler.config["n_ctx"], 3)


def test_a_surface_model_is_loaded_alone(originals, tmp_path, capsys):
    files = [originals / name for name in ("sdf.pt", "ViT-L-14.pt", "base_40m.pt")]
    convert.convert(files, tmp_path / "model")
    given = read_weights(originals / "sdf.pt")
    for model in (originals / "sdf.pt", tmp_path / "model"):
        found = load_surface(model).state_dict()
        assert found.keys() == given.keys() and all(torch.equal(found[key], given[key]) for key in given)
    convert.convert(files[1:], tmp_path / "without")
    assert load_surface(tmp_path / "without") is None
    PointCloud(np.random.default_rng(0).random((40, 3)) / 4, np.zeros((40, 3))).save(tmp_path / "cloud.ply")
    wrong = ["--model", originals / "base_40m.pt", "-o", tmp_path / "a.glb"]
    code, _, err = run(capsys, "shape", tmp_path / "cloud.ply", *wrong)
    assert code == 2 and "is Point-E's base network; for a mesh of a cloud Point-E's surface model" in err


def test_the_base_that_reads_words_is_known_by_its_name(originals, tmp_path, capsys):
    convert.convert([originals / "base_40m_textvec.pt", originals / "ViT-L-14.pt"], tmp_path / "words")
    few = ["--steps", "2", "--model", tmp_path / "words"]
    code, paths, err = run(capsys, "shape", "a red chair", "-o", tmp_path / "chair.ply", *few)
    assert (code, paths) == (0, [str(tmp_path / "chair.ply")]), err
    code, _, err = run(capsys, "shape", "a red chair", "-o", tmp_path / "chair.glb", *few)
    assert code == 2 and "has no surface model and makes no meshes" in err
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    code, _, err = run(capsys, "shape", tmp_path / "photo.png", "-o", tmp_path / "photo.ply", *few)
    assert code == 2 and "reads words and no pictures; give a prompt" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chair.ply", "photo.png", "words"]


def test_what_makes_no_model_is_named(originals, tmp_path, capsys):
    for files, message in (
        (["base_40m.pt"], "make no model; add a CLIP (ViT-L-14.pt)"),
        (["upsample_40m.pt", "sdf.pt"], "add Point-E's base network (base_40m.pt, say) and add a CLIP"),
        (["base_40m.pt", "base_40m_uncond.pt"], "are both Point-E's base network; give one"),
    ):
        code, _, err = run(capsys, "convert", *(originals / f for f in files), "--out", tmp_path / "model")
        assert code == 2 and message in err and err.count("\n") == 1
    with pytest.raises(ValueError, match=r"sdf.pt is Point-E's surface model; for a cloud Point-E's base"):
        PointEPipeline.from_pretrained(originals / "sdf.pt")
    assert not list(tmp_path.iterdir())


def test_bad_input_is_answered_in_one_sentence(tmp_path, capsys, monkeypatch):
    (tmp_path / "words.png").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.npz", "png")
    PointCloud(np.zeros((1, 3)), np.zeros((1, 3))).save(tmp_path / "one.ply")
    monkeypatch.chdir(tmp_path)
    published = ["--model", "point-e"]
    for arguments, message in (
        (
            ["a red chair", "--model", "glide"],
            "glide is for text-to-image and inpainting; for image-to-3d there are mini,",
        ),
        ([" ", *published], "the prompt is empty"),
        (["a chair", "-o", "a.ply", "--smooth"], "a.ply is a cloud; leave them out"),
        (["a chair", "-o", "a.xyz", *published], "does not end like a shape; expected one of .ply"),
        (["a chair", "-o", "none/a.ply", *published], "the folder none does not exist"),
        (["a chair", "--preset", "orignal", *published], "did you mean 'original'"),
        (["a chair", "--via", "dalle", *published], "unknown way 'dalle'"),
        (["words.png", "--via", "glide", *published], "--via says what draws the words"),
        (["a chair", "--remove-background", *published], "goes with a photo"),
        (["words.png", *published], "cannot identify image file"),
        (["missing.jpg", *published], "missing.jpg"),
        (["missing.ply"], "there is no file missing.ply"),
        (["chair.glb"], "chair.glb is a mesh's name; shape takes words"),
        ([f"{tmp_path}/"], "is a folder; shape takes words"),
        ([], "say what to make a shape of"),
        (["a chair", "--points", "0"], "the number of points must be"),
        (["picture.npz"], "picture.npz cannot be read as a point cloud: it is not a .npz file"),
        (["one.ply", "-o", "a.glb"], "one.ply: the cloud has points in 1 places; a surface needs 32"),
        (["one.ply", "--steps", "0", "-n", "2"], "one.ply is a cloud, and -n, --steps is for making one"),
        (["a chair", "--model", "pont-e"], "did you mean 'point-e'"),
    ):
        code, out, err = run(capsys, "shape", *arguments)
        assert (code, out) == (2, []) and message in err and err.count("\n") == 1, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.ply", "picture.npz", "words.png"]


def test_a_cloud_that_is_there_is_kept_or_shown(tmp_path, capsys):
    flat = 100 + np.random.default_rng(0).random((40, 3)) * (3, 3, 0)
    cloud = PointCloud(flat, np.full((40, 3), 0.5))
    cloud.save(tmp_path / "flat.npz")
    for name, said in (
        ("same.ply", []),
        ("flat.png", ["it was centred and scaled", "there is no mesh beside it: the cloud lies in a plane"]),
    ):
        code, paths, err = run(capsys, "shape", tmp_path / "flat.npz", "-o", tmp_path / name)
        assert (code, paths) == (0, [str(tmp_path / name)]) and err.count("hint:") == len(said)
        assert all(sentence in err for sentence in said)
    assert np.array_equal(PointCloud.load(tmp_path / "same.ply").coords, cloud.coords)
    assert Image.open(tmp_path / "flat.png").width > 256


def test_a_small_cloud_is_made_as_large_as_networks_know(tmp_path, capsys):
    small = PointCloud(np.random.default_rng(0).normal(size=(60, 3)) * 1e-3, np.full((60, 3), 0.5))
    small.save(tmp_path / "small.ply")
    tiny_point_e().save_pretrained(tmp_path / "model")
    given = [tmp_path / "small.ply", "--model", tmp_path / "model", "-o", tmp_path / "small.png"]
    code, _, err = run(capsys, "shape", *given)
    assert code == 0 and "it was centred and scaled" in err and "lies in a plane" not in err


def test_a_model_that_reads_nothing_is_asked_for_nothing_and_drawn_without_a_mesh(tmp_path, capsys):
    tiny_point_e("none", upsampler=None, surface=None).save_pretrained(tmp_path / "model")
    call = ["shape", "--model", tmp_path / "model", "--points", 8, "-o"]
    code, paths, err = run(capsys, *call, tmp_path / "a.png", "-n", 2)
    assert code == 0 and [Path(path).name for path in paths] == ["a-seed0.png", "a-seed1.png"]
    assert err.count("hint: there is no mesh beside it: the cloud has points in") == 2


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("mesh.ply", "seed7-mesh.ply"),
        ("a-mesh.ply", "a-seed7-mesh.ply"),
        ("a-wire-mesh.glb", "a-wire-mesh-seed7.glb"),
    ],
)
def test_one_of_several_shapes_is_named_by_its_seed_and_stays_a_mesh(asked, named):
    place = named_by_seed(Path(asked), {"seed": "7"})
    assert place == Path(named) and needs_mesh(place)


def test_every_published_checkpoint_has_a_name():
    names = [name for name in known_models() if name.startswith("point-e")]
    urls = {
        file["url"].rpartition("/")[2] for name in names for file in known_models()[name]["files"].values()
    }
    assert urls >= {*FULL, "base_1b.pt", "pointnet.pt"}
    assert point_e_files.point_e_task("point-e") == "image-to-3d"
    assert point_e_files.point_e_task("point-e-base40M-textvec") == "text-to-3d"
    assert converted_folder("point-e", "text-to-3d") == converted_folder("point-e", "image-to-3d")


def test_pointnets_file_holds_more_than_weights(golden, tmp_path):
    manifest, _ = golden("point_e/metrics")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    beside = {
        "epoch": 3,
        "instance_acc": np.float64(0.9),
        "optimizer_state_dict": {"state": {}, "groups": [1e-3]},
    }
    torch.save({**beside, "model_state_dict": weights}, tmp_path / "pointnet.pt")
    net = PointNetClassifier.from_original(read_weights(tmp_path / "pointnet.pt"))
    assert torch.equal(net.fc3.weight, weights["fc3.weight"])


@pytest.mark.full
@torch.inference_mode()
@pytest.mark.parametrize("file", FULL)
def test_a_published_size_loads_by_path(golden, file, tmp_path):
    manifest = json.loads((FULL_GOLDENS / "point_e" / f"{FULL[file]}_full.json").read_text())
    torch.save(formula_state_dict(manifest["weights"], manifest["salt"]), tmp_path / file)
    kind = convert.recognise(tmp_path / file)
    write_archive(tmp_path / "clip.pt")
    parts = dict(point_e_files.original_parts({kind: tmp_path / file}, tmp_path / "clip.pt"))
    (net,) = [part for name, part in parts.items() if name not in ("clip", "tokenizer")]
    _, tensors = golden(f"point_e/{FULL[file]}_full")
    if kind == point_e_files.SURFACE:
        ours = net(tensors["in/queries"], point_clouds=tensors["in/points"])
        record = tensors["out/sdf"]
    else:
        assert isinstance(
            net, PointUpsampler if kind == point_e_files.UPSAMPLER else PointDiffusionTransformer
        )
        given = {} if "in/low_res" not in tensors else {"low_res": tensors["in/low_res"]}
        if "in/embeddings" in tensors:
            given["embedding" if net.config.conditioning == "vector" else "grid"] = tensors["in/embeddings"]
        ours, record = net(tensors["in/x"], tensors["in/timesteps"], **given), tensors["out/model"]
    assert (ours - record).abs().max() <= 2e-4 * max(1.0, record.abs().max().item())
