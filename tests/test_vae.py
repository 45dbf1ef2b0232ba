"""The variational autoencoder: bounds of known densities, and probabilistic PCA as what a linear one can reach."""

import json

import numpy as np
import pytest
import torch

from physiglot import evaluate, models, predict, store
from physiglot.exact import ppca
from physiglot.generative import losses
from physiglot.models import coupling, vae
from physiglot.systems import gff
from physiglot.targets import Target


class Free(Target):
    """The free field on an L × L torus, drawn exactly."""

    support = "real"
    beta = 1.0

    def __init__(self, size: int = 4, mass: float = 1.0):
        self.shape = (size, size)
        waves = 2 - 2 * np.cos(2 * np.pi * np.arange(size) / size)
        spectrum = mass + waves[:, None] + waves
        row = np.fft.ifft2(1 / spectrum).real
        sites = np.stack(np.divmod(np.arange(size**2), size))
        apart = (sites[:, :, None] - sites[:, None, :]) % size
        self.covariance = row[apart[0], apart[1]]
        self.inverse = torch.from_numpy(np.linalg.inv(self.covariance))

    def energy(self, x):
        x = x.flatten(1)
        return 0.5 * (x @ self.inverse.to(x) * x).sum(1)

    def exact_logZ(self, beta=None):
        return 0.5 * float(np.linalg.slogdet(2 * np.pi * self.covariance)[1])

    def draw(self, n: int) -> torch.Tensor:
        root = torch.from_numpy(np.linalg.cholesky(self.covariance))
        return (torch.randn(n, len(root), dtype=torch.float64) @ root.T).float().view(n, 1, *self.shape)


class Spins(Target):
    """Spins that all couple to all (Curie and Weiss), ordered: independent ones, given one latent variable."""

    support, beta, shape = "spin", 1.0, (8,)

    def energy(self, x):
        return -0.6 * x.sum(1).square() / 8


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


def made(target: Target, **params):
    zero = torch.zeros(target.shape)
    return vae.Model(vae.Params(**params), mean=zero, std=zero + 0.5, target=target)


def learn(model, draw, steps: int, rate: float = 1e-2, batch: int = 256):
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss({"state": draw(batch)})["loss"].backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def test_the_closed_form_of_ppca():
    covariance = Free().covariance
    assert ppca.log_likelihood(covariance, 8) == pytest.approx(-10.769238, abs=1e-6)
    assert ppca.log_likelihood(covariance, 16) == pytest.approx(-10.687046, abs=1e-6)
    assert ppca.log_likelihood(covariance, 15) == pytest.approx(ppca.log_likelihood(covariance, 16), abs=1e-12)
    bounds = [ppca.log_likelihood(covariance, k) for k in range(17)]
    assert np.diff(bounds).min() > -1e-12 and bounds[8] - bounds[7] > 0.01


def test_ppca_is_the_best_of_its_kind():
    """The optimum of W and σ² of a small model, found by a general minimiser."""
    root = np.random.default_rng(0).normal(size=(4, 4))
    covariance = root @ root.T + 0.1 * np.eye(4)
    given = torch.from_numpy(covariance)
    w = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    noise = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, noise], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def lost():
        optimizer.zero_grad()
        own = w @ w.T + noise.exp() * torch.eye(4, dtype=torch.float64)
        value = 0.5 * (4 * np.log(2 * np.pi) + torch.logdet(own) + torch.trace(torch.linalg.solve(own, given)))
        value.backward()
        return value

    optimizer.step(lost)
    assert -lost().item() == pytest.approx(ppca.log_likelihood(covariance, 2), abs=1e-6)


@pytest.mark.parametrize(
    "covariance, latents, said",
    [
        (np.ones((2, 3)), 1, "symmetric"),
        (np.eye(3), -1, "latents"),
        (np.diag([1.0, 0.0]), 1, "eigenvalue"),
    ],
)
def test_bad_covariances_are_named(covariance, latents, said):
    with pytest.raises(ValueError, match=said):
        ppca.log_likelihood(covariance, latents)


@pytest.fixture(scope="module")
def linear():
    """A linear model of the free field with eight latents, after training."""
    torch.manual_seed(1)
    target = Free()
    return learn(made(target, hidden=[]), target.draw, 2500)


def test_a_linear_model_reaches_ppca(linear):
    """Measured from the exact ln p of the same configurations, whose mean is minus the entropy: less noise."""
    target = linear.target
    with torch.no_grad():
        x = target.configurations(target.draw(200_000))
        said = linear.reference(x[:20_000])
        below = target.energy(x.double()) + target.exact_logZ() + linear.elbo(x)
    best, entropy = ppca.log_likelihood(target.covariance, 8), ppca.log_likelihood(target.covariance, 16)
    bound, error = entropy + float(below.mean()), float(below.std() / 200_000**0.5)
    assert error < 0.005
    assert best - 0.02 < bound < best + 4 * error
    assert float((said["log_p"] - said["iwae"]).mean()) > 0.05


def test_the_importance_weighted_bound_rises_to_the_likelihood(linear):
    """Of a linear model ln q is known: N(0, WWᵀ + σ²)."""
    model = made(Free(), hidden=[], latents=8)
    model.load_state_dict(linear.state_dict())
    with torch.no_grad():
        model.width.add_(0.5)
        x = model.target.configurations(model.target.draw(4000))
        w, noise = model.unit[:, None] * model.decoder[0].weight, model.unit * model.noise.exp()
        own = torch.distributions.MultivariateNormal(
            model.centre + model.unit * model.decoder[0].bias, w @ w.T + torch.diag(noise.square())
        ).log_prob(x.flatten(1))
        bounds = {k: float((model.iwae(x, k) - own).mean()) for k in (1, 8, 64, 512)}
        elbo = model.elbo(x) - own
    assert bounds[1] < bounds[8] < bounds[64] < bounds[512] < 0.01
    assert bounds[512] > -0.02 and bounds[1] < -0.3
    assert abs(float(elbo.mean()) - bounds[1]) < 4 * float(elbo.std()) / 4000**0.5 * 2


def test_spins_have_a_bernoulli_decoder():
    """The bounds stay below the exact mean ln p over all states, and training closes most of the gap."""
    target = Spins()
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 8)
    log_p = torch.log_softmax(-target.energy(states).double(), 0)

    def draw(n):
        return states[torch.multinomial(log_p.exp(), n, replacement=True)].view(n, 1, 8)

    model = made(target, latents=1, hidden=[32])
    with torch.no_grad():
        before = float((log_p.exp() * (log_p - model.iwae(states, 64))).sum())
    learn(model, draw, 600, 5e-3)
    with torch.no_grad():
        lost = torch.stack([log_p - model.iwae(states, 64) for _ in range(20)]) @ log_p.exp()
        x, none = model.sample(4000, torch.Generator().manual_seed(0))
    assert -4 * float(lost.std()) / 20**0.5 < float(lost.mean()) < 0.05 < before
    assert none is None and set(x.unique().tolist()) == {-1.0, 1.0} and x.shape == (4000, 8)
    squares = x.sum(1).square() / 64
    assert abs(float(squares.mean()) - float(log_p.exp() @ states.sum(1).double().square() / 64)) < 0.05


def test_a_loss_of_another_kind_is_refused():
    target = Free()
    model, flow = (
        made(target),
        coupling.Model(coupling.Params(), mean=torch.zeros(4, 4), std=torch.ones(4, 4), target=target),
    )
    x = target.draw(4)[:, 0]
    with pytest.raises(ValueError, match="x: "):
        losses.elbo(model, x.flatten(1))
    with pytest.raises(TypeError, match="elbo, iwae"):
        losses.nll(model, x)
    with pytest.raises(TypeError, match="elbo, iwae"):
        losses.free_energy(model, target, 1.0, 4)
    for refused in (losses.elbo, lambda model, x: losses.iwae(model, x, 4)):
        with pytest.raises(TypeError, match="free_energy, nll"):
            refused(flow, x)
    assert torch.isfinite(losses.elbo(model, x)) and torch.isfinite(losses.iwae(model, x, 4))


def test_samples_of_a_linear_model_have_its_covariance(linear):
    with torch.no_grad():
        x, none = linear.sample(40_000, torch.Generator().manual_seed(0))
    found = torch.cov(x.flatten(1).T.double()).numpy()
    values, vectors = np.linalg.eigh(linear.target.covariance)
    kept = np.where(np.arange(16) < 8, values[:8].mean(), values)
    assert none is None and np.abs(found - vectors * kept @ vectors.T).max() < 0.03


def test_a_walk_along_the_latents_begins_with_the_strongest():
    """The mean of a linear decoder moves in a straight line, by the column of W of each latent."""
    model = made(Free(), hidden=[], latents=5).double()
    with torch.no_grad():
        stages = list(model.stages(3).values())
        columns = (model.unit[:, None] * model.decoder[0].weight).T
    lengths = (stages[-1] - stages[0]).flatten(1).norm(dim=1)
    assert len(stages) == 5 and stages[0].shape == (3, 4, 4)
    assert torch.allclose(lengths, 4 * columns.norm(dim=1).sort(descending=True).values[:3])
    assert torch.allclose(stages[2], (stages[0] + stages[-1]) / 2)


def test_the_report_has_bounds_and_no_free_energy(linear, tmp_path):
    """Through the stages: ELBO ≤ IWAE-64 ≤ ln p of the same configurations, and nothing in the place of F_q."""
    target = {"module": "gff", "params": {"size": 4}}
    data = gff.simulate(gff.Params(size=4), 64, np.random.default_rng(0))
    store.save(tmp_path / "data.zarr", {"val": data}, chunk=64)
    part = {"module": "vae", "params": {"hidden": [], "latents": 8}}
    model = models.build(part, torch.zeros(1), torch.ones(1) * 0.5, target=target)
    model.load_state_dict(linear.state_dict() | {"mean": model.mean, "std": model.std})
    models.save(tmp_path / "weights.pt", model)
    task = {"module": "free_energy", "params": {"samples": {"model": {"count": 200, "split": "val"}}}}
    given, found = {"dataset": tmp_path / "data.zarr/zarr.json"}, []
    for name in ("one", "two"):
        given["prediction"], out = tmp_path / f"{name}.zarr/zarr.json", tmp_path / f"{name}.json"
        spec = {"samples": task["params"]["samples"], "options": {}, "target": target}
        torch.rand(1)
        predict.predict(spec=spec, weights=tmp_path / "weights.pt", dataset=given["dataset"], out=given["prediction"])
        evaluate.evaluate(spec={"task": task, "target": target}, out=out, **given)
        found.append({k: v for k, v in json.loads(out.read_text()).items() if "second" not in k})
    assert found[0] == found[1], "a prediction depends on its seed alone"
    bounds = found[0]
    assert all(bounds[k] is None and "lower bound" in bounds[f"{k}_reason"] for k in ("F_q", "ess", "acc", "lnZ_upper"))
    assert bounds["elbo"] < bounds["log_p"] and bounds["iwae"] < bounds["log_p"] + 0.1
    assert bounds["log_p"] == pytest.approx(ppca.log_likelihood(linear.target.covariance, 16), abs=0.4)


def test_it_is_saved_with_its_target(tmp_path):
    target = {"module": "ising_dual", "params": {"size": 4}}
    part = {"module": "vae", "params": {"latents": 3}}
    model = models.build(part, torch.zeros(4), torch.ones(4), target=target).eval()
    models.save(tmp_path / "weights.pt", model)
    loaded = models.load(tmp_path / "weights.pt")
    with torch.no_grad():
        one, two = (m.sample(5, torch.Generator().manual_seed(2))[0] for m in (model, loaded))
    assert one.shape == (5, 4, 4) and torch.equal(one, two)
