"""Metropolis sampling of |ψ|²; of an RBM with the tanh of every hidden angle at hand.

A flip of spin i changes cosh θ_j by the factor cosh 2W_ij − x_i tanh θ_j sinh 2W_ij: no function is evaluated until the
next sweep computes the angles afresh.
"""

from collections.abc import Callable

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..rbm import RBM


@njit(cache=True, error_model="numpy")
def _flip(t, spin, cosh, sinh):
    """ln |Π_j of the factors| of a flip, and tanh θ after it, in place."""
    logarithm, product = 0.0, t[0] * 0 + 1
    for j in range(len(t)):
        factor = cosh[j] - spin * t[j] * sinh[j]
        t[j] = (t[j] * cosh[j] - spin * sinh[j]) / factor
        product *= factor
        size = abs(product)
        if size > 1e150 or size < 1e-150:
            logarithm += np.log(size)
            product = product * 0 + 1
    return logarithm + np.log(abs(product))


@njit(cache=True, error_model="numpy")
def _walk(x, a, b, w, sites, uniform):
    """Offer each chain x (chain, site) the moves `sites` (chain, move, flips); returns the share accepted."""
    chains, moves, flips = sites.shape
    cosh, sinh, accepted = np.cosh(2 * w), np.sinh(2 * w), 0
    t, trial = np.empty(w.shape[1], w.dtype), np.empty(w.shape[1], w.dtype)
    for c in range(chains):
        for m in range(moves):
            if m % x.shape[1] == 0:
                for j in range(len(b)):
                    angle = b[j]
                    for i in range(x.shape[1]):
                        angle += x[c, i] * w[i, j]
                    t[j] = np.tanh(angle)
            if flips == 2 and x[c, sites[c, m, 0]] == x[c, sites[c, m, 1]]:
                continue
            trial[:] = t
            change = 0.0
            for f in range(flips):
                i = sites[c, m, f]
                change += _flip(trial, x[c, i], cosh[i], sinh[i]) - 2 * x[c, i] * a[i].real
            if 2 * change >= np.log(uniform[c, m]):
                accepted += 1
                t, trial = trial, t
                for f in range(flips):
                    x[c, sites[c, m, f]] *= -1
    return accepted / (chains * moves)


def _moves(kind: str, chains: int, count: int, sites: int, generator: torch.Generator | None) -> Tensor:
    """Random single spins, or pairs: half of them neighbours, half at any distance: (chain, move, flips)."""
    first = torch.randint(sites, (chains, count), generator=generator)
    if kind == "flip":
        return first[..., None]
    distance = torch.randint(1, sites, (chains, count), generator=generator)
    distance = torch.where(torch.rand(chains, count, generator=generator) < 0.5, 1, distance)
    return torch.stack([first, (first + distance) % sites], -1)


def _walk_any(psi: Callable[[Tensor], Tensor], x: Tensor, sites: Tensor, uniform: Tensor) -> float:
    """As `_walk`, for any ln ψ, evaluated whole for every move."""
    x_, own, accepted = x.double(), psi(x.double()).real, 0.0
    for m in range(sites.shape[1]):
        chosen = x_.gather(1, sites[:, m])
        trial = x_.scatter(1, sites[:, m], -chosen)
        there = psi(trial).real
        moves = (2 * (there - own) >= uniform[:, m].log()) & ((chosen.shape[1] == 1) | (chosen[:, 0] != chosen[:, -1]))
        x_, own = torch.where(moves[:, None], trial, x_), torch.where(moves, there, own)
        accepted += float(moves.double().mean())
    x.copy_(x_)
    return accepted / sites.shape[1]


@torch.no_grad()
def walk(
    psi: Callable[[Tensor], Tensor], x: Tensor, sweeps: int, moves: str, generator: torch.Generator | None = None
) -> float:
    """Advance walkers x (chain, site) int8 in place by `sweeps` times N moves ("flip" or "exchange" of two spins).

    Returns the share of accepted moves. `psi` is ln ψ; the moves of an RBM are compiled. Random numbers are torch's.
    """
    chains, sites = x.shape
    offered = _moves(moves, chains, sweeps * sites, sites, generator)
    uniform = torch.rand(chains, sweeps * sites, dtype=torch.float64, generator=generator)
    if not isinstance(psi, RBM):
        return _walk_any(psi, x, offered.to(x.device), uniform.to(x.device))
    a, b, w = (np.ascontiguousarray(part.detach().cpu().numpy()) for part in psi.couplings())
    moved = x.cpu().numpy().copy()
    accepted = _walk(moved, a, b, w, offered.numpy(), uniform.numpy())
    x.copy_(torch.from_numpy(moved))
    return accepted


def walkers(chains: int, sites: int, moves: str) -> Tensor:
    """Random configurations (chain, site) int8; with exchanges, of as many +1 as −1 (one more −1 for odd N)."""
    if moves == "flip":
        return (2 * torch.randint(2, (chains, sites)) - 1).to(torch.int8)
    order = torch.rand(chains, sites).argsort(1)
    return torch.where(order < sites // 2, 1, -1).to(torch.int8)
