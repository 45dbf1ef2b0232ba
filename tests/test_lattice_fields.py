"""The free field and φ⁴: exact values against brute force, and the samplers against the exact values."""

from math import pi

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from physiglot.exact import gaussian, lattice_field
from physiglot.montecarlo import autocorrelation
from physiglot.systems import gff, phi4
from physiglot.targets import hmc

COUPLING = 6.975


# --- the free field ----------------------------------------------------------------------------


def test_free_field_against_its_matrix():
    eigenvalues = gaussian.spectrum(6, 1.0)
    target = gff.target(gff.Params())
    x = torch.eye(36, dtype=torch.float64).reshape(36, 6, 6).requires_grad_()
    gradient = torch.autograd.grad(target.energy(x).sum(), x)[0].reshape(36, 36).numpy()
    assert np.allclose(np.sort(np.linalg.eigvalsh(gradient)), np.sort(eigenvalues.ravel()), atol=1e-12)
    exact = 18 * np.log(2 * pi / 1.7) - 0.5 * np.linalg.slogdet(gradient)[1]
    assert target.exact_logZ(1.7) == pytest.approx(exact, abs=1e-11)
    assert target.exact_observables(1.7)["phi2"] == pytest.approx(np.trace(np.linalg.inv(1.7 * gradient)) / 36)
    assert target.exact_observables(1.7)["mean2"] == pytest.approx(np.linalg.inv(1.7 * gradient).mean())


def test_free_field_as_specified():
    eigenvalues = gaussian.spectrum(6, 1.0)
    assert gaussian.log_z(eigenvalues) == pytest.approx(5.9456553639, abs=1e-10)
    assert gaussian.mean_square(eigenvalues) == pytest.approx(0.2550705467, abs=1e-10)
    assert gaussian.irreducible(1 / eigenvalues, 1.0, "linear") == pytest.approx(27.4926461, abs=1e-7)
    small = 1 / gaussian.spectrum(4, 1.0)
    assert gaussian.principal_components(small, 8) == pytest.approx(-10.769238, abs=1e-6)
    assert gaussian.principal_components(small, 16) == pytest.approx(-10.687046, abs=1e-6)


@pytest.mark.parametrize("path", ["linear", "trig"])
def test_irreducible_loss_and_exact_rate_against_regression(path):
    """Of the velocity u, the exact rate is the regression on x and the loss its residual, at each time."""
    rng, c, width = np.random.default_rng(0), 0.3, 0.8

    def residual(t):
        a, s, da, ds = gaussian.coefficients(path, t)
        covariance = np.array([[a, s], [da, ds]]) @ np.diag([c, width**2]) @ np.array([[a, da], [s, ds]])
        slope = covariance[0, 1] / covariance[0, 0]
        assert gaussian.rate(np.array([c]), width, path, t)[0] == pytest.approx(slope, abs=1e-12)
        return covariance[1, 1] - slope * covariance[0, 1]

    exact = quad(residual, 0, 1)[0]
    assert gaussian.irreducible(np.array([c]), width, path) == pytest.approx(exact, rel=1e-8)
    a, s, da, ds = gaussian.coefficients(path, rng.random(5))
    h = 1e-6
    near = gaussian.coefficients(path, np.arange(3) * h + 0.4)
    assert np.allclose((near[0][2] - near[0][0]) / (2 * h), near[2][1], atol=1e-8)
    assert np.allclose((near[1][2] - near[1][0]) / (2 * h), near[3][1], atol=1e-8)
    assert np.all(np.isfinite([a, s, da, ds]))


def test_free_field_draws_have_the_exact_spectrum():
    params = gff.Params(beta=0.7)
    states, energies = gff.draws(params, (20000,), np.random.default_rng(1))
    exact = 1 / (0.7 * gaussian.spectrum(6, 1.0))
    measured = np.abs(np.fft.fft2(states)) ** 2 / 36
    assert np.abs((measured.mean(0) - exact) / (measured.std(0) / np.sqrt(20000))).max() < 4.5
    assert np.allclose(energies, gff.target(params).energy(torch.as_tensor(states)), atol=1e-10)


# --- φ⁴ exactly --------------------------------------------------------------------------------


def test_gauss_nodes_integrate_polynomials():
    x, w = lattice_field.nodes(lambda x: np.exp(-(x**2)), 9.0, 12)
    hermite, weights = np.polynomial.hermite.hermgauss(12)
    assert np.allclose(x, hermite, atol=1e-10) and np.allclose(w, weights, atol=1e-12)


def test_ring_against_brute_force():
    """Three sites on a fine grid; and without a coupling the free ring, at any size."""
    x = np.linspace(-4, 4, 81)
    a, b, c = np.meshgrid(x, x, x, indexing="ij")
    action = sum((-1 + 2) * p**2 + 0.8 * p**4 for p in (a, b, c)) - 2 * (a * b + b * c + c * a)
    brute = np.log(np.exp(-1.3 * action).sum() * (x[1] - x[0]) ** 3)
    assert lattice_field.ring(3, -1.0, 0.8, 1.3) == pytest.approx(brute, abs=1e-9)
    free = 2 * gaussian.spectrum(50, 1.5, 1)
    assert lattice_field.ring(50, 1.5, 0.0) == pytest.approx(gaussian.log_z(free), abs=1e-8)


def test_two_by_two_torus_against_brute_force():
    x = np.linspace(-2.4, 2.4, 49)
    a, b, c, d = np.meshgrid(x, x, x, x, indexing="ij", sparse=True)
    action = sum(0.5 * p**2 + 2.0 * p**4 for p in (a, b, c, d)) - 4 * (a * b + b * d + d * c + c * a)
    weight = np.exp(-action)
    total = weight.sum()
    got = lattice_field.square(2, -3.5, 2.0)
    assert got.log_z == pytest.approx(np.log(total * (x[1] - x[0]) ** 4), abs=1e-6)
    assert got.phi2 == pytest.approx((weight * a**2).sum() / total, abs=1e-6)
    assert got.mean2 == pytest.approx((weight * (a + b + c + d) ** 2).sum() / 16 / total, abs=1e-6)


def test_four_by_four_torus_as_specified():
    got = lattice_field.square(4, -4.0, COUPLING)
    assert got.log_z == pytest.approx(3.218328923, abs=2e-8)
    assert got.phi2 == pytest.approx(0.16739177, abs=2e-8)
    assert got.mean2 == pytest.approx(0.05843580, abs=2e-8)


@pytest.mark.slow
def test_six_by_six_torus_as_specified():
    """⟨φ̄²⟩ of the specification, 0.02952912, stems from a finite source; these are the exact correlations."""
    got = lattice_field.square(6, -4.0, COUPLING)
    assert got.log_z == pytest.approx(6.984947865, abs=2e-8)
    assert got.phi2 == pytest.approx(0.16138658, abs=2e-8)
    assert got.mean2 == pytest.approx(0.02952987, abs=2e-8)


def test_derivative_in_the_mass_is_the_mean_square():
    h = 1e-3
    up, down = (lattice_field.square(4, -4.0 + s * h, COUPLING).log_z for s in (1, -1))
    assert (down - up) / (2 * h * 16) == pytest.approx(lattice_field.square(4, -4.0, COUPLING).phi2, abs=1e-6)


def test_no_exact_value_out_of_reach():
    assert lattice_field.square(8, -4.0, 5.0) is None
    assert phi4.target(phi4.Params(size=12)).exact_logZ() is None
    with pytest.raises(ValueError, match="coupling"):
        lattice_field.square(4, -1.0, 0.0)
    with pytest.raises(ValueError, match="beta"):
        lattice_field.ring(4, 1.0, 0.0, -1.0)


# --- hybrid Monte Carlo ------------------------------------------------------------------------


@pytest.mark.parametrize("system", [gff, phi4])
def test_symmetries_leave_the_energy_unchanged(system):
    target = system.target(system.Params())
    x = torch.randn(5, 6, 6, dtype=torch.float64)
    for name, move in target.symmetries.items():
        assert not torch.equal(move(x), x)
        assert torch.allclose(target.energy(move(x)), target.energy(x)), name
    with pytest.raises(ValueError, match="shape"):
        target.energy(x[:, :5])


def test_leapfrog_is_reversible_and_of_second_order():
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal((2, 4, 6, 6))
    given = (0.0, COUPLING, 1.0)
    force = lambda x: phi4.force(x, *given)  # noqa: E731
    hamiltonian = lambda x, p: phi4.action(x, *given) + 0.5 * (p**2).sum((1, 2))  # noqa: E731
    y, q = hmc.leapfrog(x, p, force, 0.02, 20)
    back, reverse = hmc.leapfrog(y, -q, force, 0.02, 20)
    assert np.abs(back - x).max() < 1e-10 and np.abs(reverse + p).max() < 1e-10
    errors = [
        np.abs(hamiltonian(*hmc.leapfrog(x, p, force, h, round(0.2 / h))) - hamiltonian(x, p)).mean()
        for h in (0.004, 0.002)
    ]
    assert 3.4 < errors[0] / errors[1] < 4.6


def test_force_is_minus_the_gradient():
    target = phi4.target(phi4.Params(mass2=-3.0, coupling=2.0))
    x = torch.randn(3, 6, 6, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(target.energy(x).sum(), x)[0]
    assert np.allclose(phi4.force(x.detach().numpy(), 1.0, 2.0, 1.0), -gradient.numpy())
    assert np.allclose(phi4.action(x.detach().numpy(), 1.0, 2.0, 1.0), target.energy(x).detach().numpy())


def test_acceptance_follows_the_energy_error():
    """Almost all trajectories of small steps are accepted, fewer of large ones; a hopeless step is an error."""
    rates = []
    for step in (0.05, 0.2):
        data = phi4.simulate(phi4.Params(step=step, steps=20, leaps=5), 64, np.random.default_rng(3))
        rates.append(float(data["acceptance"].mean()))
    assert rates[0] > 0.95 and 0.2 < rates[1] < 0.9
    with pytest.raises(FloatingPointError, match="smaller step"):
        phi4.simulate(phi4.Params(step=3.0, steps=20), 8, np.random.default_rng(3))


def test_hmc_gives_the_exact_moments():
    params = phi4.Params(size=4, steps=100, every=2, step=0.15, leaps=6)
    data = phi4.simulate(params, 100, np.random.default_rng(4))
    x = torch.as_tensor(data["state"].values[:, :, 0])
    target = phi4.target(params)
    for name, exact in target.exact_observables().items():
        series = target.observables[name](x.reshape(-1, 4, 4)).reshape(100, 100).numpy()
        assert abs(autocorrelation.z_score(series, exact)) < 4, name
