"""Meshes of clouds: found coarse to fine, closed, turned outwards, coloured."""

import numpy as np
import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.point_e import PointCloud, SurfaceModel, make_mesh
from maquette.point_e.distance_grid import distance_grid
from maquette.point_e.mesh import SIDE, surface_distances, zero_surface


def ball(places):
    return places.norm(dim=1) - 0.4


def lamp(places):
    """A pole thinner than a coarse cell, with a shade and a foot."""
    flat = places[:, :2].norm(dim=1)
    pole = torch.maximum(flat - 0.012, places[:, 2].abs() - 0.4)
    return torch.minimum(pole, (places.abs() - torch.tensor([0.2, 0.2, 0.05])).amax(1))


def saddle(places):
    """Not a distance: steep, and it leaves the cube."""
    x, y, z = (places * 9).T
    return 4 * (z - x.sin() * y.cos())


def line_of(size):
    return torch.arange(size) * (SIDE / (size - 1)) - SIDE / 2


@pytest.mark.parametrize("size", [2, 30, 65, 128])
@pytest.mark.parametrize("distances", [ball, lamp, saddle])
def test_coarse_to_fine_finds_what_all_distances_show(distances, size):
    line = line_of(size)
    dense = distances(torch.cartesian_prod(line, line, line)).reshape((size,) * 3).numpy()
    volume, known = distance_grid(distances, line)
    np.testing.assert_allclose(volume[known], dense[known], atol=1e-6)
    np.testing.assert_array_equal(volume < 0, dense < 0)
    if (dense < 0).any() and (dense > 0).any():
        spacing = SIDE / (size - 1)
        for ours, all_of_them in zip(
            zero_surface(volume, spacing, 0.5), zero_surface(dense, spacing, 0.5), strict=True
        ):
            np.testing.assert_allclose(ours, all_of_them, atol=1e-5)
    if distances is ball and size == 128:
        assert known.mean() < 0.08


@pytest.fixture
def network_and_cloud(golden):
    """A tiny surface model of formula weights: no distances, but smooth, and its surface leaves the cube."""
    manifest, tensors = golden("point_e/sdf")
    net = SurfaceModel.from_original(
        formula_state_dict(manifest["weights"], manifest["salt"]), manifest["config"]
    )
    return net, PointCloud(tensors["in/points"][0].T, tensors["in/rgb"])


@torch.no_grad()
def test_a_network_is_asked_less(network_and_cloud):
    net, cloud = network_and_cloud
    line = line_of(40)
    points = torch.from_numpy(cloud.coords).T[None]
    dense = net(torch.cartesian_prod(line, line, line).T[None], point_clouds=points)[0]
    dense = dense.reshape(40, 40, 40).numpy()
    volume, known = surface_distances(net, cloud, 40)
    assert known.mean() < 0.4
    np.testing.assert_allclose(volume[known], dense[known], atol=1e-4)
    np.testing.assert_array_equal(volume < 0, dense < 0)


def test_mesh_is_closed_coloured_and_turned_outwards(network_and_cloud):
    net, cloud = network_and_cloud
    mesh = make_mesh(net, cloud, 32)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    expected = np.round(cloud.colors[cloud.nearest(mesh.vertices)] * 255)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], expected)
    with torch.no_grad():
        for parameter in net.output_proj.parameters():
            parameter.neg_()  # a network that has learnt the other sign
    same = make_mesh(net, cloud, 32)
    np.testing.assert_allclose(same.volume, mesh.volume, rtol=1e-4)
    smooth = make_mesh(net, cloud, 32, smooth=True)
    assert smooth.is_watertight and smooth.integral_mean_curvature != mesh.integral_mean_curvature
    assert abs(smooth.volume / mesh.volume - 1) < 0.1


def test_fewer_triangles(network_and_cloud):
    pytest.importorskip("fast_simplification", reason="fewer triangles need maquette[mesh]")
    net, cloud = network_and_cloud
    mesh = make_mesh(net, cloud, 32, triangles=500)
    assert 100 < len(mesh.faces) <= 500
    assert mesh.volume > 0
    assert len(mesh.visual.vertex_colors) == len(mesh.vertices)
    with pytest.raises(ValueError, match="4 triangles or more"):
        make_mesh(net, cloud, 32, triangles=3)


def test_what_has_no_surface_is_named(network_and_cloud):
    net, cloud = network_and_cloud
    flat, few = cloud.coords * [1, 1, 0], cloud.coords[:8]
    for coords, message in (
        (flat, "in a plane"),
        (cloud.coords[:, :1].repeat(3, axis=1), "on a line"),
        (np.zeros((500, 3)), "points in 1 places"),
        (few, "points in 8 places"),
        (cloud.coords * 100, "from the origin; centre it"),
    ):
        with pytest.raises(ValueError, match=message):
            make_mesh(net, PointCloud(coords, np.zeros((len(coords), 3))), 16)
    with pytest.raises(ValueError, match="2 distances or more"):
        make_mesh(net, cloud, 1)
    torch.nn.init.constant_(net.output_proj.bias, 100.0)
    with pytest.raises(ValueError, match="finds no surface"):
        make_mesh(net, cloud, 16)
