"""The partition function of a real restricted Boltzmann machine, exactly and by annealing, and its Gibbs sampler.

R. Salakhutdinov, I. Murray, ICML 2008; bounds from both sides: R. Grosse, Z. Ghahramani, R. Adams, arXiv 1511.02543.
"""

import itertools
import math

import torch
from torch import Tensor

from .rbm import LIMIT, RBM, log_2cosh, parts


def spins(field: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """±1 with the odds e^(2·field)."""
    uniform = torch.rand(field.shape, generator=generator, dtype=field.dtype)
    return torch.where(uniform < torch.sigmoid(2 * field), 1.0, -1.0).to(field.dtype)


@torch.no_grad()
def gibbs(rbm: RBM, v: Tensor, k: int, generator: torch.Generator | None = None, scale: float = 1.0) -> Tensor:
    """v after k steps of block Gibbs sampling at parameters times `scale`."""
    a, b, w = rbm.couplings()
    v = v.to(w.dtype)
    for _ in range(k):
        h = spins(scale * (b + v @ w), generator)
        v = spins(scale * (a + h @ w.T), generator)
    return v


def over_hidden(rbm: RBM, h: Tensor) -> Tensor:
    """ln Σ_v p*(v, h) of hidden units h (…, hidden)."""
    a, b, w = rbm.couplings()
    return h @ b + log_2cosh(a + h @ w.T).sum(-1)


def weights(rbm: RBM) -> Tensor | None:
    """ln p* of every configuration of the smaller layer, the other one summed; None above 22 units."""
    hidden, visible = rbm.hidden, rbm.visible
    if min(hidden, visible) > LIMIT:
        return None
    summed = rbm if visible <= hidden else (lambda h: over_hidden(rbm, h))
    return torch.cat([summed(part.to(rbm.w)) for part in parts(min(hidden, visible))])


def log_z(rbm: RBM) -> Tensor | None:
    """ln Z, differentiable, or None above 22 units of the smaller layer."""
    found = weights(rbm)
    return None if found is None else torch.logsumexp(found, 0)


@torch.no_grad()
def exact_samples(rbm: RBM, n: int, generator: torch.Generator | None = None) -> Tensor:
    """n independent v from the sum over the smaller layer. Raises ValueError above 22 units."""
    found = weights(rbm)
    if found is None:
        raise ValueError(f"hidden {rbm.hidden}, visible {rbm.visible}: allowed: up to {LIMIT} units in one of them")
    edges = torch.softmax(found.double(), 0).cumsum(0)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64) * edges[-1]
    number = torch.searchsorted(edges, uniform).clamp(max=len(edges) - 1)
    bits = min(rbm.hidden, rbm.visible)
    drawn = 2 * (number[:, None] >> torch.arange(bits) & 1).to(rbm.w.dtype) - 1
    if rbm.visible <= rbm.hidden:
        return drawn
    a, _, w = rbm.couplings()
    return spins(a + drawn @ w.T, generator)


@torch.no_grad()
def annealed(rbm: RBM, v: Tensor, steps: int, backwards: bool, generator: torch.Generator | None = None) -> float:
    """ln Z by annealed importance sampling from parameters times 0, where ln Z is that of free spins, to the full ones.

    Forwards (v are only a shape) its expectation is below ln Z. Backwards, from exact samples v, it is above.
    """
    a, b, w = rbm.couplings()
    v = spins(torch.zeros_like(v).to(w), generator) if not backwards else v.to(w)
    scales = torch.linspace(0, 1, steps + 1).tolist()
    total = torch.zeros(len(v), dtype=torch.float64)

    def log_weight(scale: float) -> Tensor:
        return (scale * (v @ a) + log_2cosh(scale * (b + v @ w)).sum(-1)).double()

    scales = scales[::-1] if backwards else scales
    for here, there in itertools.pairwise(scales):
        total += log_weight(there) - log_weight(here)
        v = gibbs(rbm, v, 1, generator, there)
    free = (rbm.visible + rbm.hidden) * math.log(2)
    mean = float(torch.logsumexp(total, 0)) - math.log(len(v))
    return free - mean if backwards else free + mean
