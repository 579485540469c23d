"""The surface model, its mesh, and the choice of points, against what the originals computed."""

import pytest
import torch
from einops import rearrange
from goldens.formula import formula_state_dict
from maquette.point_e import PointCloud, SurfaceModel, farthest_points, nearest_points, thinned
from maquette.point_e.mesh import SIDE, surface_distances, zero_surface


def surface_model(manifest, config=None):
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    return SurfaceModel.from_original(weights, manifest["config"] if config is None else config)


def coloured(tensors):
    return torch.cat([tensors["in/points"][0].T, tensors["in/rgb"]], dim=1)


def assert_close(ours, record):
    ours = torch.as_tensor(ours)
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= 2e-4 * max(1.0, record.abs().max().item())


@torch.inference_mode()
def test_record_of_a_saved_network(golden, tmp_path):
    manifest, tensors = golden("point_e/sdf")
    surface_model(manifest).save_pretrained(tmp_path)
    net = SurfaceModel.from_pretrained(tmp_path)
    assert_close(net(tensors["in/queries"], point_clouds=tensors["in/points"]), tensors["out/sdf"])
    encoded = net.encode(tensors["in/points"])
    assert_close(net(tensors["in/queries"], encoded=encoded), tensors["out/sdf"])


@torch.inference_mode()
@pytest.mark.full
def test_record_of_the_published_size(golden):
    manifest, tensors = golden("point_e/sdf_full")
    net = surface_model(manifest, config={})
    assert_close(net(tensors["in/queries"], point_clouds=tensors["in/points"]), tensors["out/sdf"])


@pytest.mark.parametrize("batch_size", [4096, 1000])
def test_surface(golden, batch_size):
    """Vertices, faces and colours as recorded; the surface is open where it leaves the cube."""
    manifest, tensors = golden("point_e/sdf")
    cloud = PointCloud.from_tensor(coloured(tensors))
    volume = surface_distances(surface_model(manifest), cloud, 16, batch_size).volume
    vertices, faces = zero_surface(volume, SIDE / 15, SIDE / 2)
    assert_close(vertices, tensors["out/mesh_vertices"])
    assert torch.equal(torch.as_tensor(faces), tensors["out/mesh_faces"])
    assert_close(cloud.colors[cloud.nearest(vertices)], tensors["out/mesh_rgb"])


def test_farthest_points_and_their_colours(golden):
    _, tensors = golden("point_e/sdf")
    clouds = coloured(tensors)[None]
    kept = farthest_points(clouds, 32, start=5)
    assert_close(clouds[0, kept[0]], torch.cat([tensors["out/fps_coords"], tensors["out/fps_rgb"]], dim=1))
    record = torch.cat([tensors["out/fps_coords"], tensors["out/fps_rgb_averaged"]], dim=1)
    assert_close(thinned(clouds, kept)[0], record)


def test_farthest_points_of_a_batch_are_those_of_each_cloud():
    clouds = torch.rand(3, 50, 6, generator=torch.Generator().manual_seed(0))
    together = farthest_points(clouds, 10)
    assert torch.equal(together, torch.cat([farthest_points(cloud[None], 10) for cloud in clouds]))
    assert together.unique(dim=1).shape == (3, 10)


def test_points_in_one_place_keep_a_colour_each():
    cloud = torch.zeros(1, 4, 6)
    cloud[0, :, 3] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    result = thinned(cloud, torch.tensor([[1, 3]]))
    assert sorted(result[0, :, 3].tolist()) != [0.0, 0.0]
    assert not result.isnan().any()


def test_nearest_points():
    generator = torch.Generator().manual_seed(0)
    cloud, queries = torch.rand(100, 6, generator=generator), torch.rand(30, 3, generator=generator)
    assert torch.equal(nearest_points(cloud, queries), torch.cdist(queries, cloud[:, :3]).argmin(dim=1))


def test_what_does_not_fit_is_named(golden):
    manifest, tensors = golden("point_e/sdf")
    with pytest.raises(ValueError, match="unknown config key 'heads'"):
        surface_model(manifest, {"heads": 4})
    net, queries, points = surface_model(manifest), tensors["in/queries"], tensors["in/points"]
    for arguments, message in (
        ({}, "needs a cloud"),
        ({"point_clouds": points, "encoded": points}, "needs a cloud"),
        ({"point_clouds": rearrange(points, "n c p -> n p c")}, "point_clouds has shape"),
        ({"point_clouds": points.expand(2, -1, -1)}, "another number of clouds"),
    ):
        with pytest.raises(ValueError, match=message):
            net(queries, **arguments)
    with pytest.raises(ValueError, match="cannot choose 9 of 8 points"):
        farthest_points(torch.zeros(1, 8, 3), 9)
