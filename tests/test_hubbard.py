"""Determinant Monte Carlo of the Hubbard model against exact diagonalisation, limits, and products done otherwise."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from physiglot.models import flip_logistic
from physiglot.montecarlo import diagonalisation, green, hubbard
from physiglot.systems import hubbard as system

RING, SIGNS = hubbard.hopping("chain", 4), hubbard.sublattices("chain", 4)
ENDS = np.array([0, 3, 6])
SEED = np.uint64(2206)
NAMES = ("double_occupancy", "kinetic", "staggered")


def per_chain(found: hubbard.Trajectory, interaction: float) -> dict[str, np.ndarray]:
    """Means of the chains, and the energy per site."""
    means = {name: getattr(found, name).mean(1) for name in NAMES}
    return means | {"energy": means["kinetic"] + interaction * means["double_occupancy"]}


def exact(found: diagonalisation.Averages, interaction: float) -> dict[str, float]:
    return vars(found) | {"energy": found.kinetic + interaction * found.double_occupancy}


def deviations(found: hubbard.Trajectory, expected: diagonalisation.Averages, interaction: float) -> dict[str, float]:
    """(Monte Carlo − exact) in standard errors; the chains are independent."""
    wanted = exact(expected, interaction)
    return {
        name: float((values.mean() - wanted[name]) / (values.std(ddof=1) / np.sqrt(len(values))))
        for name, values in per_chain(found, interaction).items()
    }


# --- the oracle --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beta, double, energy",
    [(1, 0.10771749, -0.15546673), (4, 0.07839548, -0.47709299), (8, 0.07446709, -0.50932736)],
)
def test_diagonalisation_of_the_ring_has_the_known_values(beta, double, energy):
    found = exact(diagonalisation.thermal(RING, SIGNS, 4.0, beta), 4.0)
    assert found["double_occupancy"] == pytest.approx(double, abs=1e-8)
    assert found["energy"] == pytest.approx(energy, abs=1e-8)


def test_diagonalisation_has_the_known_ground_states():
    energies = [diagonalisation.ground(RING, u, 2, 2) for u in (2.0, 4.0, 8.0)]
    assert energies == pytest.approx([-2.82842712, -2.10274848, -1.32023496], abs=1e-8)
    assert diagonalisation.ground(hubbard.hopping("square", 2), 4.0, 2, 2) == pytest.approx(-5.65685425, abs=1e-8)


def test_the_exact_trotter_product_extrapolates():
    """Quadratic in Δτ, so that two steps give the limit to the fourth order."""
    limit = exact(diagonalisation.thermal(RING, SIGNS, 4.0, 4.0), 4.0)
    found = [exact(diagonalisation.thermal(RING, SIGNS, 4.0, 4.0, dtau), 4.0) for dtau in (0.1, 0.05)]
    for name, value in limit.items():
        coarse, fine = (f[name] - value for f in found)
        assert 3.5 < coarse / fine < 4.5
        assert abs(4 * fine - coarse) / 3 < 1e-4


def test_a_long_projection_of_the_exact_trotter_product_is_the_ground_state():
    orbitals, name = hubbard.trial("chain", 4)
    found = [diagonalisation.projected(RING, SIGNS, 4.0, orbitals, round(60 / d), d) for d in (0.1, 0.05)]
    energies = [4 * exact(f, 4.0)["energy"] for f in found]
    assert "dimerisation" in name
    assert (4 * energies[1] - energies[0]) / 3 == pytest.approx(diagonalisation.ground(RING, 4.0, 2, 2), abs=1e-4)


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice, size", [("honeycomb", 3), ("square", 2), ("chain", 6)])
def test_free_electrons_have_the_green_function_of_the_fermi_function(lattice, size):
    energies, orbitals = np.linalg.eigh(hubbard.hopping(lattice, size))
    found = hubbard.evolve(lattice, size, np.zeros(1), SEED, 2, beta=4.0)
    expected = (orbitals / (1 + np.exp(-4.0 * energies))) @ orbitals.T
    assert np.abs(found.green[0].reshape(2, *expected.shape) - expected).max() < 1e-12
    assert np.abs(found.double_occupancy - 0.25).max() < 1e-12


def test_free_electrons_stay_in_their_trial_state():
    orbitals, name = hubbard.trial("honeycomb", 2)
    found = hubbard.evolve("honeycomb", 2, np.zeros(1), SEED, 2, projection=3.0)
    assert name == "free fermions"
    assert np.abs(found.green[0, -1].reshape(8, 8) - (np.eye(8) - orbitals @ orbitals.T)).max() < 1e-12


def test_electrons_that_do_not_hop():
    """t = 0: ⟨n↑n↓⟩ = 1 / (2 (1 + e^{βU/2})) at every site and for any Δτ."""
    beta, interaction, dtau, still = 2.0, 2.0, 0.25, np.eye(4)
    coupling = float(np.arccosh(np.exp(0.5 * dtau * interaction)))
    double = []
    for chain in range(64):
        out = np.empty((300, 4, 4))
        field = hubbard.hot(8, 4, SEED, chain)
        ends = hubbard.groups(8, 2 * coupling)
        hubbard.run(field, still, still, still, still, ends, coupling, SEED, chain, 20, 0, out)
        double.append(hubbard.measure(out, RING, SIGNS)[0].mean())
    error = np.std(double, ddof=1) / 8
    assert error < 0.002
    assert abs(np.mean(double) - 1 / (2 * (1 + np.exp(beta * interaction / 2)))) < 3 * error


# --- Monte Carlo against diagonalisation -------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 4.0, 8.0])
def test_the_ring_at_finite_temperature(beta):
    """Double occupancy, kinetic energy, energy and staggered magnetisation at this very Δτ, within 3 σ."""
    found = hubbard.evolve("chain", 4, np.full(48, 4.0), SEED, 300, beta=beta, thermalisation=30, site_flips=2)
    expected = diagonalisation.thermal(RING, SIGNS, 4.0, beta, 0.1)
    assert all(abs(z) < 3 for z in deviations(found, expected, 4.0).values())


def test_the_ring_without_a_trotter_error():
    """Δτ = 0.2, 0.1, 0.05 and a line in Δτ² give the values of H itself."""
    beta, steps, wanted = 2.0, np.array([0.2, 0.1, 0.05]), exact(diagonalisation.thermal(RING, SIGNS, 4.0, 2.0), 4.0)
    runs = [
        per_chain(
            hubbard.evolve(
                "chain", 4, np.full(128, 4.0), SEED, 300, beta=beta, dtau=d, thermalisation=20, site_flips=1
            ),
            4.0,
        )
        for d in steps
    ]
    for name, tolerance in (("double_occupancy", 0.002), ("energy", 0.005)):
        mean, error = (np.array([f(run[name]) for run in runs]) for f in (np.mean, np.std))
        error /= np.sqrt(128)
        (_, found), covariance = np.polyfit(steps**2, mean, 1, w=1 / error, cov="unscaled")
        spread = np.sqrt(covariance[1, 1])
        assert abs(found - wanted[name]) < min(3 * spread, tolerance)
        assert spread < tolerance / 2


def test_reversing_a_site_in_all_slices_reaches_equilibrium_sooner():
    """β = 8: the staggered moment turns slowly by single flips, so its error bar is several times as long."""
    values = [
        hubbard.evolve("chain", 4, np.full(24, 4.0), SEED, 100, beta=8.0, thermalisation=20, site_flips=n).staggered
        for n in (0, 2)
    ]
    slow, fast = (v.mean(1).std() for v in values)
    assert slow > 2 * fast


def test_the_torus_of_two_by_two_has_doubled_bonds():
    torus, signs = hubbard.hopping("square", 2), hubbard.sublattices("square", 2)
    found = hubbard.evolve("square", 2, np.full(48, 4.0), SEED, 200, beta=2.0, dtau=0.05, thermalisation=20)
    assert sorted(set(torus.ravel())) == [-2.0, 0.0]
    expected = diagonalisation.thermal(torus, signs, 4.0, 2.0, 0.05)
    assert all(abs(z) < 3 for z in deviations(found, expected, 4.0).values())


@pytest.mark.parametrize("length", [0.5, 6.0])
def test_the_ring_between_trial_states(length):
    """A short projection is not yet the ground state; both are known exactly."""
    orbitals, _ = hubbard.trial("chain", 4)
    found = hubbard.evolve("chain", 4, np.full(48, 4.0), SEED, 300, projection=length, thermalisation=30, site_flips=2)
    expected = diagonalisation.projected(RING, SIGNS, 4.0, orbitals, round(20 * length), 0.1)
    assert all(abs(z) < 3 for z in deviations(found, expected, 4.0).values())


# --- algebra -----------------------------------------------------------------------------------


def slice_matrices(field: np.ndarray, coupling: float, setting: hubbard.Setting) -> list[np.ndarray]:
    return [np.exp(coupling * spins)[:, None] * setting.kinetic for spins in field]


def block_inverse(matrices: list[np.ndarray], last: int) -> np.ndarray:
    """G after slice `last` from the matrix of all slices, which never multiplies two of them."""
    slices, sites = len(matrices), len(matrices[0])
    whole = np.eye(slices * sites).reshape(slices, sites, slices, sites)
    for k, matrix in enumerate(matrices):
        whole[k, :, k - 1, :] -= matrix if k else -matrix
    inverse = np.linalg.inv(whole.reshape(slices * sites, -1)).reshape(slices, sites, slices, sites)
    return inverse[last, :, last, :]


@pytest.mark.parametrize("interaction", [4.0, 8.0])
def test_a_long_product_keeps_its_scales(interaction):
    """β = 16 makes factors of 10⁶⁰; G of the middle agrees with a method that has no products."""
    setting, coupling = hubbard.prepare("chain", 4, 0.1, False), float(np.arccosh(np.exp(0.05 * interaction)))
    field = hubbard.hot(160, 4, SEED, 5)
    ends = hubbard.groups(160, setting.growth + 2 * coupling)
    found = hubbard.rebuilt(field, setting.kinetic, setting.right, setting.left, ends, coupling)
    assert np.abs(found - block_inverse(slice_matrices(field, coupling, setting), 79)).max() < 1e-9


def test_weights_are_positive_and_ratios_are_those_of_determinants():
    """Both determinants multiplied out: their product is positive, and a flip changes it by the ratio of `update`."""
    setting, coupling = hubbard.prepare("chain", 4, 0.2, False), 0.9
    field = hubbard.hot(6, 4, SEED, 1)

    def weight(spins: np.ndarray) -> float:
        found = 1.0
        for sign in (1, -1):
            product = np.linalg.multi_dot(slice_matrices(spins, sign * coupling, setting)[::-1])
            found *= np.linalg.det(np.eye(4) + product)
        return found

    after = field.copy()
    after[:, 2] *= -1
    identity = np.eye(4)
    logs = [
        2
        * green.log_determinant(identity, *(x[0] for x in green.suffixes(identity, f, setting.kinetic, coupling, ENDS)))
        - coupling * f.sum()
        for f in (field, after)
    ]
    assert logs[1] - logs[0] == pytest.approx(np.log(weight(after) / weight(field)), rel=1e-10)
    g = block_inverse(slice_matrices(field, coupling, setting), 5)
    for site in range(4):
        flipped = field.copy()
        flipped[5, site] *= -1
        gamma = np.exp(-2 * coupling * field[5, site]) - 1
        ratio = (1 + gamma * (1 - g[site, site])) ** 2 / (gamma + 1)
        assert weight(field) > 0
        assert weight(flipped) / weight(field) == pytest.approx(ratio, rel=1e-10)


def test_updated_green_functions_are_those_of_the_new_field():
    """Rank-1 updates and wraps over many slices, against rebuilding; and G_↓ against its mirror image."""
    for length in ({"beta": 4.0}, {"projection": 4.0}):
        found = hubbard.evolve("honeycomb", 3, np.array([0.5, 4.0, 8.0]), SEED, 3, **length)
        assert 0 < found.wrap_error.max() < 1e-8
        assert found.particle_hole_error.max() < 1e-9
        diagonal = found.green.reshape(3, 3, 18, 18).diagonal(axis1=2, axis2=3)
        assert np.all(found.double_occupancy >= 0) and diagonal[1:].std() > 0.01


def test_wrapping_too_far_is_an_error(monkeypatch):
    monkeypatch.setattr(hubbard, "WRAPPING", 100.0)
    monkeypatch.setattr(hubbard, "TOGETHER", 40)
    with pytest.raises(RuntimeError, match=r"wrapped and rebuilt G differ by .* use a smaller dtau"):
        hubbard.evolve("honeycomb", 2, np.array([8.0]), SEED, 2, beta=8.0)


def test_a_chain_depends_on_its_number_alone():
    many = hubbard.evolve("honeycomb", 2, np.array([3.0, 5.0, 7.0]), SEED, 3, projection=1.0, threads=2)
    alone = hubbard.evolve("honeycomb", 2, np.array([3.0]), SEED, 3, projection=1.0, threads=1)
    assert np.array_equal(many.green[0], alone.green[0])
    twins = hubbard.evolve("honeycomb", 2, np.array([3.0, 3.0]), SEED, 3, projection=1.0)
    assert not np.allclose(twins.green[0], twins.green[1], atol=1e-3)


def test_the_trial_state_is_unique():
    """Honeycomb with L a multiple of 3: four states at the Fermi level, split by 1e-4."""
    for lattice, size in (("honeycomb", 3), ("honeycomb", 6), ("square", 4), ("chain", 8)):
        orbitals, name = hubbard.trial(lattice, size)
        assert name == "free fermions, dimerisation 0.0001"
        half = 2 * np.sum((orbitals @ orbitals.T) ** 2) / len(orbitals)
        assert half == pytest.approx(1) and np.diag(orbitals @ orbitals.T) == pytest.approx(0.5)


# --- the system --------------------------------------------------------------------------------


def test_a_data_set_has_entries_of_the_green_function():
    given = {"size": 2, "steps": 4, "projection": 1.0, "interactions": [1.0, 5.0]}
    full = system.simulate(system.Params(**given), 4, np.random.default_rng(3))
    some = system.simulate(system.Params(**given, store="entries", entries=20), 4, np.random.default_rng(3))
    assert full["state"].shape == (4, 4, 64) and full["state"].dtype == np.float32
    assert np.array_equal(some["state"], full["state"].sel(field=some["field"]))
    assert some["field"].size == 20 and all(len(name.split(",")) == 2 for name in some["field"].values)
    assert full["parameters"].values[:, 0].tolist() == [1.0, 5.0, 1.0, 5.0] and full["parameter"] == ["interaction"]
    assert {"double_occupancy", "kinetic", "staggered", "wrap_error", "particle_hole_error"} <= set(full.data_vars)
    assert full.attrs["trial"] == "free fermions" and full.attrs["projection"] == 1.0 and full.attrs["sites"] == 8


def test_the_control_counts_small_entries():
    """After the first step: n − 1 fractions, and the constant."""
    params = flip_logistic.Params(quantity="real", series=4, steps=3, small=0.1)
    model = flip_logistic.Model(params, mean=torch.zeros(4), std=torch.ones(4))
    state = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [0.05, -0.05, 0.2, -0.2], [1.0, -1.0, 0.3, 0.01]]])
    assert model.flips(state).tolist() == [[0.5, 0.25, 1.0]]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"lattice": "triangular"}, "lattice"),
        ({"lattice": "square", "size": 3}, "size 3: the square lattice is bipartite only if the size is even"),
        ({"beta": 1.0, "projection": 1.0}, "beta 1.0 and projection 1.0: give one of them"),
        ({"beta": float("nan")}, "beta"),
        ({"windows": [[0.0, 2.0], [1.0, 3.0]]}, "windows .* overlap"),
        ({"windows": [[0.0, 2.0]], "interactions": [1.0]}, "windows and interactions are both given"),
        ({"interactions": [-1.0]}, "interactions .* not negative"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        system.Params(**given)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"dtau": 0.2}, "dtau 0.2: times the interaction 8 it is above 1; allowed: up to 0.125"),
        ({"projection": 1.03}, "projection 1.03: with dtau 0.1 it makes 20.6 slices"),
        ({"beta": 0.1}, "beta 0.1: with dtau 0.1 it makes 1 slices; allowed: 2, 3, 4"),
        ({"store": "entries", "entries": 325}, "entries 325: G of 18 sites has 324"),
        ({"interactions": [1.0, 2.0, 3.0]}, "a block of 2 members over 3 interactions"),
    ],
)
def test_what_a_run_cannot_do_is_refused(given, message):
    params = system.Params(**{"interactions": [1.0, 8.0]} | given)
    with pytest.raises(ValueError, match=message):
        system.simulate(params, 2, np.random.default_rng(0))


def test_a_coarse_slice_is_warned_of():
    with pytest.warns(UserWarning, match="dtau 0.1: times the interaction 6 it is above 0.5"):
        hubbard.checked(np.array([2.0, 6.0]), 0.1)


def test_an_attractive_interaction_or_another_lattice_is_refused():
    with pytest.raises(ValueError, match=r"interaction -1.0: it must be finite and 0 or more \(repulsive\)"):
        hubbard.evolve("chain", 4, np.array([-1.0]), SEED, 1, beta=1.0)
    with pytest.raises(ValueError, match="lattice 'triangular': allowed, being bipartite: honeycomb, square, chain"):
        hubbard.evolve("triangular", 4, np.array([1.0]), SEED, 1, beta=1.0)
