"""The XY model: dynamics of specs/phases.md §3, exact values of §12."""

import numpy as np
import pytest

from physiglot.montecarlo import xy, xy_random_site
from physiglot.systems.xy import Params, simulate

SEED = np.uint64(7)

# Angles unchanged between steps 1→2, 2→3, 5→6 and 9→10 of random-site Metropolis from a hot start.
UNCHANGED = {0.0: (0.76, 0.81, 0.87, 0.90), 2.0: (0.51, 0.52, 0.53, 0.54)}


def evolve(size=8, temperatures=(0.0, 0.5, 2.0), steps=5, **options):
    return xy.evolve(size, np.array(temperatures), SEED, steps, **options)


def test_unchanged_fractions_of_the_paper():
    flips = evolve(64, np.repeat(list(UNCHANGED), 16), 10).flips.reshape(len(UNCHANGED), 16, 10).mean(1)
    assert 1 - flips[:, [1, 2, 5, 9]] == pytest.approx(np.array(list(UNCHANGED.values())), abs=0.01)


def test_observables_belong_to_the_states():
    run = evolve(6, sweeps=2, thermalisation=1)
    angles = (xy.TURN * run.states).reshape(3, 5, 6, 6)
    right, down = (np.roll(angles, -1, axis) - angles for axis in (3, 2))
    assert run.energy == pytest.approx(-(np.cos(right) + np.cos(down)).mean((2, 3)), abs=1e-5)
    assert run.magnetisation == pytest.approx(np.abs(np.exp(1j * angles).mean((2, 3))), abs=1e-5)
    assert run.bond == pytest.approx(np.cos(right).mean((2, 3)), abs=1e-5)
    assert run.current == pytest.approx(np.sin(right).sum((2, 3)) ** 2 / 36, abs=1e-4)
    assert run.flips[:, 1:] == pytest.approx((run.states[:, 1:] != run.states[:, :-1]).mean(2))


def test_the_decay_is_a_power_of_two():
    x = np.linspace(0, 61.99, 5000)
    assert [xy_random_site.decay(v) for v in x] == pytest.approx(2.0**-x, rel=1e-8)
    assert xy_random_site.decay(1e300) < 2.0**-61


def test_a_chain_does_not_depend_on_its_companions_or_threads():
    temperatures = np.linspace(0, 2, 7)
    whole = evolve(temperatures=temperatures, threads=1)
    for field, one, two in zip(whole._fields, whole, evolve(temperatures=temperatures, threads=2), strict=True):
        assert np.array_equal(one, two), field
    for k in (0, 2, 6):
        assert np.array_equal(evolve(temperatures=temperatures[k : k + 1], first=k).states[0], whole.states[k])


def test_zero_temperature_never_climbs():
    assert (np.diff(evolve(16, np.zeros(4), 30).energy, axis=1) <= 1e-7).all()


def test_the_system_keeps_all_some_or_no_sites():
    data = {
        s: simulate(Params(size=8, store=s, sites=10), 4, np.random.default_rng(0)) for s in ("full", "sites", "none")
    }
    full, some, none = data.values()
    assert full.state.dtype == np.uint16 and full.state.shape == (4, 10, 64) and some.state.shape == (4, 10, 10)
    assert np.array_equal(full.state.sel(field=some.field), some.state)
    assert list(none.field.values) == ["energy", "magnetisation"] and np.array_equal(none.energy, full.energy)
    with pytest.raises(ValueError, match="sites 64"):
        simulate(Params(size=8, store="sites", sites=64), 2, np.random.default_rng(0))


def test_wrong_arguments_are_refused():
    for options, words in (
        ({"temperatures": [-1.0]}, "temperature -1"),
        ({"dynamics": "glauber"}, "dynamics 'glauber'"),
        ({"start": "cold"}, "start 'cold'"),
    ):
        with pytest.raises(ValueError, match=words):
            evolve(**options)
