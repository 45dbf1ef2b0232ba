"""Autoregressive networks: normalised, causal, and sampled by what they kept exactly as by full passes."""

import math

import numpy as np
import pytest
import torch

from physiglot import models, targets
from physiglot.causal import convolution, kernels, tokens
from physiglot.exact import enumerate as enumeration
from physiglot.generative import losses
from physiglot.systems import ising
from physiglot.targets.spins import Couplings

NETS = {
    "made": {"net": "made", "depth": 3, "width": 3},
    "logistic": {"net": "made", "depth": 1, "width": 1},
    "made of pairs": {"net": "made", "depth": 4, "width": 3, "patch": 2, "bias": False},
    "pixelcnn": {"net": "pixelcnn", "depth": 3, "width": 6, "kernel": 5},
    "pixelcnn of one layer": {"net": "pixelcnn", "depth": 1, "kernel": 3},
    "residual pixelcnn": {"net": "pixelcnn", "depth": 4, "width": 9, "kernel": 3, "residual": True},
    "pixelcnn of patches": {"net": "pixelcnn", "depth": 3, "width": 8, "kernel": 3, "patch": 2},
    "transformer": {"net": "transformer", "depth": 2, "width": 16},
    "transformer of patches": {"net": "transformer", "depth": 1, "width": 16, "patch": 2},
}
LATTICES = {  # all with even sides
    "square": {"module": "ising", "params": {"size": 4, "beta": 0.44}},
    "honeycomb": {"module": "ising", "params": {"lattice": "honeycomb", "size": 2, "beta": 0.3}},
    "glass": {"module": "sk", "params": {"sites": 12}},
}


@pytest.fixture(autouse=True)
def one_thread():
    """As the workflow trains: the compiled passes are for one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(params: dict, target: dict = LATTICES["square"], seed: int = 0) -> torch.nn.Module:
    """A network with weights far from their start."""
    torch.manual_seed(seed)
    model = models.build({"module": "causal", "params": params}, torch.zeros(1), torch.ones(1), target=target)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def states(target: dict) -> torch.Tensor:
    shape = targets.build(target).shape
    return torch.from_numpy(enumeration.spins(math.prod(shape))).unflatten(1, shape)


@pytest.mark.parametrize("z2", [False, True])
@pytest.mark.parametrize("lattice", ["honeycomb", "glass"])
@pytest.mark.parametrize("name", NETS)
def test_probabilities_sum_to_one(name, lattice, z2):
    """On all states of 8 or of 12 spins, for three draws of the weights; symmetric where it is made so."""
    x = states(LATTICES[lattice])
    for seed in range(3):
        model = made({**NETS[name], "z2": z2}, LATTICES[lattice], seed)
        with torch.no_grad():
            log_prob = model.log_prob(x)
        assert log_prob.dtype == torch.float64
        assert float(log_prob.exp().sum()) == pytest.approx(1, abs=1e-5)
        symmetric = torch.allclose(log_prob, log_prob.flip(0), atol=1e-5)  # state 2^N − 1 − i is the flipped i
        assert symmetric == z2


@pytest.mark.parametrize("name", NETS)
def test_a_conditional_sees_earlier_tokens_alone(name):
    model, x = made(NETS[name]), torch.randn(5, 4, 4).sign()
    s = tokens.split(x, model.grid)
    with torch.no_grad():
        for t in (0, s.shape[1] // 2, s.shape[1] - 1):
            other = s.clone()
            other[:, t:] *= -1
            assert torch.equal(model.net(other)[:, : t + 1], model.net(s)[:, : t + 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETS)
def test_kept_and_full_samplers_are_the_same(name, dtype):
    """The same samples as with a full pass for each token, the same conditionals to 1e-6; more samples than a block."""
    model = made({**NETS[name], "z2": False}).to(dtype)
    uniform = torch.rand(kernels.BLOCK + 5, math.prod(model.grid), dtype=torch.float64)
    drawn, logits = model.net.draw(uniform)
    with torch.no_grad():
        slow = torch.zeros_like(drawn)
        for t in range(drawn.shape[1]):
            slow[:, t] = tokens.choose(model.net(slow)[:, t], uniform[:, t], drawn.shape[2])
        assert torch.equal(drawn, slow)
        kept, full = ((v.sigmoid() if v.shape[-1] == 1 else v.softmax(-1)) for v in (logits, model.net(drawn)))
        assert float((kept - full).abs().max()) < (1e-6 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("z2", [False, True])
@pytest.mark.parametrize("name", ["made", "pixelcnn", "pixelcnn of patches", "transformer"])
def test_samples_follow_their_log_prob(name, z2):
    """Frequencies of the 256 states of 8 spins, χ² within 4 standard deviations; both know the same ln q."""
    model, n = made({**NETS[name], "z2": z2}, LATTICES["honeycomb"]), 20_000
    x, log_prob = model.sample(n, torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(model.log_prob(x), log_prob, atol=1e-5)
        expected = n * model.log_prob(states(LATTICES["honeycomb"])).exp()
    number = ((x.flatten(1) < 0) * 2 ** torch.arange(8)).sum(1)
    counts = torch.bincount(number, minlength=256).double()
    often = expected > 5
    chi = ((counts - expected)[often] ** 2 / expected[often]).sum()
    degrees = int(often.sum())
    assert abs(float(chi) - degrees) < 4 * math.sqrt(2 * degrees)


def test_stages_are_the_samples_as_far_as_they_are_drawn():
    model = made(NETS["pixelcnn of patches"], {"module": "ising", "params": {"size": 8, "beta": 0.4}})
    with torch.no_grad():
        stages = list(model.stages(5, torch.Generator().manual_seed(0)).values())
        x = model.configurations(5, torch.Generator().manual_seed(0))
    assert [int((s != 0).sum()) for s in stages] == [5 * 64 * k // 4 for k in (1, 2, 3, 4)]
    assert torch.equal(stages[-1], x) and all(torch.equal(s[s != 0], x[s != 0]) for s in stages)


def test_patches_are_squares_of_the_lattice():
    x = torch.arange(24.0).view(1, 4, 6)
    grid = tokens.grid((4, 6), 2)
    assert grid == (2, 3) and tokens.split(x, grid)[0, 1].tolist() == [2, 3, 8, 9]
    assert torch.equal(tokens.join(tokens.split(x, grid), grid, (4, 6)), x)
    ring = torch.arange(6.0).view(1, 6)
    assert torch.equal(tokens.join(tokens.split(ring, (1, 3)), (1, 3), (6,)), ring)
    values = torch.arange(16)
    assert torch.equal(tokens.values(tokens.spins(values, 4)), values)


def gradient(loss: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """All components in one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def test_the_score_gradient_is_that_of_the_sum_over_all_states():
    """3 × 3 spins: the mean of 2,000 estimates within 4σ in each component; without others' mean, more variance."""
    target = {"module": "ising", "params": {"size": 3, "beta": 0.4}}
    model, known = (
        made({"net": "pixelcnn", "depth": 2, "width": 2, "kernel": 3}, target).double(),
        targets.build(target),
    )
    x = states(target).double()
    assert sum(p.numel() for p in model.parameters()) <= 100
    log_prob = model.log_prob(x)
    exact = gradient((log_prob.exp() * (0.4 * known.energy(x) + log_prob)).sum(), model)
    torch.manual_seed(2)
    estimates, plain = [], []
    for _ in range(2000):
        estimates.append(gradient(losses.free_energy(model, known, 0.4, 8), model))
        drawn = model.configurations(8)
        log_q = model.log_prob(drawn)
        plain.append(gradient(((0.4 * known.energy(drawn) + log_q).detach() * log_q).mean(), model))
    found, without = torch.stack(estimates), torch.stack(plain)
    seen = exact.abs() > 0
    z = (found.mean(0) - exact) / (found.std(0) / math.sqrt(2000))
    assert seen.sum() > 20 and float(z[seen].abs().max()) < 4
    assert float(found.var(0).sum()) < 0.5 * float(without.var(0).sum())


@pytest.mark.parametrize("name", [name for name in NETS if "pixelcnn" in name and "layer" not in name])
def test_the_compiled_pass_has_the_gradient_of_the_library(name):
    """On one thread in float32, against the library's convolutions in float64; more samples than a block."""
    model, x = made(NETS[name]), torch.randn(70, 4, 4).sign()
    weights = torch.randn(70)
    assert convolution.fits(model.net.slopes)
    ours = model.log_prob(x)
    found = gradient((weights * ours).sum(), model)
    model = model.double()
    assert not convolution.fits(model.net.slopes)
    exact = gradient((weights * model.log_prob(x)).sum(), model)
    assert torch.allclose(ours, model.log_prob(x), atol=1e-4)
    assert float((found - exact).abs().max()) < 1e-5 * float(exact.abs().max())


def test_the_value_of_the_loss_is_the_variational_free_energy():
    """Above −ln Z, by enumeration; and data of the target itself have the least −⟨ln q⟩ at the target's entropy."""
    target = LATTICES["glass"]
    model, known = made(NETS["made"], target), targets.build(target)
    x = states(target).double()
    with torch.no_grad():
        log_prob = model.log_prob(x)
        exact = float((log_prob.exp() * (known.energy(x) + log_prob)).sum())
        torch.manual_seed(0)
        values = torch.stack([losses.free_energy(model, known, 1.0, 500) for _ in range(20)])
        found = model.loss({"state": x[:, None].float()})["loss"]
    assert abs(float(values.mean()) - exact) < 4 * float(values.std()) / math.sqrt(20)
    assert exact > -known.exact_logZ()
    assert float(found) == pytest.approx(-float(log_prob.mean()), rel=1e-5)


def trained(params: dict, target: dict, steps: int, batch: int, lr: float) -> torch.nn.Module:
    torch.manual_seed(0)
    model = models.build({"module": "causal", "params": params}, torch.zeros(1), torch.ones(1), target=target).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss({"count": batch}, step / steps)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
    return model.eval()


@pytest.mark.parametrize("name", ["lattice", "glass"])
def test_a_trained_network_has_the_exact_free_energy(name):
    """L = 4 at β = 0.44 and N = 20 at β = 1: F_q within 0.5 %, reweighted within 0.1 %, and never below by chance."""
    cases = {
        "lattice": ({"net": "pixelcnn", "width": 12, "kernel": 5, "anneal": 0.2}, LATTICES["square"], 250, 200, 5e-3),
        "glass": ({"net": "made", "width": 4, "anneal": 0.3}, {"module": "sk", "params": {}}, 400, 200, 1e-2),
    }
    model = trained(*cases[name])
    known = model.target
    x, log_prob = model.sample(10_000, torch.Generator().manual_seed(0))
    weights = -known.beta * known.energy(x.double()) - log_prob
    log_z = known.exact_logZ()
    lower = float(weights.mean())
    assert log_z - 5e-3 * abs(log_z) < lower < log_z + 4 * float(weights.std()) / 100
    assert float(weights.logsumexp(0)) - math.log(10_000) == pytest.approx(log_z, rel=1e-3)


def test_a_network_of_patches_brackets_the_free_energy_of_64_spins():
    """L = 8 at β = 0.44: F_q within 0.6 %, ESS above 0.4, ln Z between ⟨ln w⟩ of the model and of the target."""
    system = {"module": "ising", "params": {"size": 8, "beta": 0.44}}
    net = {"net": "pixelcnn", "width": 24, "kernel": 5, "patch": 2, "anneal": 0.2}
    model, log_z = trained(net, system, 250, 200, 4e-3), targets.build(system).exact_logZ()
    chains = {"size": 8, "beta": 0.44, "steps": 20, "sweeps": 10, "thermalisation": 50, "dynamics": "swendsen_wang"}
    data = ising.simulate(ising.Params(**chains), 50, np.random.default_rng(0))
    x = model.target.configurations(torch.from_numpy(data["state"].values).float())
    own, q = model.sample(5000, torch.Generator().manual_seed(0))
    with torch.no_grad():
        p = model.log_prob(x)
    upper, lower = (-0.44 * model.target.energy(s.double()) - log_q for s, log_q in ((x, p), (own, q)))
    assert float(lower.mean()) == pytest.approx(log_z, rel=6e-3)
    assert float(lower.mean()) < log_z < float(upper.mean()) < float(lower.mean()) + 0.05 * 64
    assert float((2 * lower.logsumexp(0) - (2 * lower).logsumexp(0)).exp()) > 0.4 * 5000


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="patch 2"):
        made({"patch": 2}, {"module": "ising", "params": {"size": 3, "beta": 0.4}})
    with pytest.raises(ValueError, match="kernel 4"):
        made({"kernel": 4})
    with pytest.raises(ValueError, match="width 10"):
        made({"net": "transformer", "width": 10})
    with pytest.raises(ValueError, match="x of shape"):
        made({}).log_prob(torch.ones(2, 5, 5))
    assert isinstance(made({}, LATTICES["glass"]).target, Couplings)
