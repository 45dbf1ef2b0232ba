"""Velocity fields: closed forms against autograd, exact fields inserted by hand, losses against exact values."""

from math import log, pi

import numpy as np
import pytest
import torch
from torch import nn

from physiglot import models
from physiglot.exact import gaussian
from physiglot.generative import losses, reweighting
from physiglot.systems import gff, phi4
from physiglot.velocity import follow, lattice, paths

GFF = {"module": "gff", "params": {}}
PHI4 = {"module": "phi4", "params": {}}
PATHS = ("linear", "trig")


def build(target: dict, **params):
    torch.manual_seed(0)
    size = target["params"].get("size", 6)
    part = {"module": "velocity", "params": params}
    return models.build(part, torch.zeros(size, size), torch.ones(size, size), target=target)


def rough(field: nn.Module, size: float = 0.1) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        field.weight.normal_(0, size)
    return field.double()


def trained(model, draw, steps: int, rate: float):
    """Adam with a cosine; `draw(step)` is the batch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = model.loss(draw(step), step / steps)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.double().eval()


@torch.no_grad()
def weights(model, count: int, seed: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples and their log-weights −u − ln q."""
    generator = torch.Generator().manual_seed(seed)
    parts = [model.sample(500, generator) for _ in range(count // 500)]
    x, log_prob = (torch.cat(p) for p in zip(*parts, strict=True))
    return x, -model.target.beta * model.target.energy(x) - log_prob


def ess(lw: torch.Tensor) -> float:
    w = (lw - lw.max()).exp()
    return float(w.sum() ** 2 / (w**2).sum() / len(w))


def log_z(lw: torch.Tensor) -> tuple[float, float]:
    """The reweighted ln Z and its standard error."""
    w = (lw - lw.max()).exp()
    return float(torch.logsumexp(lw, 0) - log(len(lw))), float(w.std() / w.mean() / len(w) ** 0.5)


# --- the field ---------------------------------------------------------------------------------


def test_divergence_is_the_trace_of_the_jacobian():
    field = rough(lattice.Field(4, times=5, frequencies=3, highest=4.0), 0.3)
    x, t = torch.randn(3, 4, 4, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    divergence = field(x, t)[1]
    for b in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda y, b=b: field(y[None], t[b : b + 1])[0][0], x[b])
        assert divergence[b].item() == pytest.approx(jacobian.reshape(16, 16).trace().item(), abs=1e-5)


@pytest.mark.parametrize("size", [5, 6])
def test_field_has_the_symmetries_of_the_lattice(size):
    field, target = rough(lattice.Field(size, times=3, frequencies=2, highest=3.0)), gff.target(gff.Params(size=size))
    x = torch.randn(2, size, size, dtype=torch.float64)
    for name, move in target.symmetries.items():
        assert torch.allclose(field(move(x), 0.3)[0], move(field(x, 0.3)[0]), atol=1e-6), name


def test_times_one_for_all_or_one_each():
    field = rough(lattice.Field(4, times=4, frequencies=2, highest=3.0))
    x = torch.randn(3, 4, 4, dtype=torch.float64)
    alone = field(x, 0.25)
    each = field(x, torch.tensor([0.25, 0.25, 0.25], dtype=torch.float64))
    assert all(torch.allclose(a, b) for a, b in zip(alone, each, strict=True))


# --- the flow ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2])
def test_density_of_an_untrained_flow_integrates_to_one(size):
    """In one and in four dimensions; the latter by importance sampling from a wider Gaussian."""
    model = build(PHI4 | {"params": {"size": 2}}, frequencies=2, highest=2.0)
    rough(model.field, 0.3)
    model = model.double().eval()
    if size == 2:
        x = 2.5 * torch.randn(6000, 2, 2, dtype=torch.float64)
        proposal = -0.5 * (x.flatten(1).square().sum(1) / 6.25 + 4 * log(2 * pi * 6.25))
        w = (model.log_prob(x).detach() - proposal).exp()
        assert abs(float(w.mean()) - 1) < 4 * float(w.std()) / len(w) ** 0.5
        return
    field = rough(lattice.Field(1, times=4, frequencies=3, highest=2.0), 0.3)
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64).view(-1, 1, 1)
    z, total = follow.rk4(field, x, 64, 1.0, 0.0)
    density = (-0.5 * (z.flatten() ** 2 + log(2 * pi)) + total).exp()
    assert float(density.detach().sum() * (x[1] - x[0])) == pytest.approx(1, abs=1e-3)


def test_there_and_back():
    model = build(PHI4, frequencies=4)
    rough(model.field, 0.02)
    model = model.double().eval()
    with torch.no_grad():
        z = model.base(20)
        x, there = follow.rk4(model.field, z, 32)
        back, again = follow.rk4(model.field, x, 32, 1.0, 0.0)
        assert torch.allclose(back, z, atol=1e-4) and torch.allclose(again, -there, atol=1e-3)
        x, log_prob = model.sample(20)
        assert torch.allclose(model.log_prob(x), log_prob, atol=1e-3)
    with pytest.raises(ValueError, match="must be"):
        model.log_prob(x[:, :3])


def test_runge_kutta_is_of_fourth_order():
    field = rough(lattice.Field(4, times=4, frequencies=3, highest=3.0))
    x = torch.randn(8, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        exact, coarse, fine = (follow.rk4(field, x, n)[0] for n in (128, 8, 16))
        assert 10 < float((coarse - exact).norm() / (fine - exact).norm()) < 25


def test_a_flow_that_does_not_settle_is_an_error(monkeypatch):
    monkeypatch.setattr(follow, "MOST_STEPS", 8)
    field = rough(lattice.Field(4, times=3, frequencies=3, highest=60.0), 3.0)
    with pytest.raises(FloatingPointError, match="settled"):
        follow.enough(field, torch.randn(4, 4, 4, dtype=torch.float64))


# --- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_noise_and_score_of_a_gaussian(path):
    """With the exact velocity, E[z|x] is its regression on x, the score that of a Gaussian of variance a²c + s²σ²."""
    c, width, t = 0.4, 1.3, torch.tensor(0.6, dtype=torch.float64)
    x = torch.randn(10, dtype=torch.float64)
    a, s, _, _ = paths.coefficients(path, t)
    velocity = float(gaussian.rate(np.array([c]), width, path, 0.6)[0]) * x
    variance = a**2 * c + s**2 * width**2
    assert torch.allclose(paths.noise_of(path, t, x, velocity), s * width**2 / variance * x)
    assert torch.allclose(paths.score(path, t, x, velocity, width), -x / variance)
    exact = gaussian.coefficients(path, 0.6)
    assert np.allclose([float(v) for v in paths.coefficients(path, t)], exact)


def test_pairs_of_least_distance():
    x, z = torch.randn(6, 2), torch.randn(6, 2)
    paired = paths.paired(z, x, "ot")
    assert sorted(paired[:, 0].tolist()) == sorted(z[:, 0].tolist())
    assert (x - paired).square().sum() < (x - z).square().sum()
    assert paths.paired(z, x, "independent") is z
    with pytest.raises(ValueError, match="coupling"):
        paths.paired(z, x, "best")


def test_losses_know_their_models():
    class Spins(nn.Module):
        log_prob_kind = "exact"

    with pytest.raises(TypeError, match="nll"):
        losses.match(Spins(), torch.zeros(2, 2), "linear")
    with pytest.raises(ValueError, match="path"):
        losses.match(build(GFF), torch.zeros(2, 6, 6), "curved")
    with pytest.raises(ValueError, match="real"):
        build({"module": "ising", "params": {"size": 6, "beta": 0.4}})


# --- the free field: everything is exact -------------------------------------------------------


class Exact(nn.Module):
    """The marginal velocity of the free field, mode by mode."""

    def __init__(self, variances: np.ndarray, path: str, width: float = 1.0):
        super().__init__()
        self.variances, self.path, self.width = variances, path, width

    def forward(self, x, t):
        at = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1, 1).numpy()
        rate = torch.as_tensor(gaussian.rate(self.variances, self.width, self.path, at))
        return torch.fft.ifft2(rate * torch.fft.fft2(x)).real, rate.sum((1, 2)).expand(len(x))


@pytest.mark.parametrize("path", PATHS)
def test_exact_field_inserted_has_perfect_weights_and_the_irreducible_loss(path):
    eigenvalues = gaussian.spectrum(6, 1.0)
    model = build(GFF, path=path).double().eval()
    model.field = Exact(1 / eigenvalues, path)
    _, lw = weights(model, 1000)
    assert ess(lw) > 0.9999
    assert float(lw.mean()) == pytest.approx(gaussian.log_z(eigenvalues), abs=1e-3)
    states = torch.as_tensor(gff.draws(gff.Params(), (20000,), np.random.default_rng(0))[0])
    z, t = torch.randn(20000, 6, 6, dtype=torch.float64), paths.times(20000, states)
    residuals = paths.residuals(model.field, z, states, t, path)
    exact = gaussian.irreducible(1 / eigenvalues, 1.0, path)
    assert abs(float(residuals.mean()) - exact) < 4 * float(residuals.std()) / len(residuals) ** 0.5


def test_stochastic_equation_has_the_same_marginals():
    variances = 1 / gaussian.spectrum(6, 1.0)
    model = build(GFF, path="trig", sampler="sde").double().eval()
    model.field = Exact(variances, "trig")
    x, none = model.sample(2000, torch.Generator().manual_seed(0))
    assert none is None
    modes = torch.fft.fft2(x).abs().square() / 36
    z = (modes.mean(0) - torch.as_tensor(variances)) / (modes.std(0) / 2000**0.5)
    assert float(z.abs().max()) < 5
    with pytest.raises(ValueError, match="trig"):
        build(GFF, path="linear", sampler="sde")


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_matching_of_the_free_field_reaches_the_irreducible_loss(path):
    """Within 1 % of it and not below; the trained field has nearly perfect weights."""
    states = torch.as_tensor(gff.draws(gff.Params(), (20000,), np.random.default_rng(5))[0]).float()
    model = build(GFF, path=path, frequencies=0, times=10)
    trained(model, lambda step: {"state": states[torch.randint(len(states), (256,))]}, 300, 0.03)
    fresh = torch.as_tensor(gff.draws(gff.Params(), (20000,), np.random.default_rng(6))[0])
    z, t = torch.randn(fresh.shape, dtype=torch.float64), paths.times(len(fresh), fresh)
    with torch.no_grad():
        residuals = paths.residuals(model.field, z, fresh, t, path)
    exact = gaussian.irreducible(1 / gaussian.spectrum(6, 1.0), 1.0, path)
    assert -4 * float(residuals.std()) / len(fresh) ** 0.5 < float(residuals.mean()) - exact < 0.01 * exact
    assert ess(weights(model, 2000)[1]) > 0.95


def test_continuous_flow_learns_phi4_from_its_energy():
    """L = 6: ESS above 0.9, ln Z and ⟨φ²⟩ by reweighting as the transfer matrix has them."""
    model = build(PHI4, width=0.4, times=5, frequencies=6, highest=4.0, steps=6)
    trained(model, lambda step: {"count": 128}, 300, 0.01)
    x, lw = weights(model, 2000)
    assert ess(lw) > 0.9
    value, error = log_z(lw)
    assert abs(value - 6.984947865) < 4 * error
    phi2, error = reweighting.reweighted(x.square().mean((1, 2)).numpy(), lw.numpy())
    assert abs(phi2 - 0.16138658) < 4 * error


@pytest.mark.parametrize("path", PATHS)
def test_matching_learns_phi4_from_chains(path):
    params = phi4.Params(every=5, step=0.12, leaps=8, steps=16)
    states = torch.as_tensor(phi4.simulate(params, 128, np.random.default_rng(8))["state"].values).float()
    model = build(PHI4, width=0.4, times=6, frequencies=6, highest=4.0, path=path)
    pool = states.reshape(-1, 6, 6)
    trained(model, lambda step: {"state": pool[torch.randint(len(pool), (256,))]}, 400, 0.01)
    lw = weights(model, 2000)[1]
    assert ess(lw) > 0.3
    value, error = log_z(lw)
    assert abs(value - 6.984947865) < 4 * error
