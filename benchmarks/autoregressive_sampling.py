"""Samples of a PixelCNN on one thread, and what they are worth in training, against the published loop.

The peer is wdphy16/stat-mech-van (D. Wu, L. Wang, P. Zhang, PRL 122, 080602), rendered here from what its sampler does:
for each site a pass of the whole network, whose kernels are full and masked at every pass. Both get the same weights
and the same uniform numbers, so that they must draw the same samples. Then both train a network for the same CPU time
by the same loss and optimiser.
"""

import math
import time

from benchmarks import timing

timing.one_thread()
timing.require("torch", "numba", "physiglot")

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from physiglot import models  # noqa: E402

torch.set_num_threads(1)
CASES = {  # name -> (lattice, batch, width, kernel, least ratio)
    "published": (16, 20, 64, 13, 100.0),
    "small": (16, 20, 16, 7, 25.0),
    "training": (8, 500, 16, 7, 8.0),
}
BETA, BUDGET, RATE = 0.44, 51.0, 3e-3


class Published(nn.Module):
    """The network with whole kernels, at the weights of one of ours; `sample` as published."""

    def __init__(self, ours):
        super().__init__()
        self.shape, self.convolutions = ours.shape, nn.ModuleList()
        for c in ours.convolutions:
            outside, inside, rows, kernel = c.weight.shape
            whole = nn.Conv2d(inside, outside, kernel, padding=kernel // 2)
            mask = functional.pad(c.mask, (0, 0, 0, kernel - rows))
            whole.register_buffer("mask", mask)
            whole.weight = nn.Parameter(functional.pad(c.weight.detach(), (0, 0, 0, kernel - rows)))
            whole.bias = nn.Parameter(c.bias.detach().clone())
            self.convolutions.append(whole)
        self.slopes = nn.Parameter(ours.slopes.detach().clone())

    def forward(self, x):
        """Probabilities of spin up (batch, 1, rows, columns)."""
        for i, c in enumerate(self.convolutions):
            x = functional.prelu(x, self.slopes[i - 1]) if i else x
            x = functional.conv2d(x, c.mask * c.weight, c.bias, padding=c.padding)
        return x.sigmoid()

    @torch.no_grad()
    def sample(self, uniform):
        """Spins (batch, 1, rows, columns) from uniform numbers (batch, site), and the probabilities on the way."""
        x = torch.zeros(len(uniform), 1, *self.shape)
        for t in range(uniform.shape[1]):
            row, column = divmod(t, self.shape[1])
            p = self(x)
            x[:, 0, row, column] = 2.0 * (uniform[:, t] < p[:, 0, row, column].double()) - 1
        return x, p

    def log_prob(self, x):
        """ln ½[q(x) + q(−x)]."""
        both = torch.cat([x, -x])
        p = (1 + both * (2 * self(both) - 1)) / 2
        return torch.logaddexp(*torch.log(p + 1e-7).double().sum((1, 2, 3)).chunk(2)) - math.log(2)


def build(size: int, width: int, kernel: int, patch: int = 1):
    torch.manual_seed(0)
    net = {"depth": 3, "width": width, "kernel": kernel, "patch": patch}
    part = {"module": "causal", "params": {**net, "anneal": 0.2}}
    target = {"module": "ising", "params": {"size": size, "beta": BETA}}
    return models.build(part, torch.zeros(1), torch.ones(1), target=target)


def sampling(name: str) -> float:
    """The ratio of CPU times for the same samples."""
    size, batch, width, kernel, least = CASES[name]
    ours = build(size, width, kernel).net
    peer, uniform = Published(ours), torch.rand(batch, size * size, dtype=torch.float64)
    (drawn, logits), (x, p) = ours.draw(uniform), peer.sample(uniform)
    worst = float((logits.sigmoid() - p.flatten(2).transpose(1, 2)).abs().max())
    same = torch.equal(drawn, x.flatten(2).transpose(1, 2))
    timing.check(same and worst < 1e-6, f"{name}: the same {batch} samples, conditionals within {worst:.1e}")
    count = sum(p.numel() for p in peer.parameters())
    print(f"{name}: L = {size}, depth 3, width {width}, kernel {kernel}, {count} parameters, batch {batch}")
    calls = {"ours": lambda: ours.draw(uniform), "stat-mech-van": lambda: peer.sample(uniform)}
    seconds = timing.interleave(calls, 3, time.process_time)
    rate = timing.rates(seconds, batch / 1000)
    timing.table(seconds, rate, "samples/ms", "ours")
    ratio = rate["ours"] / rate["stat-mech-van"]
    print(f"{ratio:.0f}× (at least {least:g}×: {'reached' if ratio >= least else 'MISSED'})\n", flush=True)
    return ratio


def trained(model, draw, log_prob, parameters) -> int:
    """Steps of REINFORCE with Adam within the budget of CPU time; the rate falls as a cosine of the time used."""
    optimizer, began, steps, used = torch.optim.Adam(parameters, lr=RATE), time.process_time(), 0, 0.0
    while used < 1:
        beta = BETA * (1 - math.exp(-used / model.params.anneal))
        x = draw(500)
        log_q = log_prob(x)
        value = (beta * model.target.energy(x.flatten(1).view(-1, *model.shape)) + log_q).detach()
        optimizer.zero_grad()
        ((value - value.mean()) * log_q).mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * used))
        optimizer.step()
        steps, used = steps + 1, (time.process_time() - began) / BUDGET
    return steps


def judged(model, draw, log_prob) -> tuple[float, float]:
    """Relative error of F_q, and ESS of 10,000 samples."""
    parts = []
    with torch.no_grad():
        for _ in range(20):
            x = draw(500)
            parts.append(-BETA * model.target.energy(x.view(-1, *model.shape)).double() - log_prob(x))
    weights, exact = torch.cat(parts), model.target.exact_logZ()
    size = float((2 * weights.logsumexp(0) - (2 * weights).logsumexp(0)).exp()) / len(weights)
    return 1 - float(weights.mean()) / exact, size


def contestants():
    """Name -> (our model, its sampler, its ln q, its parameters)."""
    for name, size in (("ours", (16, 7)), ("ours_patches", (32, 5, 2)), ("stat-mech-van", (16, 7))):
        model = build(8, *size)
        torch.manual_seed(1)
        if name != "stat-mech-van":
            yield name, model, model.configurations, model.log_prob, list(model.parameters())
            continue
        peer = Published(model.net)

        def draw(n, peer=peer):
            sign = 2.0 * torch.randint(2, (n, 1, 1, 1)) - 1
            return sign * peer.sample(torch.rand(n, 64, dtype=torch.float64))[0]

        yield name, model, draw, peer.log_prob, list(peer.parameters())


def equal_time() -> dict[str, float]:
    """What each reaches in the same CPU time: the same network, and one with tokens of 2 × 2 spins."""
    found = {}
    for name, model, draw, log_prob, parameters in contestants():
        steps = trained(model, draw, log_prob, parameters)
        error, size = judged(model, draw, log_prob)
        print(f"{BUDGET:g} CPU-s of {name}: {steps} steps, F above by {error:.2e}, ESS {size:.1%}", flush=True)
        found |= {f"{name}_steps": steps, f"{name}_error": round(error, 6), f"{name}_ess": round(size, 4)}
    good = all(found[f"{name}_error"] <= 2.4e-3 and found[f"{name}_ess"] >= 0.6 for name in ("ours", "ours_patches"))
    print(f"error at most 2.4e-3 and ESS at least 60 %: {'reached' if good else 'MISSED'}")
    return found


def main():
    ratios = {name: sampling(name) for name in CASES}
    found = equal_time()
    more = {name: round(ratio, 1) for name, ratio in ratios.items() if name != "published"}
    gate = "ok: the same samples from the same numbers, conditionals within 1e-6"
    timing.verdict("autoregressive_sampling", ratios["published"], "stat-mech-van", gate, **more, **found)


if __name__ == "__main__":
    main()
