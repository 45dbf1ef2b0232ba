"""Associative memories: energies and updates of Hopfield networks, from Hebb's rule to attention.

J. J. Hopfield, PNAS 79, 2554 (1982); D. Krotov, J. J. Hopfield, arXiv 1606.01164; M. Demircigil et al., arXiv
1702.01929; H. Ramsauer et al., arXiv 2008.02217. Patterns ξ (pattern, site) and states s (batch, site) are ±1.
"""

from typing import Any, Literal

import numpy as np
import torch
from numba import njit
from torch import Tensor

Rule = Literal["hebb", "power", "exponential", "modern"]


def checked(patterns: Tensor, name: str = "patterns") -> Tensor:
    """The patterns. Raises ValueError if an entry is not ±1 or the shape is not (pattern, site)."""
    if patterns.ndim != 2 or not (patterns.abs() == 1).all():
        raise ValueError(f"{name} {tuple(patterns.shape)}: allowed: entries ±1 of shape (pattern, site)")
    return patterns


def hebb(patterns: Tensor) -> Tensor:
    """J = ξᵀξ/N with a zero diagonal (site, site)."""
    couplings = patterns.T.double() @ patterns.double() / patterns.shape[1]
    return couplings.fill_diagonal_(0)


@njit(cache=True, error_model="numpy")
def _settle(patterns, state, order):
    """Asynchronous updates by Hebb's rule of states (batch, site), in place, until nothing changes.

    `patterns` (site, pattern); `order` (sweep, site). The overlaps with all patterns are kept, so that an update costs
    as many operations as there are patterns.
    """
    for s in state:
        overlap = np.zeros(patterns.shape[1], np.int32)
        for i in range(len(s)):
            overlap += s[i] * patterns[i]
        for sites in order:
            changed = False
            for i in sites:
                field = np.int64(0)
                for mu in range(len(overlap)):
                    field += patterns[i, mu] * overlap[mu]
                field -= patterns.shape[1] * s[i]
                if field * s[i] < 0:
                    s[i] = -s[i]
                    overlap += 2 * s[i] * patterns[i]
                    changed = True
            if not changed:
                break


def settle(patterns: Tensor, state: Tensor, sweeps: int, generator: torch.Generator | None = None) -> Tensor:
    """States after asynchronous updates by Hebb's rule, in a random order; a field of zero changes nothing."""
    order = torch.stack([torch.randperm(state.shape[1], generator=generator) for _ in range(sweeps)])
    moved = state.to("cpu", torch.int32).numpy().copy()
    _settle(np.ascontiguousarray(patterns.to("cpu", torch.int32).numpy().T), moved, order.numpy())
    return torch.from_numpy(moved).to(state)


def _separated(overlap: Tensor, rule: Rule, power: int) -> tuple[Tensor, Tensor]:
    """ln |G| and the sign of G(z): z² (hebb), zⁿ (power) or eᶻ (exponential)."""
    if rule == "exponential":
        return overlap, torch.ones_like(overlap)
    n = 2 if rule == "hebb" else power
    return n * overlap.abs().log(), overlap.sign() ** n


def energy(patterns: Tensor, state: Tensor, rule: Rule, power: int = 2) -> Tensor:
    """−Σ_μ G(ξ_μ·s) (batch), float64; −N times that of Hebb's couplings, and a constant, for `hebb`."""
    size, sign = _separated(state.double() @ patterns.double().T, rule, power)
    return -(sign * size.exp()).sum(1)


def gain(patterns: Tensor, state: Tensor, rule: Rule, power: int = 2, sites: Any = slice(None)) -> Tensor:
    """E(s with spin i flipped) − E(s) of the `sites` (batch, site), in units of the largest G, in the log domain.

    0 where it is within rounding errors: a tie turns no spin.

    −sᵢ [Σ_μ G(ξ_μi + h_μ) − G(−ξ_μi + h_μ)] with the overlaps h_μ without site i is this difference. A flip moves an
    overlap by ∓2, so that two matrix products give all of them.
    """
    xi, s = patterns.double(), state.double()
    overlap = s @ xi.T
    parts = [_separated(overlap + shift, rule, power) for shift in (-2, 0, 2)]
    scale = torch.stack([size for size, _ in parts]).amax((0, 2))[:, None]
    down, own, up = (sign * (size - scale).exp() for size, sign in parts)
    flipped = 0.5 * (down + up).sum(1, keepdim=True) + 0.5 * s[:, sites] * ((down - up) @ xi[:, sites])
    found = own.sum(1, keepdim=True) - flipped
    return torch.where(found.abs() <= 1e-13 * own.abs().sum(1, keepdim=True), 0, found)


def step(patterns: Tensor, state: Tensor, rule: Rule, power: int = 2) -> Tensor:
    """All spins at once turned to where the energy is lower."""
    return torch.where(gain(patterns, state, rule, power) < 0, -state, state)


def descend(patterns: Tensor, state: Tensor, rule: Rule, power: int, sweeps: int, generator: torch.Generator) -> Tensor:
    """Asynchronous updates in a random order until nothing changes: the energy never rises."""
    state = state.clone()
    for _ in range(sweeps):
        before = state.clone()
        for i in torch.randperm(state.shape[1], generator=generator).tolist():
            turn = gain(patterns, state, rule, power, [i])[:, 0] < 0
            state[:, i] = torch.where(turn, -state[:, i], state[:, i])
        if torch.equal(before, state):
            break
    return state


def attend(patterns: Tensor, state: Tensor, sharpness: float) -> Tensor:
    """One update of the modern network with continuous states: softmax(b s ξᵀ) ξ, which is attention."""
    return torch.softmax(sharpness * state @ patterns.T, -1) @ patterns
