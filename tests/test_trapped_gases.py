"""Gases in a trap and free particles: closed forms against quadrature, and the samplers against exact values."""

from math import log, pi

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, quad

from physiglot.exact import loggas
from physiglot.montecarlo import autocorrelation
from physiglot.systems import coulomb_trap, particles

# --- closed forms ------------------------------------------------------------------------------


def test_closed_forms_as_specified():
    assert loggas.ginibre(6) == pytest.approx(23.8980827500, abs=1e-9)
    assert loggas.mehta(4, 2.0) == pytest.approx(3.7935371685, abs=1e-9)
    assert loggas.pair(3, "inverse", 1.0) == pytest.approx(5.0009758022, abs=1e-8)


@pytest.mark.parametrize("beta", [0.5, 2.0, 3.3])
def test_closed_forms_agree_where_both_hold(beta):
    """Two particles: the radial integral; and on a line against a double integral."""
    assert loggas.pair(1, "log", beta) == pytest.approx(loggas.mehta(2, beta), abs=1e-8)
    brute = dblquad(lambda y, x: np.exp(-beta * (x * x + y * y) / 2) * abs(x - y) ** beta, -9, 9, -9, lambda x: x)[0]
    assert log(2 * brute) == pytest.approx(loggas.mehta(2, beta), abs=1e-6)
    if beta == 2:
        assert loggas.pair(2, "log", 2.0) == pytest.approx(loggas.ginibre(2), abs=1e-8)


def test_no_closed_form_elsewhere():
    assert loggas.log_z(3, 2, "log", 1.0) is None and loggas.log_z(5, 3, "inverse", 2.0) is None
    assert loggas.log_z(1, 3, "inverse", 2.0) == pytest.approx(1.5 * log(pi))
    with pytest.raises(ValueError, match="beta"):
        loggas.log_z(3, 2, "log", -1.0)
    with pytest.raises(ValueError, match="not bound"):
        loggas.relative(lambda r: 0.0, 3)


def test_two_free_particles_live_in_one_distance():
    """DW2 in three dimensions, as specified; in one against its integral over y = (x₁ − x₂)/√2."""
    params = particles.Params(count=2, dimension=3)
    assert particles.target(params).exact_logZ() == pytest.approx(9.1143919, abs=1e-6)
    line = particles.Params(count=2, dimension=1, oscillator=0.5)
    weight = lambda y: np.exp(-particles.pair_energy(line, abs(y) * 2**0.5) - 0.25 * y * y)  # noqa: E731
    brute = 2 * quad(weight, 0, 20, limit=400)[0]
    assert particles.target(line).exact_logZ() == pytest.approx(log(brute), abs=1e-8)
    assert particles.target(particles.Params()).exact_logZ() is None


# --- targets -----------------------------------------------------------------------------------

TARGETS = {
    "gas": coulomb_trap.target(coulomb_trap.Params(count=4)),
    "coulomb": coulomb_trap.target(coulomb_trap.Params(count=4, dimension=3, kernel="inverse")),
    "dw4": particles.target(particles.Params()),
    "lj13": particles.target(
        particles.Params(count=13, dimension=3, potential="lennard_jones", oscillator=1.0, pair_factor=2.0)
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_symmetries_leave_the_energy_unchanged(name):
    target = TARGETS[name]
    x = 2 * torch.randn(5, *target.shape, dtype=torch.float64)
    for move in target.symmetries.values():
        assert torch.allclose(target.energy(move(x)), target.energy(x))
    with pytest.raises(ValueError, match="shape"):
        target.energy(x[:, 1:])


@pytest.mark.parametrize("name", ["gas", "coulomb", "lj13"])
def test_particles_that_overlap_have_no_weight(name):
    target = TARGETS[name]
    x = torch.randn(3, *target.shape, dtype=torch.float64)
    x[0, 0] = x[0, 1]
    energy = target.energy(x)
    assert energy[0] == torch.inf and torch.isfinite(energy[1:]).all()


def test_energies_by_hand():
    gas = coulomb_trap.target(coulomb_trap.Params(count=2, kernel="inverse", charge2=3.0))
    x = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], dtype=torch.float64)
    assert gas.energy(x).item() == pytest.approx(1.0 + 3.0 / 2)
    one, two = (particles.Params(potential="lennard_jones", pair_factor=f) for f in (1.0, 2.0))
    assert particles.pair_energy(one, 1.0) == -1 and particles.pair_energy(two, 1.0) == -2
    assert particles.pair_energy(particles.Params(), 4 + (20 / 9) ** 0.5) == pytest.approx(-4.444444, abs=1e-5)


# --- samplers ----------------------------------------------------------------------------------


def test_random_matrices_are_the_gas():
    x = torch.as_tensor(loggas.ginibre_draws(5, (20000,), np.random.default_rng(0)))
    radius = x.square().sum((1, 2)).numpy()
    exact = loggas.square_radius(5, 2, 2.0)
    assert exact == 15 and abs(radius.mean() - exact) < 4 * radius.std() / 20000**0.5
    first = x[:, 0].square().sum(1).numpy()
    assert abs(first.mean() - 3) < 4 * first.std() / 20000**0.5


def test_chains_of_gases_give_the_exact_radius():
    params = coulomb_trap.Params(count=3, beta=1.0, steps=60, step=0.2, every=3, leaps=6)
    data = coulomb_trap.simulate(params, 64, np.random.default_rng(1))
    assert data.attrs["sampler"] == "hybrid Monte Carlo" and float(data["acceptance"].mean()) > 0.5
    radius = (data["state"].values ** 2).sum(-1)
    assert abs(autocorrelation.z_score(radius, loggas.square_radius(3, 2, 1.0))) < 4


def test_chains_of_two_free_particles_have_the_exact_distances():
    params = particles.Params(count=2, dimension=3, beta=0.3, steps=60, every=2, warm=40, step=0.1)
    data = particles.simulate(params, 64, np.random.default_rng(2))
    x = data["state"].values.reshape(64, 60, 2, 3)
    assert np.abs(x.mean(2)).max() < 1e-12
    r = np.linalg.norm(x[:, :, 0] - x[:, :, 1], axis=-1)
    weight = lambda s: s**2 * np.exp(-0.3 * particles.pair_energy(params, s))  # noqa: E731
    exact = quad(lambda s: s * weight(s), 0, 12, limit=200)[0] / quad(weight, 0, 12, limit=200)[0]
    assert abs(autocorrelation.z_score(r, exact)) < 4


def test_lennard_jones_clusters_obey_the_virial_theorem():
    """β ⟨Σ x·∇E⟩ is the number of free coordinates, (N − 1) d = 36."""
    params = particles.Params(
        count=13, dimension=3, potential="lennard_jones", oscillator=1.0, steps=20, warm=60, every=3, step=0.04, leaps=8
    )
    data = particles.simulate(params, 32, np.random.default_rng(3))
    assert float(data["acceptance"].mean()) > 0.5
    x = torch.as_tensor(data["state"].values.reshape(-1, 13, 3)).requires_grad_()
    gradient = torch.autograd.grad(particles.target(params).energy(x).sum(), x)[0]
    virial = (x * gradient).sum((1, 2)).detach().numpy().reshape(32, 20)
    assert abs(autocorrelation.z_score(virial, 36)) < 4
