"""Metropolis sampling of |ψ|²; of an RBM with the tanh of every hidden angle at hand.

A flip of spin i changes cosh θ_j by the factor cosh 2W_ij − x_i tanh θ_j sinh 2W_ij: no function is evaluated until the
next sweep computes the angles afresh.
"""

from collections.abc import Callable

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..generative.rbm import RBM


@njit(cache=True, error_model="numpy")
def _chosen(sites, cosh, sinh, c, s):
    """cosh 2W and sinh 2W of the flip of one spin into `c` and `s`, or those of W_i − W_k of an exchange."""
    i = sites[0]
    if len(sites) == 1:
        c[:], s[:] = cosh[i], sinh[i]
        return
    k = sites[1]
    for j in range(len(c)):
        c[j] = cosh[i, j] * cosh[k, j] - sinh[i, j] * sinh[k, j]
        s[j] = sinh[i, j] * cosh[k, j] - cosh[i, j] * sinh[k, j]


@njit(cache=True, error_model="numpy")
def _change(t, spin, c, s):
    """ln |Π_j (c_j − x t_j s_j)|, the logarithm of the ratio of the cosh."""
    logarithm, product = 0.0, t[0] * 0 + 1
    for j in range(len(t)):
        product *= c[j] - spin * t[j] * s[j]
        if j % 32 == 31:
            size = abs(product)
            if size > 1e100 or size < 1e-100:
                logarithm += np.log(size)
                product = product * 0 + 1
    return logarithm + np.log(abs(product))


@njit(cache=True, error_model="numpy")
def _walk(x, a, b, w, sites, uniform):
    """Offer each chain x (chain, site) the moves `sites` (chain, move, flips); returns the share accepted."""
    chains, moves, flips = sites.shape
    cosh, sinh, accepted = np.cosh(2 * w), np.sinh(2 * w), 0
    t, c, s = np.empty(w.shape[1], w.dtype), np.empty(w.shape[1], w.dtype), np.empty(w.shape[1], w.dtype)
    for chain in range(chains):
        v = x[chain]
        for m in range(moves):
            if m % len(v) == 0:
                t[:] = b
                for i in range(len(v)):
                    t += v[i] * w[i]
                t[:] = np.tanh(t)
            move = sites[chain, m]
            if flips == 2 and v[move[0]] == v[move[1]]:
                continue
            _chosen(move, cosh, sinh, c, s)
            spin = v[move[0]]
            field = a[move[0]].real if flips == 1 else (a[move[0]] - a[move[1]]).real
            if 2 * (_change(t, spin, c, s) - 2 * spin * field) >= np.log(uniform[chain, m]):
                accepted += 1
                for j in range(len(t)):
                    t[j] = (t[j] * c[j] - spin * s[j]) / (c[j] - spin * t[j] * s[j])
                for i in move:
                    v[i] = -v[i]
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
