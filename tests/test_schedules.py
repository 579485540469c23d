"""Schedules and respacing: the original's numbers, and an answer or a ValueError for anything else."""

import json
import math

import numpy as np
import pytest
from conftest import GOLDENS
from hypothesis import given
from hypothesis import strategies as st
from maquette.diffusion import betas, make_scheduler, respaced_timesteps
from maquette.diffusion.schedules import SAMPLERS

RECORD = json.loads((GOLDENS / "schedules" / "schedules.json").read_text())


@pytest.mark.parametrize("name", RECORD["respaced_timesteps"])
def test_respaced_timesteps_are_the_originals(name):
    steps, _, spacing = name.partition(":")
    kept = RECORD["respaced_timesteps"][name]
    ours = respaced_timesteps(int(steps), spacing)
    if spacing == "all":  # the record keeps the first and the last
        assert ours == list(range(int(steps)))
        ours = [ours[0], ours[-1]]
    assert ours == kept


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("steps", [1000, 1024])
def test_betas_are_the_originals(schedule, steps):
    ours = betas(schedule, steps)
    assert ours.dtype == np.float64
    assert ours.shape == (steps,)
    at = [0, 1, steps // 3, steps // 2, steps - 2, steps - 1]
    record = RECORD["betas_at_0_1_third_half_last2_last"][schedule][str(steps)]
    np.testing.assert_allclose(ours[at], record, rtol=1e-9)


counts = st.integers(-2, 60)
spacings = st.one_of(
    st.none(),
    counts,
    counts.map(str),
    counts.map("ddim{}".format),
    st.lists(counts, max_size=6),
    st.lists(counts, max_size=6).map(lambda c: ",".join(map(str, c))),
    st.sampled_from(["", "all", "fast27", "ddim", "10,", "3.5"]),
    st.text(max_size=6),
    st.floats(),
)


@given(st.integers(1, 300), spacings)
def test_any_spacing_gives_ascending_timesteps_or_a_value_error(steps, spacing):
    try:
        kept = respaced_timesteps(steps, spacing)
    except ValueError as error:
        assert str(error)
        return
    assert kept == sorted(set(kept))
    assert all(type(t) is int and 0 <= t < steps for t in kept)
    assert kept
    if isinstance(spacing, int):
        assert len(kept) == spacing
    if isinstance(spacing, list):
        assert len(kept) == sum(spacing)


@given(
    st.sampled_from(SAMPLERS),
    st.sampled_from(["linear", "squaredcos_cap_v2"]),
    st.integers(1, 300),
)
def test_a_scheduler_takes_as_many_steps_as_asked(sampler, schedule, count):
    timesteps = make_scheduler(sampler, schedule, count).timesteps
    assert len(set(timesteps)) == count
    assert timesteps == sorted(timesteps, reverse=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: betas("cosine"), "unknown noise schedule 'cosine'; known are linear"),
        (lambda: betas("linear", 20), "at least 21 steps"),
        (lambda: make_scheduler("euler"), "unknown sampler 'euler'; known are ddpm, ddim"),
        (lambda: make_scheduler(spacing=0), "cannot keep 0 of 1000"),
        (lambda: make_scheduler(spacing=1001), "cannot keep 1001 of 1000"),
        (lambda: respaced_timesteps(1000, "ddim300"), "no integer stride takes 300 steps out of 1000"),
        (lambda: respaced_timesteps(1000, math.nan), "cannot read the spacing nan"),
    ],
)
def test_what_cannot_be_is_one_clear_sentence(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
