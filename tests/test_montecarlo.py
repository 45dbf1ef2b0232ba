"""Lattices, random numbers and random-site Metropolis: specs/phases.md §3, §10, §12."""

from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from physiglot.montecarlo import chains, ising, lattices, philox, random_site
from physiglot.systems.ising import Params, simulate

SEED = np.uint64(20221)
U64 = np.uint64

# Random-site Metropolis at L = 256 from a hot start: spins that differ between steps 1→2, 2→3, 5→6 and 9→10.
FLIPS = {
    0.0: (0.180, 0.125, 0.067, 0.046),
    1.0: (0.188, 0.134, 0.075, 0.054),
    2.0: (0.239, 0.201, 0.154, 0.129),
    2.3: (0.258, 0.224, 0.186, 0.167),
    3.0: (0.295, 0.276, 0.255, 0.251),
    5.0: (0.359, 0.353, 0.351, 0.350),
}


# --- lattices ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 6, 8])
@pytest.mark.parametrize("lattice", lattices.CODE)
def test_neighbours_are_mutual(lattice, size):
    table, count = lattices.neighbours(lattice, size), lattices.sites(lattice, size)
    assert table.shape == (count, lattices.DEGREE[lattice])
    bonds = np.zeros((count, count), int)
    np.add.at(bonds, (np.arange(count)[:, None], table), 1)
    assert np.array_equal(bonds, bonds.T) and not bonds.diagonal().any()
    assert bonds.max() == (2 if size == 2 and lattice != "honeycomb" else 1)


@pytest.mark.parametrize("lattice", lattices.CODE)
def test_neighbours_differ_in_colour(lattice):
    colour, table = lattices.colouring(lattice, 6), lattices.neighbours(lattice, 6)
    assert (colour[table] != colour[:, None]).all()
    assert set(np.bincount(colour)) == {len(colour) // lattices.COLOURS[lattice]}


def test_lattices_that_do_not_exist_are_refused():
    for call, words in (
        (lambda: lattices.shape("kagome", 4), "kagome"),
        (lambda: lattices.shape("square", 1), "size 1"),
        (lambda: lattices.colouring("square", 5), "size 5.*even"),
        (lambda: lattices.colouring("triangular", 8), "size 8.*multiple of 3"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


# --- random numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, expected):
    assert tuple(map(int, philox.words(*map(U64, counter), *map(U64, key)))) == expected
    out = np.empty((4, 1), np.uint32)
    philox.fill(out, *map(U64, counter), U64(key[0] | key[1] << 32))
    assert tuple(out[:, 0]) == expected


def test_a_block_of_words_is_its_words():
    out = np.empty((4, 37), np.uint32)
    philox.fill(out, U64(5), U64(1), U64(2), U64(3), U64(9))
    for i in range(37):
        assert tuple(out[:, i]) == philox.words(U64(5 + i), U64(1), U64(2), U64(3), U64(9), U64(0))


# --- random-site Metropolis --------------------------------------------------------------------


def evolve(lattice="square", size=12, temperatures=(0.0, 1.0, 2.3, 5.0), steps=6, seed=SEED, **options):
    return ising.evolve(lattice, size, np.array(temperatures), seed, steps, **options)


@pytest.mark.parametrize("lattice, size", [(n, s) for n in lattices.CODE for s in (2, 5, 8)])
def test_observables_belong_to_the_states(lattice, size):
    """The kernel's arithmetic of neighbours and its running sums against the table and the stored bits."""
    table, count = lattices.neighbours(lattice, size), lattices.sites(lattice, size)
    run = evolve(lattice, size, sweeps=2, thermalisation=3)
    spins = chains.unpack(run.states, count).astype(int)
    assert run.magnetisation == pytest.approx(spins.mean(-1), abs=1e-12)
    energy = -(spins[..., None] * spins[..., table]).sum((-2, -1)) / 2 / count
    assert run.energy == pytest.approx(energy, abs=1e-12)
    assert run.flips[:, 1:] == pytest.approx((spins[:, 1:] != spins[:, :-1]).mean(-1), abs=1e-12)
    assert np.array_equal(chains.pack(spins), run.states)


def test_flip_fractions_of_the_paper():
    """Section 3: they identify the dynamics; sequential Metropolis gives .26 at T = 0 and .71 at T = 5."""
    temperatures = np.repeat(list(FLIPS), 16)
    flips = evolve(size=64, temperatures=temperatures, steps=10).flips.reshape(len(FLIPS), 16, 10).mean(1)
    assert flips[:, [1, 2, 5, 9]] == pytest.approx(np.array(list(FLIPS.values())), abs=0.006)


def test_sequential_metropolis_has_other_flip_fractions():
    """Section 3 excludes it for the published data by .26 at T = 0 and .71 at T = 5 between the first two steps."""
    run = evolve(size=64, temperatures=np.repeat([0.0, 5.0], 16), steps=2, dynamics="metropolis_sequential")
    assert run.flips.reshape(2, 16, 2).mean(1)[:, 1] == pytest.approx([0.26, 0.71], abs=0.006)


def test_zero_temperature_never_climbs():
    run = evolve(size=16, temperatures=np.zeros(8), steps=40)
    assert (np.diff(run.energy, axis=1) <= 0).all() and (run.energy[:, -1] < -1.5).all()


def test_a_chain_does_not_depend_on_its_companions_or_threads():
    temperatures = np.linspace(0, 5, 11)
    whole = evolve(temperatures=temperatures, threads=1)
    for field, one, two in zip(whole._fields, whole, evolve(temperatures=temperatures, threads=2), strict=True):
        assert np.array_equal(one, two), field
    for k in (0, 3, 10):
        alone = evolve(temperatures=temperatures[k : k + 1], first=k)
        assert np.array_equal(alone.states[0], whole.states[k])


def test_chains_share_no_random_numbers():
    """At T = ∞ two chains agree in half of the spins: the overlap is N(0, 1/N) for every pair, after 60 sweeps."""
    for temperature, members in ((1e9, 64), (2.269, 64)):
        last = evolve(size=16, temperatures=np.full(members, temperature), steps=60, keep=False).states[:, 0]
        assert len(np.unique(last, axis=0)) == members
        spins = chains.unpack(last, 256).astype(float)
        overlap = (spins @ spins.T / 256)[np.triu_indices(members, 1)]
        if temperature > 1e6:
            assert abs(overlap.mean()) < 4 / 16 / np.sqrt(overlap.size)
            assert overlap.std() == pytest.approx(1 / 16, rel=0.1)


def test_keeping_nothing_changes_nothing():
    full, last = evolve(), evolve(keep=False)
    assert np.array_equal(full.states[:, -1], last.states[:, 0]) and np.array_equal(full.energy, last.energy)
    assert last.states.shape[1] == 1


# --- the system --------------------------------------------------------------------------------


def test_simulate_gives_the_contract():
    params = Params(lattice="honeycomb", size=5, steps=4, sweeps=2, thermalisation=3)
    data = simulate(params, 6, np.random.default_rng(0))
    assert data.state.dtype == np.uint8 and data.state.shape == (6, 4, 7)
    assert list(data.time) == [5, 7, 9, 11] and list(data.parameter.values) == ["temperature"]
    temperature = data.parameters.values[:, 0]
    assert ((temperature >= 0) & (temperature <= 1))[::2].all() and ((temperature >= 4) & (temperature <= 5))[
        1::2
    ].all()
    assert {"lattice": "honeycomb", "sites": 50, "dynamics": "metropolis_random_site"}.items() <= data.attrs.items()
    bare = simulate(params.model_copy(update={"store": "none"}), 6, np.random.default_rng(0))
    assert list(bare.field.values) == ["energy", "magnetisation"]
    assert np.array_equal(bare.energy, data.energy) and bare.state.values == pytest.approx(
        np.stack([data.energy, data.magnetisation], -1), abs=1e-6
    )


@pytest.mark.parametrize("given", [{"first": 0.0, "last": 5.0, "step": 0.1}, [1.0, 2.0, 3.0]])
def test_temperatures_of_a_block_are_a_grid(given):
    params = Params(size=4, steps=1, temperatures=given)
    n = 51 if isinstance(given, dict) else 3
    data = simulate(params, 2 * n, np.random.default_rng(0))
    expected = 0.1 * np.arange(51) if isinstance(given, dict) else given
    assert data.parameters.values[:, 0] == pytest.approx(np.tile(expected, 2), abs=1e-12)
    with pytest.raises(ValueError, match=f"{n + 1} members over {n} temperatures"):
        simulate(params, n + 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"size": 1}, "size"),
        ({"windows": [[1.0, 0.0]]}, r"window \[1.0, 0.0\]"),
        ({"windows": [[0.0, 2.0], [1.0, 3.0]]}, "overlap"),
        ({"windows": [[-1.0, 2.0]]}, "window"),
        ({"windows": []}, "empty"),
        ({"temperatures": [-1.0]}, "not negative"),
        ({"temperatures": [float("nan")]}, "finite"),
        ({"temperatures": []}, "at least one"),
        ({"temperatures": [1.0], "windows": [[0.0, 1.0]]}, "both"),
        ({"lattice": "kagome"}, "lattice"),
        ({"dynamics": "glauber"}, "dynamics"),
    ],
)
def test_impossible_parameters_are_refused(bad, words):
    with pytest.raises(ValidationError, match=words):
        Params(**bad)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="temperature -1"):
        evolve(temperatures=[-1.0])
    with pytest.raises(ValueError, match="temperature nan"):
        evolve(temperatures=[np.nan])
    with pytest.raises(ValueError, match="dynamics 'glauber'"):
        evolve(dynamics="glauber")
    with pytest.raises(ValueError, match="start 'cold'"):
        evolve(start="cold")
    with pytest.raises(ValueError, match="spin is 0"):
        chains.pack(np.zeros(3))


def test_every_dynamics_of_the_system_is_known_to_the_engine():
    for dynamics in get_args(Params.model_fields["dynamics"].annotation):
        assert evolve(size=6, steps=1, dynamics=dynamics).states.shape[1] == 1


def test_acceptance_thresholds():
    table = random_site.thresholds(np.array([0.0, 2.0]), 4)
    for spin in (0, 1):
        for up in range(5):
            change = 2 * (2 * spin - 1) * (2 * up - 4)
            assert table[1, 8 * spin + up] == int(min(1, np.exp(-change / 2)) * 2**32)
            assert table[0, 8 * spin + up] == (2**32 if change <= 0 else 0)
