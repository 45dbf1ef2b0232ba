"""Exact values against each other and against the table of specs/phases.md §12."""

import numpy as np
import pytest

from physiglot.montecarlo import autocorrelation, exact, lattices

TC = exact.CRITICAL["square"]
# Energy per site of square tori of 4, 8, 32 and 64 sites a side, of the infinite lattice, m(∞) and <|m|> of 4 × 4.
TABLE = {
    2.0: (-1.75538029, -1.745683, -1.745565, -1.745565, -1.74556458, 0.91131938, 0.918943),
    TC: (-1.56562379, -1.491589, -1.433658, -1.423938, -np.sqrt(2), 0, 0.843860),
    3.0: (-1.01706963, -0.841315, -0.817310, -0.817310, -0.81730959, 0, 0.601291),
    5.0: (-0.45613537, -0.428368, -0.428229, -0.428229, -0.42822883, 0, 0.342766),
}


@pytest.mark.parametrize("temperature", TABLE)
def test_the_table_of_the_square_lattice(temperature):
    *tori, infinite, magnetisation, absolute = TABLE[temperature]
    found = [exact.kaufman(n, n, 1 / temperature)[1] for n in (4, 8, 32, 64)]
    assert found == pytest.approx(tori, abs=6e-7)
    assert exact.onsager(temperature) == pytest.approx(infinite, abs=6e-9)
    assert exact.magnetisation(temperature) == pytest.approx(magnetisation, abs=6e-9)
    assert exact.enumerated("square", 4, temperature)["absolute"] == pytest.approx(absolute, abs=6e-7)


def test_free_energies():
    assert exact.kaufman(4, 4, 0.5)[0] == pytest.approx(1.06908544, abs=6e-9)
    assert exact.kaufman(4, 4, 1 / TC)[0] == pytest.approx(0.97011972, abs=6e-9)
    assert exact.kaufman(2000, 2000, 1 / TC)[0] == pytest.approx(2.1096511446 / TC, abs=1e-6)
    assert exact.onsager(2.2) == pytest.approx(-1.54648914, abs=6e-9)


@pytest.mark.parametrize("temperature", [0.3, 1.0, TC, 2.5, 50.0])
def test_kaufman_against_enumeration_and_its_own_derivative(temperature):
    every = exact.enumerated("square", 4, temperature)
    assert exact.kaufman(4, 4, 1 / temperature) == pytest.approx((every["free"], every["energy"]), abs=1e-12)
    assert exact.kaufman(6, 10, 0.4) == pytest.approx(exact.kaufman(10, 6, 0.4), abs=1e-12)
    k, h = 1 / temperature, 1e-5
    slope = (exact.kaufman(16, 12, k + h)[0] - exact.kaufman(16, 12, k - h)[0]) / (2 * h)
    assert exact.kaufman(16, 12, k)[1] == pytest.approx(-slope, abs=1e-7)


@pytest.mark.parametrize("lattice, size", [("square", 3), ("triangular", 3), ("triangular", 4), ("honeycomb", 3)])
def test_transfer_matrices_against_enumeration(lattice, size):
    for temperature in (1.0, 3.0):
        assert exact.torus(lattice, size, temperature) == pytest.approx(
            exact.enumerated(lattice, size, temperature)["energy"], abs=1e-10
        )


def test_the_other_lattices():
    triangular, honeycomb = exact.CRITICAL["triangular"], exact.CRITICAL["honeycomb"]
    assert (triangular, honeycomb, TC) == pytest.approx((3.640956907, 1.518651435, 2.269185314), abs=1e-9)
    every = exact.enumerated("triangular", 4, 3.0)
    assert (every["energy"], every["absolute"]) == pytest.approx((-2.68601079, 0.93873197), abs=6e-9)
    assert exact.torus("triangular", 4, triangular) == pytest.approx(-142 / 63, abs=1e-12)
    every = exact.enumerated("honeycomb", 3, 2.0)
    assert (every["energy"], every["absolute"]) == pytest.approx((-0.87695109, 0.61457098), abs=6e-9)
    # The specification has −2.68033381, the quotient of differences of ln Z with step 1e-4.
    assert exact.infinite("triangular", 3.0) == pytest.approx(-2.6803339672, abs=1e-9)
    assert exact.infinite("honeycomb", 2.0) == pytest.approx(-0.75580124, abs=1e-8)
    assert exact.infinite("triangular", triangular) == pytest.approx(-2, abs=1e-9)
    assert exact.infinite("honeycomb", honeycomb) == pytest.approx(-2 / np.sqrt(3), abs=1e-9)
    assert exact.enumerated("square", 4, 2.0)["square"] == pytest.approx(0.86892168, abs=6e-9)


def test_potts_and_xy():
    assert exact.potts_critical(3) == pytest.approx(0.994972861, abs=6e-10)
    assert 2 * exact.potts_critical(2) == pytest.approx(TC)
    assert [exact.xy_square(t) for t in (0.5, 1.5)] == pytest.approx([-1.80156075, -1.26704722], abs=6e-9)


def test_bonds_are_all_bonds():
    for lattice in lattices.CODE:
        table = lattices.neighbours(lattice, 4)
        both = np.concatenate([lattices.bonds(lattice, 4), lattices.bonds(lattice, 4)[:, ::-1]])
        expected = np.stack([np.repeat(np.arange(len(table)), table.shape[1]), table.ravel()], 1)
        assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, expected.tolist()))


def test_lattices_that_are_too_large_are_refused():
    with pytest.raises(ValueError, match="honeycomb 7"):
        exact.torus("honeycomb", 7, 1.0)
    with pytest.raises(ValueError, match="square 5: 25 sites"):
        exact.enumerated("square", 5, 1.0)


@pytest.mark.parametrize("correlation", [0.0, 0.8, 0.95])
def test_integrated_time_of_an_autoregressive_process(correlation):
    """τ_int = ½ (1 + ρ)/(1 − ρ), so the z-score of the true mean is of order one."""
    rng = np.random.default_rng(3)
    x = np.empty((16, 20000))
    x[:, 0] = rng.normal(size=16)
    for t in range(1, x.shape[1]):
        x[:, t] = correlation * x[:, t - 1] + np.sqrt(1 - correlation**2) * rng.normal(size=16)
    expected = 0.5 * (1 + correlation) / (1 - correlation)
    assert autocorrelation.integrated_time(x) == pytest.approx(expected, rel=0.05)
    assert autocorrelation.mean_error(x)[1] == pytest.approx(np.sqrt(2 * expected / x.size), rel=0.05)
    assert abs(autocorrelation.z_score(x, 0.0)) < 3
