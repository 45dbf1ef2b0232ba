"""The continuous Ising model: its exact ln Z, its action and its draws; the renormalisation flow that learns it."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from physiglot.exact import enumerate as enumeration
from physiglot.montecarlo import lattices
from physiglot.systems import ising_dual


def matrix(params: ising_dual.Params) -> np.ndarray:
    """A = K + αI of the couplings βJ, bond by bond."""
    sites = params.size**2
    k = np.zeros((sites, sites))
    for site, around in enumerate(lattices.neighbours("square", params.size)):
        np.add.at(k[site], around, params.coupling)
    return k + (params.gap - np.linalg.eigvalsh(k)[0]) * np.eye(sites)


@pytest.mark.parametrize("size, log_z", [(4, 37.3767316899), (8, 148.6550162810), (16, 592.8757398576)])
def test_exact_log_z_at_the_critical_point(size, log_z):
    target = ising_dual.target(ising_dual.Params(size=size))
    assert target.exact_logZ() == pytest.approx(log_z, abs=1e-9)
    assert target.exact_logZ(0.5) is None and target.exact_observables(0.5) == {}


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_spectrum_is_that_of_the_matrix(size):
    params = ising_dual.Params(size=size, coupling=0.3)
    values = np.sort(ising_dual.spectrum(params)[0].flatten())
    assert np.allclose(values, np.linalg.eigvalsh(matrix(params)), atol=1e-12)
    assert values[0] == pytest.approx(0.1)


@pytest.mark.parametrize("size", [2, 3])
def test_the_action_sums_out_the_spins(size):
    """e^(−S(x)) is the sum over spins of the Gaussian integrand, up to the 2^N that S leaves out."""
    params = ising_dual.Params(size=size, coupling=0.3)
    a, x = matrix(params), np.random.default_rng(0).normal(size=size**2) * 2
    spins = enumeration.spins(size**2)
    summed = np.exp(-0.5 * x @ np.linalg.solve(a, x) + spins @ x).sum() / 2**size**2
    action = ising_dual.target(params).energy(torch.from_numpy(x).view(1, size, size))
    assert float(action) == pytest.approx(-np.log(summed), abs=1e-10)


def test_log_z_by_importance_sampling():
    """At weak coupling the Gaussian part alone is a good proposal, so that e^(Σ ln cosh) has a mean to compare with."""
    params = ising_dual.Params(size=2, coupling=0.05)
    target, a = ising_dual.target(params), matrix(params)
    x = np.random.default_rng(1).multivariate_normal(np.zeros(4), a + np.eye(4), 200_000)
    u = target.energy(torch.from_numpy(x).view(-1, 2, 2)).numpy()
    log_q = -0.5 * np.einsum("ni,ij,nj->n", x, np.linalg.inv(a + np.eye(4)), x)
    weight = np.exp(-u - log_q + 0.5 * np.linalg.slogdet(2 * np.pi * (a + np.eye(4)))[1])
    exact = np.exp(target.exact_logZ())
    assert abs(weight.mean() - exact) < 4 * weight.std() / np.sqrt(len(weight))


def test_draws_have_the_exact_means():
    """The spin energy by Kaufman, and ⟨x·∇S⟩ = N, which holds for every density that falls off."""
    params = ising_dual.Params(size=4, steps=4, sweeps=10)
    data = ising_dual.simulate(params, 1024, np.random.default_rng(2))
    target = ising_dual.target(params)
    x = torch.from_numpy(data["state"].values).reshape(-1, 4, 4).requires_grad_()
    energy = target.energy(x)
    assert torch.allclose(energy.detach().view(1024, 4), torch.from_numpy(data["energy"].values))
    (force,) = torch.autograd.grad(energy.sum(), x)
    means = {"virial": ((x * force).sum((1, 2)), 16.0)}
    exact = target.exact_observables()
    means |= {name: (observable(x), exact[name]) for name, observable in target.observables.items() if name in exact}
    assert len(means) == 2
    for values, expected in means.values():
        chains = values.detach().view(1024, 4).mean(1)
        assert abs(chains.mean() - expected) < 4 * chains.std() / 32


def test_symmetries_leave_the_action():
    target = ising_dual.target(ising_dual.Params(size=4))
    x = torch.randn(5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for name, change in target.symmetries.items():
        assert torch.allclose(target.energy(change(x)), target.energy(x)), name
        assert not torch.equal(change(x), x)


def test_large_fields_have_a_finite_action():
    target = ising_dual.target(ising_dual.Params(size=4))
    assert torch.isfinite(target.energy(torch.full((1, 4, 4), 1e4))).all()


def test_bad_input_is_named():
    with pytest.raises(ValidationError, match="coupling"):
        ising_dual.Params(coupling=float("nan"))
    target = ising_dual.target(ising_dual.Params(size=4))
    with pytest.raises(ValueError, match="x: "):
        target.energy(torch.zeros(2, 3, 3))
