"""Boltzmann machines: partition functions from either layer and by annealing, samplers, and what they learn."""

import math
from types import SimpleNamespace

import pytest
import torch

from physiglot import checkpoint, models, targets, train
from physiglot.config import Training
from physiglot.generative import losses, partition
from physiglot.generative.rbm import RBM, every
from physiglot.targets.spins import Couplings

ISING = {"module": "ising", "params": {"size": 4, "beta": 0.44}}
GLASS = {"module": "sk", "params": {"sites": 12, "beta": 1.0}}


def machine(visible: int, hidden: int, seed: int = 0, scale: float = 0.3) -> RBM:
    torch.manual_seed(seed)
    rbm = RBM(visible, hidden)
    for p in rbm.learnt():
        torch.nn.init.normal_(p, std=scale)
    return rbm


def model_of(module: str, target: dict, **params):
    torch.manual_seed(0)
    zero = torch.zeros(targets.build(target).shape).flatten()
    return models.build({"module": module, "params": params}, zero, zero + 1, target=target)


class Draws:
    """Batches of exact samples of a target, as the data of a training."""

    def __init__(self, target, batch: int, count: int = 20_000):
        x = every(math.prod(target.shape))
        p = torch.softmax(-target.beta * target.energy(x.unflatten(1, target.shape)), 0)
        self.x = x[torch.multinomial(p, count, True, generator=torch.Generator().manual_seed(0))].float()[:, None]
        self.batch, self.sampler = batch, SimpleNamespace(per_epoch=1)

    def at(self, step: int) -> dict[str, torch.Tensor]:
        chosen = torch.randint(len(self.x), (self.batch,), generator=torch.Generator().manual_seed(step))
        return {"state": self.x[chosen]}


def learnt(model, folder, **training):
    """The model after a training by the workflow's loop on exact samples of its target."""
    draws = Draws(model.target, training["batch"])
    if hasattr(model, "fit"):
        model.fit({"state": draws.x})
    asked = Training(window=1, clip=None, schedule="cosine", **training).model_dump()
    loop = train.Loop(model.train(), draws, draws, asked, 0, checkpoint.Snapshots(folder, "", ""))
    while loop.step < loop.steps:
        loop.advance()
    loop.finish()
    return model.eval()


@torch.no_grad()
def divergence(model) -> float:
    """KL(target ‖ model) by enumeration."""
    x = every(math.prod(model.target.shape)).unflatten(1, model.target.shape)
    p = torch.log_softmax(-model.target.beta * model.target.energy(x), 0)
    return float((p.exp() * (p - model.log_prob(x))).sum())


@pytest.mark.parametrize("visible, hidden", [(16, 12), (7, 11), (12, 12)])
def test_sums_over_either_layer_agree(visible, hidden):
    rbm = machine(visible, hidden)
    over_visible = torch.logsumexp(rbm(every(visible)), 0)
    over_hidden = torch.logsumexp(partition.over_hidden(rbm, every(hidden)), 0)
    assert over_visible.item() == pytest.approx(over_hidden.item(), abs=1e-10)
    assert partition.log_z(rbm).item() == pytest.approx(over_hidden.item(), abs=1e-10)


def test_too_many_units_have_no_exact_sum():
    assert partition.log_z(RBM(23, 40)) is None
    with pytest.raises(ValueError, match="allowed: up to 22 units in one of them"):
        partition.exact_samples(RBM(23, 40), 3)
    with pytest.raises(ValueError, match="bits 23: an enumeration takes up to 22"):
        every(23)


@pytest.mark.parametrize("visible, hidden", [(6, 9), (6, 4)])
@pytest.mark.parametrize("how", ["exact", "gibbs"])
def test_samples_have_the_exact_probabilities(visible, hidden, how):
    rbm, n = machine(visible, hidden, 1), 20_000
    p = torch.softmax(rbm(every(visible)), 0).detach()
    generator = torch.Generator().manual_seed(0)
    if how == "exact":
        x = partition.exact_samples(rbm, n, generator)
    else:
        x = partition.gibbs(rbm, partition.spins(torch.zeros(n, visible).double(), generator), 40, generator)
    seen = torch.bincount(((x > 0) * 2 ** torch.arange(visible)).sum(1), minlength=2**visible)
    chi, k = ((seen - n * p) ** 2 / (n * p)).sum(), len(p)
    variance = 2 * (k - 1) + ((1 / p).sum() - k**2 - 2 * k + 2) / n
    assert abs(chi - (k - 1)) < 4 * variance.sqrt()


def test_annealing_brackets_the_partition_function():
    """Few chains and steps are apart on average, by Jensen's inequality; many close in on the exact value."""
    model = model_of("rbm", ISING, hidden=12)
    model.rbm.load_state_dict(machine(16, 12, 2).state_dict())
    exact, generator = model.exact_logZ(), torch.Generator().manual_seed(0)
    runs = torch.tensor([model.bracket(4, 3, generator) for _ in range(200)]) - exact
    mean, error = runs.mean(0), runs.std(0) / math.sqrt(200)
    assert mean[0] < -3 * error[0] and mean[1] > 3 * error[1]
    low, high = model.bracket(4000, 200, generator)
    assert abs(low - exact) < 0.02 and abs(high - exact) < 0.02


@pytest.mark.parametrize("params", [{"persistent": False}, {"z2": True, "chains": 512}])
def test_a_restricted_machine_learns_the_ising_model(params, tmp_path):
    """4 × 4 spins at K = 0.44, 32 hidden units: KL < 0.03 nats, of an entropy of 4.50."""
    model = model_of("rbm", ISING, hidden=32, **params)
    assert divergence(model) > 0.5
    found = divergence(learnt(model, tmp_path, optimizer="sgd", lr=0.2, batch=512, steps=1000))
    assert 0 < found < 0.03
    x, log_prob = model.sample(5000, torch.Generator().manual_seed(0))
    bound = -model.target.beta * model.target.energy(x) - log_prob
    assert abs(float(torch.logsumexp(bound, 0)) - math.log(5000) - model.target.exact_logZ()) < 0.05
    assert model.loss({"state": x.flatten(1)[:, None]})["loss"].item() == pytest.approx(
        -float(log_prob.mean()), abs=1e-9
    )


@pytest.mark.parametrize("objective, steps", [("likelihood", 300), ("pseudo", 300), ("persistent", 800)])
def test_couplings_of_a_glass_are_found(objective, steps, tmp_path):
    """12 spins, 20,000 samples: the error of a coupling is about that of the data, (1 − c²)/√n, amplified."""
    model = model_of("boltzmann", GLASS, objective=objective)
    learnt(model, tmp_path, optimizer="adam", lr=0.02, batch=1000, steps=steps, ema=0.95)
    wrong = model.couplings().detach() - torch.as_tensor(model.target.couplings)
    error = wrong[~torch.eye(12, dtype=torch.bool)].square().mean().sqrt()
    assert error < 0.025 and torch.as_tensor(model.target.couplings).square().mean().sqrt() > 0.2


def test_a_boltzmann_machine_with_known_couplings_is_its_target():
    model = model_of("boltzmann", GLASS)
    target: Couplings = model.target
    above = torch.triu_indices(12, 12, 1)
    model.pair.data.copy_(torch.as_tensor(target.couplings)[above[0], above[1]])
    assert model.exact_logZ().item() == pytest.approx(target.exact_logZ(), abs=1e-9)
    assert divergence(model) == pytest.approx(0, abs=1e-10)
    x, log_prob = model.sample(4000, torch.Generator().manual_seed(1))
    energy = target.energy(x)
    error = energy.std() / math.sqrt(4000)
    assert abs(energy.mean() - 12 * target.exact_observables()["energy"]) < 4 * error
    swept = model.gibbs(x, 3, torch.Generator().manual_seed(2))
    assert abs(target.energy(swept).mean() - 12 * target.exact_observables()["energy"]) < 4 * error
    assert torch.allclose(log_prob, -energy - target.exact_logZ())


def test_a_loss_of_another_kind_is_refused():
    product = model_of("product", ISING)
    with pytest.raises(TypeError, match="allowed for it: free_energy, nll"):
        losses.cd(product, torch.ones(2, 4, 4), 1)
    large = model_of("rbm", {"module": "ising", "params": {"size": 6, "beta": 0.4}}, hidden=30)
    with pytest.raises(TypeError, match="allowed for it: cd"):
        losses.nll(large, torch.ones(2, 6, 6))
    with pytest.raises(ValueError, match="objective 'likelihood': 25 spins; allowed: up to 20"):
        model_of("boltzmann", {"module": "ising", "params": {"size": 5, "beta": 0.4}})


def test_large_machines_draw_by_long_chains():
    target = {"module": "ising", "params": {"size": 5, "beta": 0.3}}
    for module, params in (("rbm", {"hidden": 25}), ("boltzmann", {"objective": "persistent"})):
        model = model_of(module, target, burn=5, chains=8, **params)
        x, log_prob = model.sample(6, torch.Generator().manual_seed(0))
        assert log_prob is None and x.shape == (6, 5, 5) and (x.abs() == 1).all()
        before = model.chains.clone()
        loss = model.train().loss({"state": x.flatten(1)[:, None]})["loss"]
        assert torch.isfinite(loss) and not torch.equal(model.chains, before)
