"""The oracles of the quantum chains and of Hopfield's memory against each other and against published numbers."""

import numpy as np
import pytest
from scipy.special import erf

from physiglot.exact import chains, retrieval


@pytest.mark.parametrize("sites, energy", [(10, -12.7849064430), (20, -25.4909896864), (80, -101.8657088579)])
def test_the_critical_ising_chain(sites, energy):
    assert chains.tfi(sites, 1.0) == pytest.approx(energy, abs=1e-9)


@pytest.mark.parametrize("sites", [2, 3, 4, 7, 8])
@pytest.mark.parametrize("field", [0.0, 0.5, 1.0, -1.3, 2.0])
def test_free_fermions_are_the_diagonalisation(sites, field):
    assert chains.ground_state(chains.tfi_matrix(sites, field))[0] == pytest.approx(chains.tfi(sites, field), abs=1e-9)


@pytest.mark.parametrize("sites, energy", [(4, -2.0), (10, -4.5154463545), (22, -9.7868806518), (40, -17.7465227883)])
def test_the_bethe_equations(sites, energy):
    assert chains.heisenberg(sites) == pytest.approx(energy, abs=1e-9)


@pytest.mark.parametrize("sites", [3, 4, 5, 8, 10])
@pytest.mark.parametrize("j1, j2", [(1.0, 0.0), (2.0, 1.0), (-1.0, 0.0), (-1.0, -0.5), (0.0, 0.0), (1.0, 0.3)])
def test_closed_forms_of_heisenberg_are_the_diagonalisation(sites, j1, j2):
    found, exact = chains.heisenberg(sites, j1, j2), chains.ground_state(chains.heisenberg_matrix(sites, j1, j2))[0]
    known = (j1 <= 0 and j2 <= 0) or (sites % 2 == 0 and j2 in (0.0, j1 / 2))
    assert (found is not None) == known
    assert found is None or found == pytest.approx(exact, abs=1e-9)


def test_the_ground_state_is_an_eigenvector():
    matrix = chains.tfi_matrix(10, 0.7)
    energy, vector = chains.ground_state(matrix)
    assert np.abs(matrix @ vector - energy * vector).max() < 1e-8


def test_too_large_a_chain_is_refused():
    with pytest.raises(ValueError, match="sites 15: exact diagonalisation takes up to 14"):
        chains.tfi_matrix(15, 1.0)
    with pytest.raises(ValueError, match="at least 2"):
        chains.tfi(1, 1.0)


def test_the_capacity_of_a_hopfield_memory():
    alpha, m = retrieval.capacity()
    assert alpha == pytest.approx(0.137906, abs=1e-6) and m == pytest.approx(0.967, abs=5e-4)
    assert retrieval.overlap(0.10) == pytest.approx(0.997999, abs=1e-6)
    assert retrieval.overlap(alpha + 1e-6) == 0 and retrieval.overlap(0.0) == 1


@pytest.mark.parametrize("alpha", [1e-5, 0.01, 0.08, 0.13, 0.1379])
def test_the_overlap_solves_its_equation(alpha):
    """The larger of the two solutions: m is at least that at the capacity."""
    y = np.linspace(0.5, max(6.0, 2 / np.sqrt(2 * alpha)), 400_000)
    excess = erf(y) - y * (np.sqrt(2 * alpha) + 2 / np.sqrt(np.pi) * np.exp(-(y**2)))
    last = np.flatnonzero(np.diff(np.sign(excess)))[-1]
    assert retrieval.overlap(alpha) == pytest.approx(erf(y[last]), abs=1e-5)
