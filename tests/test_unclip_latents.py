"""Arithmetic with embeddings and noise, on vectors whose answers are known."""

import math

import pytest
import torch
from maquette.diffusion import from_epsilon, make_scheduler, sample
from maquette.unclip import ddim_inversion, in_dimensions, principal_axes, slerp, towards


def test_the_arc_between_two_points():
    east, north = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    start, middle, end = slerp(east, north, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(start, east)
    torch.testing.assert_close(end, north)
    torch.testing.assert_close(middle, torch.tensor([1.0, 1.0]) * 3 / math.sqrt(2))
    # Noise of deviation 1 stays so, which on the straight line between two draws it would not.
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert 0.97 < slerp(noise[0], noise[1], torch.tensor([0.5])).std() < 1.03
    torch.testing.assert_close(slerp(east, east, torch.tensor([0.3]))[0], east)


def test_an_embedding_turns_by_the_difference_of_two_texts_and_keeps_its_length():
    embedding, red, blue = torch.eye(3)
    turned = towards(3 * embedding, 2 * red, 5 * blue, 1.0)
    torch.testing.assert_close(turned, 3 * (blue - red) / math.sqrt(2))
    halfway = towards(3 * embedding, red, blue, 0.5)
    torch.testing.assert_close(halfway.norm(), torch.tensor(3.0))
    torch.testing.assert_close(towards(embedding, red, blue, 0.0), embedding)
    with pytest.raises(ValueError, match="reads the same in both texts"):
        towards(embedding, red, 2 * red, 0.7)


def test_inverted_noise_leads_back_to_what_it_came_from():
    """With the exact denoiser of a Gaussian of deviation 0.5, the noise is x / 0.5 on the whole way."""
    scheduler = make_scheduler("ddim", "squaredcos_cap_v2", 100)
    table = scheduler.alphas_cumprod

    def epsilon(x, timesteps):
        alpha_bar = table[timesteps].float().view(-1, 1)
        return x * (1 - alpha_bar).sqrt() / (0.25 * alpha_bar + 1 - alpha_bar)

    denoise = from_epsilon(epsilon, table)
    x = 0.5 * torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    noise = ddim_inversion(denoise, scheduler, x)
    torch.testing.assert_close(noise, 2 * x, rtol=0.05, atol=0)
    again = sample(denoise, scheduler, noise, lambda: torch.zeros(()))
    assert (again - x).abs().max() < 0.05 * x.abs().max()


def test_principal_axes_hold_the_most_first():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(200, 5, generator=generator) * torch.tensor([1.0, 5, 2, 0.1, 3]) + 7
    assert len(principal_axes(embeddings[:3])[1]) == 2
    mean, axes = principal_axes(embeddings)
    assert axes.abs().argmax(dim=1).tolist() == [1, 4, 2, 0, 3]
    one = embeddings[0]
    errors = [(in_dimensions(one, mean, axes, count) - one).norm().item() for count in range(6)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 1 and errors[5] < 1e-4
