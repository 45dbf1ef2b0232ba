"""Targets with closed forms on which reports and the workflow are tried."""

import numpy as np
import torch

from physiglot.generative.report import Drawn
from physiglot.targets import Target

A = 0.3  # beta h of the spec's exact test


class Paramagnet(Target):
    """E = −h Σ s on `n` spins: Z = (2 cosh beta h)^n, ⟨s⟩ = tanh beta h."""

    support = "spin"

    def __init__(self, n: int = 10, h: float = 1.0, beta: float = A):
        self.shape, self.h, self.beta = (n,), h, beta

    def energy(self, x):
        return -self.h * x.flatten(1).sum(1)

    def exact_logZ(self, beta=None):
        return self.shape[0] * float(np.log(2 * np.cosh((beta or self.beta) * self.h)))

    @property
    def observables(self):
        return {"magnetisation": lambda x: x.mean(1)}

    def exact_observables(self, beta=None):
        m = float(np.tanh((beta or self.beta) * self.h))
        return {"magnetisation": m, "energy": -self.h * m * self.shape[0]}


class Oscillator(Target):
    """E = ½ |x − c|² in `d` dimensions at beta = 1: Z = (2π)^(d/2)."""

    support, beta = "real", 1.0

    def __init__(self, d: int = 2, c: float = 0.0):
        self.shape, self.c = (d,), c

    def energy(self, x):
        return 0.5 * (x - self.c).square().sum(1)

    def exact_logZ(self, beta=None):
        return 0.5 * self.shape[0] * float(np.log(2 * np.pi))

    @property
    def observables(self):
        return {"mean": lambda x: x.mean(1), "square": lambda x: x.square().mean(1)}

    def exact_observables(self, beta=None):
        return {"mean": self.c, "square": 1 + self.c**2}


def states(n: int) -> torch.Tensor:
    """All 2^n spin configurations."""
    bits = (torch.arange(2**n)[:, None] >> torch.arange(n)) & 1
    return 2.0 * bits.double() - 1


def spins(target: Paramagnet, field: float, count: int, seed: int, reference: int = 0, off: float = 0.0) -> Drawn:
    """Independent spins in another field than the target's; the reported ln q is wrong by `off` × the first spin."""
    rng, n = np.random.default_rng(seed), target.shape[0]

    def drawn(count: int, a: float) -> torch.Tensor:
        return torch.tensor(np.where(rng.random((count, n)) < 1 / (1 + np.exp(-2 * a)), 1.0, -1.0))

    def log_prob(x: torch.Tensor) -> np.ndarray:
        return ((field * x).sum(1) - n * np.log(2 * np.cosh(field)) + off * x[:, 0]).numpy()

    x, y = drawn(count, field), drawn(max(1, reference), target.beta * target.h)
    beside = {"reference_energy": target.energy(y).numpy()[:, None], "reference_log_prob": log_prob(y)[:, None]}
    return Drawn(x, target.energy(x).numpy(), log_prob(x), "exact", **(beside if reference else {}))


def gaussian(target: Oscillator, shift: float, count: int, seed: int, reference: int = 0, off: float = 0.0) -> Drawn:
    """Unit Gaussians about c + `shift` as a model of the oscillator; the reported ln q is too large by `off`."""
    rng, d = np.random.default_rng(seed), target.shape[0]
    x = torch.tensor(target.c + shift + rng.standard_normal((count, d)))
    y = torch.tensor(target.c + rng.standard_normal((max(1, reference), d)))

    def log_prob(x: torch.Tensor) -> np.ndarray:
        return (-0.5 * (x - target.c - shift).square().sum(1) - 0.5 * d * np.log(2 * np.pi) + off).numpy()

    beside = {"reference_energy": target.energy(y).numpy()[:, None], "reference_log_prob": log_prob(y)[:, None]}
    return Drawn(x, target.energy(x).numpy(), log_prob(x), "exact", **(beside if reference else {}))
