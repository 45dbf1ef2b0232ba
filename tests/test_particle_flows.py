"""Velocity fields of particles: closed forms, the centred subspace, and free energies between two ends."""

from math import log, pi

import numpy as np
import pytest
import torch
from test_velocity import ess, log_z, rough, trained, weights

from physiglot import models
from physiglot.exact import loggas
from physiglot.generative import reweighting
from physiglot.systems import coulomb_trap, particles
from physiglot.velocity import particles as fields
from physiglot.velocity import paths


def build(target: dict, **params):
    torch.manual_seed(0)
    shape = particles_of(target).shape
    part = {"module": "velocity", "params": params}
    return models.build(part, torch.zeros(shape), torch.ones(shape), target=target)


def particles_of(target: dict):
    system = {"coulomb_trap": coulomb_trap, "particles": particles}[target["module"]]
    return system.target(system.Params(**target["params"]))


def field_of(centred: bool, hidden: int = 0, size: float = 0.1) -> fields.Field:
    field = fields.Field((4, 3), times=4, radial=6, reach=4.0, centred=centred, hidden=hidden)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in field.parameters():
            weight.normal_(0, size)
    return field.double()


@pytest.mark.parametrize("hidden, size", [(0, 0.1), (8, 0.5)])
@pytest.mark.parametrize("centred", [True, False])
def test_divergence_is_the_trace_of_the_jacobian(centred, hidden, size):
    """Over all coordinates, and, where the field is centred, over the centred subspace too."""
    field = field_of(centred, hidden, size)
    x, t = torch.randn(2, 4, 3, dtype=torch.float64), torch.rand(2, dtype=torch.float64)
    divergence = field(x, t)[1]
    centre = torch.eye(4, dtype=torch.float64) - 0.25
    for b in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda y, b=b: field(y[None], t[b : b + 1])[0][0], x[b])
        assert divergence[b].item() == pytest.approx(jacobian.reshape(12, 12).trace().item(), abs=1e-5)
        if centred:
            projector = torch.kron(centre, torch.eye(3, dtype=torch.float64))
            inside = (projector @ jacobian.reshape(12, 12) @ projector).trace().item()
            assert divergence[b].item() == pytest.approx(inside, abs=1e-5)


@pytest.mark.parametrize("hidden", [0, 8])
def test_field_is_equivariant_and_keeps_the_centre_of_mass(hidden):
    field, x = field_of(True, hidden, 0.5), torch.randn(3, 4, 3, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    velocity, divergence = field(x, 0.4)
    assert velocity.mean(1).abs().max() < 1e-6
    for moved, expected in ((x @ turn, velocity @ turn), (x.roll(1, 1), velocity.roll(1, 1)), (x + 2.0, velocity)):
        found = field(moved, 0.4)
        assert torch.allclose(found[0], expected, atol=1e-6) and torch.allclose(found[1], divergence, atol=1e-6)


def test_a_pair_sees_what_is_around_it():
    """f of the first two particles changes as the last one moves, which a sum over pairs cannot know."""
    field, x = field_of(True, 8, 0.5), torch.randn(4, 3, dtype=torch.float64)
    moved = torch.cat([x[:3], x[3:] + 0.5])
    apart = field.incidence.T @ torch.stack([x, moved])
    r, t = apart.norm(dim=2), torch.tensor([0.4], dtype=torch.float64)
    near = field.pairs.gaussians(r)
    assert torch.equal(apart[0, 0], apart[1, 0])
    value = field.around(apart, r, near, field.pairs.slopes(r, near), t)[0]
    assert abs(value[0, 0] - value[1, 0]) > 1e-3


def test_aligned_noise_is_near_its_data_and_as_likely():
    """A copy that is renumbered and turned a little is found again; lengths, and so ln q₀, stay."""
    torch.manual_seed(0)
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    x = x - x.mean(1, keepdim=True)
    small = 0.03 * torch.randn(3, 3, dtype=torch.float64)
    turn = torch.linalg.matrix_exp(small - small.T)
    near = paths.paired((x @ turn).roll(1, 1), x, "aligned")
    assert torch.allclose(near, x, atol=1e-9)
    z = torch.randn_like(x)
    found = paths.paired(z, x, "aligned")
    assert torch.allclose(found.square().sum((1, 2)), z.square().sum((1, 2)))
    assert ((found - x).square().sum((1, 2)) < (z - x).square().sum((1, 2))).all()


def test_noise_of_a_lattice_is_not_aligned():
    target = {"module": "gff", "params": {}}
    part = {"module": "velocity", "params": {"coupling": "aligned"}}
    with pytest.raises(ValueError, match="coupling: 'aligned': needs particles"):
        models.build(part, torch.zeros(6, 6), torch.ones(6, 6), target=target)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_base_of_free_particles_has_the_dimension_of_the_subspace(dimension):
    """Two particles: the base is a Gaussian of y = (x₁ − x₂)/√2 alone, so its ln q₀ at 0 is −(d/2) ln 2πσ²."""
    model = build({"module": "particles", "params": {"count": 2, "dimension": dimension}}, width=1.5).double().eval()
    z = model.base(20000, torch.Generator().manual_seed(0))
    assert z.mean(1).abs().max() < 1e-6
    y = (z[:, 0] - z[:, 1]) / 2**0.5
    assert y.var().item() == pytest.approx(2.25, rel=0.04)
    exact = -0.5 * (y.square().sum(1) / 2.25 + dimension * log(2 * pi * 2.25))
    assert torch.allclose(model.base_log_prob(z), exact)


def test_two_free_particles_have_the_exact_log_z():
    """A flow with the classic error of a missing or extra (d/2) ln 2π would be off by 0.92 to 2.76."""
    target = {"module": "particles", "params": {"count": 2, "dimension": 3, "oscillator": 1.0, "beta": 0.3}}
    model = rough_flow(target, 0.02, width=3.0)
    value, error = log_z(weights(model, 8000)[1])
    assert error < 0.1 and abs(value - particles_of(target).exact_logZ()) < 4 * error


def rough_flow(target: dict, size: float, **params):
    model = build(target, reach=8.0, **params)
    rough(model.field.pairs, size)
    return model.double().eval()


def test_there_and_back():
    model = rough_flow({"module": "particles", "params": {}}, 0.01, width=2.0)
    with torch.no_grad():
        x, log_prob = model.sample(50)
        assert torch.allclose(model.log_prob(x), log_prob, atol=1e-3)
        assert x.mean(1).abs().max() < 1e-6


@pytest.mark.parametrize("count, width, steps", [(4, 0.15, 500), (6, 0.3, 900)])
def test_flow_matching_brackets_the_free_energy_of_a_gas(count, width, steps):
    """The bounds of L. Zhao and L. Wang, arXiv 2311.07963, from ideal particles in the trap to the gas."""
    params = coulomb_trap.Params(count=count)
    pool = torch.as_tensor(loggas.ginibre_draws(count, (8000,), np.random.default_rng(1))).float()
    model = build({"module": "coulomb_trap", "params": {"count": count}}, width=1.6, times=6, reach=1.0 * count)
    trained(model, lambda step: {"state": pool[torch.randint(len(pool), (256,))]}, steps, 0.02)
    lw = weights(model, 2000)[1].numpy()
    fresh = torch.as_tensor(loggas.ginibre_draws(count, (2000,), np.random.default_rng(2)))
    with torch.no_grad():
        upper = (-params.beta * model.target.energy(fresh) - model.log_prob(fresh)).numpy()
    exact = loggas.ginibre(count)
    assert lw.mean() < exact < upper.mean() and upper.mean() - lw.mean() < width
    bar, error = reweighting.acceptance_ratio(lw, upper)
    assert abs(bar - exact) < 4 * error and ess(torch.as_tensor(lw)) > 0.7
