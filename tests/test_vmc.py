"""Variational Monte Carlo: the Hamiltonians, local energies, both forms of stochastic reconfiguration, the sampler."""

import math

import numpy as np
import pytest
import torch

from physiglot.exact import chains
from physiglot.generative.rbm import RBM, every
from physiglot.models import rbm_state
from physiglot.quantum.chains import Heisenberg, Tfi
from physiglot.quantum.vmc import local_energy, natural
from physiglot.quantum.walk import walk, walkers

SPINS = torch.ones(1)


def matrix(hamiltonian, sites: int) -> np.ndarray:
    """The whole matrix out of `connected`."""
    reached, elements = hamiltonian.connected(every(sites))
    number = ((reached > 0) * 2.0 ** torch.arange(sites)).sum(-1).long()
    found = torch.zeros(2**sites, 2**sites, dtype=torch.float64)
    for k in range(number.shape[1]):
        found[torch.arange(2**sites), number[:, k]] += elements[:, k]
    return found.numpy()


def state(target, seed: int = 0, **params):
    torch.manual_seed(seed)
    return rbm_state.Model(rbm_state.Params(**params), mean=SPINS, std=SPINS, target=target)


@pytest.mark.parametrize("sites", [3, 4, 6])
def test_the_transverse_ising_hamiltonian(sites):
    assert np.allclose(matrix(Tfi(sites, 0.7), sites), chains.tfi_matrix(sites, 0.7).toarray())


@pytest.mark.parametrize("sites, j2", [(4, 0.3), (5, 0.0), (6, -0.4)])
def test_the_heisenberg_hamiltonian(sites, j2):
    exact = chains.heisenberg_matrix(sites, 1.3, j2).toarray()
    assert np.allclose(matrix(Heisenberg(sites, 1.3, j2, False), sites), exact)
    if sites % 2 == 0:
        turned = matrix(Heisenberg(sites, 1.3, j2, True), sites)
        assert np.allclose(np.linalg.eigvalsh(turned), np.linalg.eigvalsh(exact))
        assert (turned - np.diag(np.diag(turned)) <= 0).all() or j2 > 0


def test_the_exact_state_has_no_variance():
    """ψ given as a table, −inf where it vanishes: the local energy is E0 wherever there is amplitude."""
    energy, vector = chains.ground_state(chains.heisenberg_matrix(6))
    table = torch.from_numpy(np.where(np.abs(vector) < 1e-12, 0, vector)).to(torch.complex128)
    place = 2 ** torch.arange(6)
    local = local_energy(lambda x: table[((x > 0) * place).sum(-1)].log(), every(6), Heisenberg(6, 1.0, 0.0, False))
    alive = table.abs() > 0
    assert 0 < alive.sum() < 64
    assert (local[alive] - energy).abs().max() < 1e-8 and (local[~alive] == 0).all()


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("hamiltonian", [Tfi(8, 0.7), Heisenberg(8, 1.0, 0.4, True)], ids=["tfi", "heisenberg"])
def test_ratios_from_the_angles_are_those_of_the_amplitudes(hamiltonian, symmetric, complex_):
    torch.manual_seed(0)
    psi = RBM(8, 16, complex_=complex_, symmetric=symmetric)
    for p in psi.learnt():
        torch.nn.init.normal_(p, std=0.4)
    whole = local_energy(lambda x: psi(x), every(8), hamiltonian)
    found = local_energy(psi, every(8), hamiltonian)
    assert found.dtype == whole.dtype and torch.allclose(found, whole, rtol=1e-10, atol=1e-10)


def test_spins_are_checked():
    with pytest.raises(ValueError, match=r"x \(3, 5\): spins ±1 of shape \(batch, 4\)"):
        local_energy(lambda x: x.sum(1), torch.ones(3, 5), Tfi(4, 1.0))
    with pytest.raises(ValueError, match="spins ±1"):
        local_energy(lambda x: x.sum(1), torch.zeros(3, 4), Tfi(4, 1.0))


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_derivatives_are_those_of_autograd(complex_, symmetric):
    torch.manual_seed(0)
    psi = RBM(4, 8, complex_=complex_, symmetric=symmetric, scale=0.4)
    v = every(4)[:5]
    for row, found in zip(v, psi.derivatives(v), strict=True):
        slopes = torch.autograd.grad(psi(row).real, psi.learnt())
        parts = psi.split(found.conj().resolve_conj())
        assert all(torch.allclose(one, two) for one, two in zip(slopes, parts, strict=True))
    if symmetric:
        assert torch.allclose(psi(v), psi(v.roll(1, 1)))


@pytest.mark.parametrize("complex_", [False, True])
def test_both_spaces_give_the_same_step(complex_):
    torch.manual_seed(1)
    o = torch.randn(30, 12, dtype=torch.complex128 if complex_ else torch.float64)
    e, w = torch.randn(30, dtype=o.dtype), torch.softmax(torch.randn(30, dtype=torch.float64), 0)
    centred = o - (w[:, None] * o).sum(0)
    s = centred.mH @ (w[:, None] * centred) + 0.1 * torch.eye(12)
    expected = torch.linalg.solve(s, centred.mH @ (w * (e - (w * e).sum())))
    assert torch.allclose(natural(o, e, w, 0.1), expected)
    wide = torch.cat([o, o[:, :0], torch.zeros(30, 40, dtype=o.dtype)], 1)  # more parameters than samples
    assert torch.allclose(natural(wide, e, w, 0.1)[:12], expected)


@pytest.mark.parametrize("moves, complex_", [("flip", False), ("flip", True), ("exchange", False), ("exchange", True)])
def test_the_sampler_draws_from_the_square_of_the_amplitude(moves, complex_):
    """χ² of 4,000 independent chains over all configurations of 6 spins."""
    torch.manual_seed(2)
    psi = RBM(6, 9, complex_=complex_, scale=0.3)
    for p in psi.learnt():
        torch.nn.init.normal_(p, std=0.2)
    x = walkers(4000, 6, moves)
    walk(psi, x, 60, moves)
    states = every(6)
    states = states[states.sum(1) == 0] if moves == "exchange" else states
    p = torch.softmax(2 * psi(states).real, 0).detach()
    seen = (x[:, None] == states).all(-1).double().sum(0)
    assert seen.sum() == 4000
    chi = ((seen - 4000 * p) ** 2 / (4000 * p)).sum()
    k = len(states)
    variance = 2 * (k - 1) + ((1 / p).sum() - k**2 - 2 * k + 2) / 4000  # of a multinomial, rare states included
    assert abs(chi - (k - 1)) < 4 * variance.sqrt()


def test_the_loss_is_the_energy_and_its_gradient_the_natural_direction():
    model = state(Tfi(6, 1.0), full_sum=True, symmetric=False, scale=0.3).train()
    x, w = model.summed()
    psi = torch.exp(model.log_psi(x)).detach().numpy()
    loss = model.loss({"count": 1}, 0.5)["loss"]
    assert loss.item() == pytest.approx(psi @ (chains.tfi_matrix(6, 1.0) @ psi) / (psi @ psi))
    loss.backward()
    local = local_energy(model.log_psi, x, model.target)
    found = torch.cat([p.grad.flatten() for p in model.psi.learnt()])
    assert torch.allclose(found, natural(model.psi.derivatives(x), local, w, math.sqrt(1e-2 * 1e-4)))


def test_a_validation_leaves_the_walkers_alone():
    model = state(Tfi(6, 1.0), chains=8).eval()
    before = model.walkers.clone()
    model.loss({"count": 8}, 0.0)
    assert torch.equal(model.walkers, before)
    model.train().loss({"count": 8}, 0.0)
    assert not torch.equal(model.walkers, before)


@pytest.mark.parametrize("moves", ["flip", "exchange"])
def test_the_sampler_of_any_state_is_that_of_the_rbm(moves):
    """With the same random numbers, move by move."""
    torch.manual_seed(4)
    psi = RBM(8, 12, scale=0.3)
    one = walkers(50, 8, moves)
    two = one.clone()
    for x, state_ in ((one, psi), (two, lambda x: psi(x))):
        walk(state_, x, 5, moves, torch.Generator().manual_seed(0))
    assert torch.equal(one, two)


@pytest.mark.parametrize("wrong", [{"full_sum": True}, {"target": None}])
def test_wrong_input_is_refused(wrong):
    with pytest.raises(ValueError, match=r"full_sum: 15 spins|no Hamiltonian"):
        state(**{"target": Tfi(15, 1.0), **wrong})


def test_the_batch_must_fit_the_chains():
    with pytest.raises(ValueError, match=r"training.batch: 9: allowed: multiples of the chains, 8"):
        state(Tfi(6, 1.0), chains=8).loss({"count": 9})
