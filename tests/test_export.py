"""Shapes as files: colours come back, pictures show the shape, the page turns in a browser without network."""

import io
import shutil

import numpy as np
import pytest
import trimesh
from maquette.point_e import PointCloud, needs_mesh, save_shape
from maquette.point_e.drawing import draw_cloud, draw_mesh
from PIL import Image

RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.2, 0.8)


@pytest.fixture(scope="module")
def mesh():
    """A ball, red on the right and blue on the left."""
    ball = trimesh.creation.icosphere(3, 0.4)
    ball.visual.vertex_colors = np.round(np.where(ball.vertices[:, :1] > 0, RED, BLUE) * 255).astype(np.uint8)
    return ball


@pytest.fixture(scope="module")
def cloud(mesh):
    return PointCloud(mesh.vertices, mesh.visual.vertex_colors[:, :3] / 255)


@pytest.mark.parametrize("name", ["a-mesh.ply", "a.obj", "a.glb", "a.stl"])
def test_meshes_come_back_with_their_colours(tmp_path, cloud, mesh, name):
    path = save_shape(tmp_path / name, cloud, mesh)
    scene = trimesh.load_scene(path)
    (read,) = scene.geometry.values()
    assert len(read.faces) == len(mesh.faces) and read.is_watertight and read.volume > 0
    if name == "a.stl":
        return
    colors = read.visual.vertex_colors[:, :3] / 255
    vertices = read.vertices
    if name in ("a.glb", "a.obj"):  # y is up
        np.testing.assert_allclose(scene.bounds[1], mesh.bounds[1][[0, 2, 1]], atol=1e-6)
    if name == "a.glb":  # colours are linear
        colors = trimesh.visual.color.linear_to_srgb(colors)
    elif name == "a.obj":
        vertices = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], axis=1)
    places = cloud.nearest(vertices)
    np.testing.assert_allclose(vertices, cloud.coords[places], atol=1e-6)
    np.testing.assert_allclose(colors, cloud.colors[places], atol=0.03 if name == "a.glb" else 1e-6)


def test_names(tmp_path, cloud, mesh):
    assert [needs_mesh(f"a{end}") for end in (".ply", ".npz", "-mesh.ply", ".GLB", ".obj", ".stl", ".html")] == [
        False, False, True, True, True, True, False,
    ]  # fmt: skip
    assert needs_mesh("mesh.ply") and not needs_mesh("mesh-like.ply")
    with pytest.raises(ValueError, match="does not end like a shape"):
        save_shape(tmp_path / "a.fbx", cloud, mesh)
    with pytest.raises(ValueError, match="no mesh to write"):
        save_shape(tmp_path / "a.glb", cloud)
    assert len(PointCloud.load(save_shape(tmp_path / "a.npz", cloud))) == len(cloud)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def mean_colours(picture):
    """Of the left and the right half, without the paper."""
    pixels = np.asarray(picture.convert("RGB")).astype(float)
    drawn = np.ptp(pixels, axis=2) > 30
    half = pixels.shape[1] // 2
    return [pixels[:, part][drawn[:, part]].mean(0) for part in (slice(0, half), slice(half, None))]


def test_drawings_show_the_shape(cloud, mesh):
    for draw, shape in ((draw_cloud, cloud), (draw_mesh, mesh)):
        (blue, red), (front, back) = mean_colours(draw(shape, 0)), mean_colours(draw(shape, 180))
        assert blue.argmax() == 2 and red.argmax() == 0
        assert front.argmax() == 0 and back.argmax() == 2
        assert draw(shape, size=64).size == (64, 64)


def test_a_drawing_shows_what_is_in_front():
    wall = np.random.default_rng(0).uniform(-0.3, 0.3, (4000, 3))
    red, blue = ([*colour] * np.ones((4000, 1)) for colour in ((1, 0, 0), (0, 0, 1)))
    front, behind = wall * [1, 0, 1] - [0, 0.3, 0], wall * [1, 0, 1] + [0, 0.3, 0]
    for order in (slice(None), slice(None, None, -1)):  # whichever points come last
        coords, colors = np.concatenate([front, behind]), np.concatenate([red, blue])
        pixels = np.asarray(draw_cloud(PointCloud(coords[order], colors[order]))).reshape(-1, 3).astype(int)
        reds, blues = ((pixels[:, a] - pixels[:, b] > 60).sum() for a, b in ((0, 2), (2, 0)))
        assert reds > blues > 0


def test_turntable_and_sheet(tmp_path, cloud, mesh):
    turn = Image.open(save_shape(tmp_path / "a.gif", cloud, mesh))
    assert (turn.size, turn.n_frames) == ((512, 256), 24)
    first = np.asarray(turn.convert("RGB")).astype(int)
    turn.seek(6)
    assert (abs(np.asarray(turn.convert("RGB")) - first).max(2) > 60).mean() > 0.02
    assert Image.open(save_shape(tmp_path / "a.png", cloud)).width > 4 * 256


def pixels_of(page):
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def test_page_turns_in_a_browser_without_network(tmp_path, cloud, mesh):
    browsers = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    path = save_shape(tmp_path / "a.html", cloud, mesh)
    with browsers.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        page = browser.new_context(viewport={"width": 480, "height": 320}, offline=True).new_page()
        page.set_default_timeout(120_000)  # a software renderer on a busy machine
        asked = []
        page.on("request", lambda request: asked.append(request.url[:5]))
        page.goto(path.as_uri())
        page.wait_for_selector("canvas")
        for _ in range(240):  # the shape comes a moment after the canvas
            page.wait_for_timeout(250)
            before = pixels_of(page)
            if np.ptp(before, axis=2).max() > 60:
                break
        blue, red = mean_colours(Image.fromarray(before[:, :240].astype(np.uint8)))
        assert blue.argmax() == 2 and red.argmax() == 0
        page.mouse.move(240, 160)
        page.mouse.down()
        page.mouse.move(400, 160, steps=8)
        page.mouse.up()
        page.wait_for_timeout(1000)
        after = pixels_of(page)
        browser.close()
    assert (abs(after - before).max(2) > 40).mean() > 0.03
    assert not [start for start in asked if start.startswith("http")]
