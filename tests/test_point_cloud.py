"""Clouds as files: what is written is read again, and what is broken is named."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.point_e import PointCloud


def a_cloud(points=50, seed=0):
    rng = np.random.default_rng(seed)
    return PointCloud(rng.uniform(-0.5, 0.5, (points, 3)), rng.integers(0, 256, (points, 3)) / 255)


def assert_same(read, cloud, places=1e-6):
    np.testing.assert_allclose(read.coords, cloud.coords, atol=places)
    np.testing.assert_allclose(read.colors, cloud.colors, atol=places)


@pytest.mark.parametrize("suffix", [".ply", ".npz", ".PLY"])
def test_what_is_saved_is_read(tmp_path, suffix):
    path = a_cloud().save(tmp_path / f"cloud{suffix}")
    assert_same(PointCloud.load(path), a_cloud())
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_npz_is_as_point_e_writes_it(tmp_path):
    with np.load(a_cloud().save(tmp_path / "cloud.npz"), allow_pickle=False) as arrays:
        assert sorted(arrays) == ["B", "G", "R", "coords"]
        assert arrays["coords"].shape == (50, 3)
        np.testing.assert_array_equal(arrays["G"], a_cloud().colors[:, 1])


ASCII = """ply
format ascii 1.0
element vertex {count}
property double x
property float y
property float z
property uchar red
property uchar green
property uchar blue
end_header
0.5 0 -1e-1 255 0 51
0 0 0.25 0 102 0
"""


def test_ply_as_text(tmp_path):
    (tmp_path / "a.ply").write_text(ASCII.format(count=2))
    read = PointCloud.load(tmp_path / "a.ply")
    assert_same(read, PointCloud([[0.5, 0, -0.1], [0, 0, 0.25]], [[1, 0, 0.2], [0, 0.4, 0]]))


@pytest.mark.parametrize("size", [0, 1e-6, 3, 1e30])
def test_fitted_it_is_a_cube_wide_at_most(size):
    coords = np.float32([[size, 0, 7], [-size, size, 7], [size / 2, size / 4, 7]])
    fitted = PointCloud(coords, np.zeros((3, 3))).fitted()
    extent = fitted.coords.max(0) - fitted.coords.min(0)
    assert np.allclose(extent, [1, 0.5, 0] if size else 0) and np.abs(fitted.coords).max() <= 0.5


def test_tensors():
    cloud = a_cloud()
    assert cloud.to_tensor().shape == (50, 6)
    assert_same(PointCloud.from_tensor(cloud.to_tensor()), cloud, 0)


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def channels(points=5):
    return {name: np.zeros(points, np.float32) for name in "RGB"}


def lying_npz():
    """An array that says it has 3 x 10**12 numbers."""
    head, content = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)})
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("coords.npy", head.getvalue())
        for name in "RGB":
            archive.writestr(f"{name}.npy", head.getvalue())
    return content.getvalue()


PLY = (b"ply\nformat binary_little_endian 1.0\nelement vertex %d\nproperty float x\nproperty float y\n"
       b"property float z\nend_header\n")  # fmt: skip
COORDS = np.zeros((5, 3), np.float32)
BROKEN = {
    "empty.ply": (b"", "not a PLY"),
    "empty.npz": (b"", "not a .npz"),
    "picture.ply": (b"\x89PNG\r\n\x1a\n" + bytes(50), "not a PLY"),
    "picture.npz": (b"\x89PNG\r\n\x1a\n" + bytes(50), "not a .npz"),
    "none.ply": (PLY % 0, "no points"),
    "none.npz": (npz(coords=COORDS[:0], **channels(0)), "no points"),
    "flat.ply": (ASCII.format(count=2).replace("float z", "float depth").encode(), "have no z"),
    "huge.ply": (PLY % 10**12 + bytes(60), "cut off"),
    "huge-text.ply": (ASCII.format(count=10**15).encode(), "cut off"),
    "huge.npz": (lying_npz(), "allocate|EOF"),
    "short.ply": (PLY % 5 + bytes(50), "cut off|unexpected length"),
    "short-text.ply": (ASCII.format(count=3).encode(), "cut off"),
    "uncoloured.ply": (PLY % 5 + bytes(60), "no colours"),
    "uncoloured.npz": (npz(coords=COORDS), "no R, G, B"),
    "odd.npz": (npz(coords=COORDS, **channels(4)), "not as many"),
    "flat.npz": (npz(coords=COORDS[:, :2], **channels()), "expected"),
    "nan.npz": (npz(coords=COORDS * np.nan, **channels()), "not finite"),
    "bright.npz": (npz(coords=COORDS, **channels() | {"R": np.full(5, 9.0)}), "between 0 and 1"),
    "nan.ply": (ASCII.format(count=2).replace("-1e-1", "nan").encode(), "not finite"),
    "objects.npz": (npz(coords=np.array([{}] * 5), **channels()), "Object arrays"),
    "mesh.ply": (
        ASCII.format(count=2)
        .replace("end_h", "element face 1\nproperty list uchar int vertex_indices\nend_h")
        .encode()
        + b"3 0 1 1\n",
        "mesh",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(tmp_path, name):
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be read as a point cloud: .*({message})"):
        PointCloud.load(tmp_path / name)


def test_other_names(tmp_path):
    with pytest.raises(ValueError, match=r"expected one of \.ply, \.npz"):
        PointCloud.load("cloud.jpg")
    with pytest.raises(ValueError, match=r"expected one of \.ply, \.npz"):
        a_cloud().save(tmp_path / "cloud.xyz")
    with pytest.raises(FileNotFoundError, match="no file"):
        PointCloud.load(tmp_path / "cloud.ply")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of whole files, and a place for broken ones."""
    folder = tmp_path_factory.mktemp("fuzz")
    files = {suffix: a_cloud(9).save(folder / f"whole{suffix}").read_bytes() for suffix in (".ply", ".npz")}
    return folder, files | {".txt": ASCII.format(count=2).encode()}


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(whole, data):
    folder, files = whole
    kind = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    path = folder / ("fuzz.npz" if kind == ".npz" else "fuzz.ply")
    path.write_bytes(content[:cut] if data.draw(st.booleans()) else content)
    try:
        assert len(PointCloud.load(path)) > 0
    except ValueError as error:
        assert str(error).startswith(f"{path} cannot be read as a point cloud: ")


def test_points_kept_twice_have_their_own_colour():
    places = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    kept = PointCloud(places, places).farthest_sample(10, average_colors=True)
    assert np.array_equal(kept.colors, kept.coords)
