"""XY and Heisenberg spins: exact energies of the 2 × 2 torus, over-relaxation, limits; specs/phases.md §10 and §12."""

import numpy as np
import pytest
from numba import njit
from scipy.special import spherical_in

from physiglot.montecarlo import autocorrelation, exact, lattices, rotors, spins, xy
from physiglot.montecarlo.vectors import load, pointer, store
from physiglot.systems import heisenberg

SEED = np.uint64(5)
MIXES = [(d, n) for d in spins.DYNAMICS for n in ((0, 2) if d == "metropolis_checkerboard" else (0,))]


def heisenberg_exact(temperature: float) -> float:
    """Energy per site of the 2 × 2 torus: a ring of four at doubled coupling, in spherical Bessel functions."""
    orders, x = np.arange(60), 2 / temperature
    bessel, slope = spherical_in(orders, x), spherical_in(orders, x, derivative=True)
    return float(-2 * np.sum((2 * orders + 1) * bessel**3 * slope) / np.sum((2 * orders + 1) * bessel**4))


def evolve(size=2, components=2, temperatures=(1.0,), steps=500, **options):
    return spins.evolve("square", size, components, np.array(temperatures), SEED, steps, **options)


@pytest.mark.parametrize("dynamics, reflections", MIXES)
@pytest.mark.parametrize("temperature", [0.5, 1.5])
def test_exact_energies(dynamics, reflections, temperature):
    options = {"dynamics": dynamics, "over_relaxation": reflections, "thermalisation": 200}
    for components, known in ((2, exact.xy_square(temperature)), (3, heisenberg_exact(temperature))):
        run = evolve(2, components, np.full(64, temperature), **options)
        assert abs(autocorrelation.z_score(run.energy, known)) < 4, components


def test_the_random_site_dynamics_has_the_same_energies():
    for temperature in (0.5, 1.5):
        run = xy.evolve(2, np.full(64, temperature), SEED, 2000, thermalisation=200)
        assert abs(autocorrelation.z_score(run.energy, exact.xy_square(temperature))) < 4


@pytest.mark.parametrize("dynamics, reflections", MIXES)
def test_all_dynamics_agree_on_a_larger_lattice(dynamics, reflections):
    """Energy and helicity modulus of XY at L = 8, T = 0.9, against heat bath, τ_int-aware."""
    length = {"steps": 400, "thermalisation": 200, "keep": np.empty(0, np.int64)}
    reference = evolve(8, 2, np.full(32, 0.9), dynamics="heat_bath", **length)
    run = evolve(8, 2, np.full(32, 0.9), dynamics=dynamics, over_relaxation=reflections, **length)
    for name in ("energy", "bond", "current"):
        (a, da), (b, db) = (autocorrelation.mean_error(getattr(r, name)) for r in (run, reference))
        assert abs(a - b) < 4 * np.hypot(da, db) + 1e-12, name


@pytest.mark.parametrize("components", [2, 3])
@pytest.mark.parametrize("lattice, size", [("square", 8), ("triangular", 6), ("honeycomb", 4)])
def test_over_relaxation_conserves_the_energy(lattice, size, components):
    """To 1e-12 in double precision over 100 sweeps; in single to 1e-5. Spins move and stay on the sphere."""
    order, table, _ = lattices.by_colour(lattice, size)
    count = len(order)
    start = np.random.default_rng(0).normal(size=(count, components, 16))
    start /= np.linalg.norm(start, axis=1, keepdims=True)

    def energy(state: np.ndarray) -> np.ndarray:
        one, other = lattices.bonds(lattice, size).T
        return -(state[one].astype(float) * state[other]).sum((0, 1)) / count

    for kind, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        state = start.astype(kind)
        for _ in range(100):
            rotors.over_relaxation(state.reshape(-1), order, table, components)
        assert np.abs(energy(state) - energy(start)).max() < tolerance
        assert np.abs((state.astype(float) ** 2).sum(1) - 1).max() < 10 * tolerance
        assert np.abs(state - start).max() > 0.5


def test_the_vector_exponential():
    @njit
    def apply(x, out):
        store(pointer(out), 0, rotors.exponential(load(pointer(x), 0)))

    x, out = np.empty(16, np.float32), np.empty(16, np.float32)
    for low in np.linspace(-125, -0.001, 200):
        x[:] = np.linspace(low, low * 0.99, 16)
        apply(x, out)
        assert out == pytest.approx(2.0 ** x.astype(float), rel=5e-7)
    x[:] = -np.inf
    apply(x, out)
    assert (out < 1e-37).all()


@pytest.mark.parametrize("components", [2, 3])
@pytest.mark.parametrize("dynamics", spins.DYNAMICS)
def test_reproducibility_and_observables(dynamics, components):
    temperatures = np.linspace(0, 2, 20)
    run = evolve(4, components, temperatures, 3, dynamics=dynamics, sweeps=2, thermalisation=1, threads=1)
    two = evolve(4, components, temperatures, 3, dynamics=dynamics, sweeps=2, thermalisation=1, threads=2)
    assert all(np.array_equal(a, b) for a, b in zip(run, two, strict=True))
    part = evolve(4, components, temperatures[14:18], 3, dynamics=dynamics, sweeps=2, thermalisation=1, first=14)
    assert np.array_equal(part.states, run.states[14:18])
    state, table = run.states.astype(float), lattices.neighbours("square", 4)
    assert np.abs((state**2).sum(-1) - 1).max() < 1e-5
    assert run.energy == pytest.approx(
        -(state[..., None, :] * state[..., table, :]).sum((-2, -1)).mean(-1) / 2, abs=1e-5
    )
    assert run.magnetisation == pytest.approx(np.linalg.norm(state.mean(2), axis=-1), abs=1e-5)
    if dynamics == "wolff":
        assert (run.cluster > 0).all()


def test_limits_of_temperature():
    cold = evolve(8, 2, np.zeros(16), 60)
    assert (np.diff(cold.energy) <= 1e-6).all() and cold.energy[:, -1].mean() < -1.2
    hot = evolve(8, 3, np.full(32, 1e9), 20, thermalisation=20)
    assert abs(hot.energy.mean()) < 0.02 and abs(hot.states.mean()) < 0.01


def test_the_xy_system_turns_vectors_into_angles():
    run = xy.evolve(4, np.array([0.5, 1.0]), SEED, 3, dynamics="metropolis_checkerboard", over_relaxation=1)
    angles = (xy.TURN * run.states).reshape(2, 3, 4, 4)
    energy = -sum(np.cos(np.roll(angles, -1, axis) - angles).mean((2, 3)) for axis in (2, 3))
    assert run.energy == pytest.approx(energy, abs=1e-3)


def test_the_heisenberg_system():
    data = heisenberg.simulate(heisenberg.Params(size=4, steps=2), 4, np.random.default_rng(0))
    assert (
        data.state.dtype == np.int16
        and data.state.shape == (4, 2, 48)
        and list(data.field.values[:2]) == ["0.x", "0.y"]
    )
    length = (data.state.values.reshape(4, 2, 16, 3).astype(float) ** 2).sum(-1)
    assert np.sqrt(length) == pytest.approx(heisenberg.SCALE, rel=1e-3)


def test_wrong_arguments_are_refused():
    for options, words in (
        ({"dynamics": "glauber"}, "dynamics 'glauber'"),
        ({"start": "cold"}, "start 'cold'"),
        ({"temperatures": [np.nan]}, "temperature nan"),
        ({"dynamics": "wolff", "over_relaxation": 1}, "over_relaxation 1"),
        ({"size": 5}, "size 5"),
    ):
        with pytest.raises(ValueError, match=words):
            evolve(**options)
    with pytest.raises(ValueError, match="over_relaxation 2"):
        xy.evolve(4, np.ones(1), SEED, 1, over_relaxation=2)
