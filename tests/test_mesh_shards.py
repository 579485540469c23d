"""Meshes of one's own as data for Point-E."""

import io

import numpy as np
import pytest
import trimesh
from maquette.commands.cli import run
from maquette.point_e import PointCloud
from maquette.point_e.export import save_shape
from maquette.point_e.training.clouds import read_cloud
from maquette.point_e.training.surface_stage import read_distances
from maquette.toybox.colours import to_linear
from maquette.toybox.meshes import read_body
from maquette.training import Shards
from PIL import Image


def box(colour, extents=(1, 2, 4), at=(0, 0, 0)):
    mesh = trimesh.creation.box(extents)
    mesh.apply_translation(at)
    mesh.visual.face_colors = colour
    return mesh


@pytest.fixture
def meshes(tmp_path):
    """A tall red box of which one end is blue, in another folder a broken file, and one of another kind."""
    folder = tmp_path / "meshes"
    (folder / "more").mkdir(parents=True)
    tall = [box((200, 20, 20, 255)), box((20, 20, 200, 255), (1.1, 2.1, 0.4), (0, 0, 1.9))]
    trimesh.util.concatenate(tall).export(folder / "tall_box.ply")
    (folder / "more" / "broken.glb").write_bytes(b"glTF" + bytes(40))
    (folder / "notes.md").write_text("no mesh")
    return folder


def test_meshes_become_samples_that_stages_read(meshes, tmp_path, capsys):
    out = tmp_path / "shards"
    assert run(["clouds", str(meshes), "--out", str(out), "--views", "2", "--size", "64"]) == 0
    said = capsys.readouterr()
    assert "1 shards" in said.out and "left out: " in said.err and "broken.glb" in said.err
    shards = Shards([out / "shard-00000.tar"])
    assert len(shards) == 2
    pictures = [np.asarray(Image.open(io.BytesIO(sample["png"]))) for sample in (shards[0], shards[1])]
    assert pictures[0].shape == (64, 64, 3) and (pictures[0] != pictures[1]).any()
    for sample in (shards[0], shards[1]):
        assert sample["txt"] == b"tall box"
        points, places = read_cloud(sample), read_distances(sample)
        assert np.ptp(points[:, 2]) == pytest.approx(1, abs=0.02)
        blue = points[:, 5] > points[:, 3]
        assert 0.05 < blue.mean() < 0.5
        assert points[blue, 2].min() > 0.35  # the blue end is up
        assert (places[:, 3] < 0).any() and (places[:, 3] > 0.1).any()


def test_shards_of_other_meshes_or_ways_are_not_taken_for_these(meshes, tmp_path, capsys):
    call = ["clouds", str(meshes), "--out", str(tmp_path / "out"), "--size", "16", "--views"]
    assert run([*call, "1"]) == 0
    before = (tmp_path / "out" / "shard-00000.tar").read_bytes()
    assert run([*call, "1"]) == 0
    assert run([*call, "2"]) == 2 and "made in another way" in capsys.readouterr().err
    (caption := meshes / "tall_box.txt").write_text("a new caption")
    assert run([*call, "1"]) == 2 and "are of other meshes" in capsys.readouterr().err
    caption.unlink()
    assert run([*call, "1"]) == 0
    box((9, 9, 9, 255)).export(meshes / "new.ply")
    assert run([*call, "1"]) == 2 and "are of other meshes" in capsys.readouterr().err
    assert (tmp_path / "out" / "shard-00000.tar").read_bytes() == before


@pytest.mark.parametrize("name", ["a.glb", "a.obj", "a-mesh.ply"])
def test_our_own_meshes_come_back_upright_in_their_colours(tmp_path, name):
    mesh = trimesh.creation.cylinder(0.2, 1.0)
    mesh.visual.vertex_colors = (40, 85, 180, 255)
    save_shape(tmp_path / name, PointCloud(mesh.vertices, mesh.visual.vertex_colors[:, :3] / 255), mesh)
    body = read_body(tmp_path / name)
    assert np.ptp(body.vertices, axis=0).argmax() == 2
    np.testing.assert_allclose(
        body.albedo, np.tile(to_linear(np.array([40, 85, 180]) / 255), (len(body.faces), 1)), atol=0.003
    )


def test_what_points_up_is_known_by_the_suffix_or_told(tmp_path):
    mesh = box((9, 9, 9, 255), (1, 4, 2))
    for suffix in (".glb", ".stl"):
        mesh.export(tmp_path / f"box{suffix}")
    heights = [
        np.ptp(read_body(tmp_path / f"box{suffix}", up).vertices[:, 2])
        for suffix, up in ((".glb", None), (".glb", "z"), (".stl", None))
    ]
    assert heights == pytest.approx([1, 0.5, 0.5], abs=1e-3)


def test_textures_become_colours(tmp_path):
    picture = Image.new("RGB", (64, 64), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 32, 64))
    mesh = trimesh.Trimesh(
        [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False
    )
    mesh.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], image=picture)
    mesh.export(tmp_path / "square.glb")
    body = read_body(tmp_path / "square.glb", "z")
    centres = body.vertices[body.faces].mean(axis=1)
    left = centres[:, 0] < -0.05
    assert (body.albedo[left, 0] > 0.9).all() and (body.albedo[left, 2] < 0.1).all()
    assert (body.albedo[centres[:, 0] > 0.05, 2] > 0.9).all()


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda folder: (folder / "tall_box.ply").unlink(), [], "none of the 1 meshes in"),
        (lambda folder: None, ["--views", "0"], "seen at least once"),
        (lambda folder: None, ["--size", "2000"], "expected 8 to 1024"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(meshes, tmp_path, capsys, change, options, sentence):
    change(meshes)
    assert run(["clouds", str(meshes), "--out", str(tmp_path / "out"), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_shards_is_refused_first(meshes, capsys):
    file = meshes / "tall_box.ply"
    before = file.read_bytes()
    assert run(["clouds", str(meshes), "--out", str(file)]) == 2
    assert "is a file; give a folder" in capsys.readouterr().err
    assert file.read_bytes() == before
