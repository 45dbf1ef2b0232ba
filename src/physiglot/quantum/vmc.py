"""Variational Monte Carlo: local energies of any ln ψ, and the steps of stochastic reconfiguration.

S. Sorella, Phys. Rev. Lett. 80, 4558 (1998); in the space of samples: A. Chen, M. Heyl, Nat. Phys. 20, 1476 (2024).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..generative.rbm import RBM
from ..targets import Hamiltonian
from .chains import Chain
from .ratios import ratios

ROWS = 2**21  # spins of configurations that are evaluated at a time


def _evaluated(log_psi: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([log_psi(part) for part in x.split(max(1, ROWS // x[0].numel()))])


@torch.no_grad()
def local_energy(log_psi: Callable[[Tensor], Tensor], x: Tensor, hamiltonian: Hamiltonian) -> Tensor:
    """Σ_x' ⟨x|H|x'⟩ ψ(x')/ψ(x) of x (batch, *shape), float64 or complex128 (batch).

    An RBM on a chain has its ratios from its angles. ln ψ may be −inf: x' without amplitude adds nothing, and x without
    amplitude, which no sampler visits, gets 0.
    """
    if x.shape[1:] != hamiltonian.shape or not (x.abs() == 1).all():
        raise ValueError(f"x {tuple(x.shape)}: spins ±1 of shape (batch, {', '.join(map(str, hamiltonian.shape))})")
    if isinstance(log_psi, RBM) and isinstance(hamiltonian, Chain):
        elements = hamiltonian.elements(x)
        found = elements[:, 1:] * ratios(log_psi, x, hamiltonian.flips, elements[:, 1:] != 0)
        return elements[:, 0] + found.sum(1)
    reached, elements = hamiltonian.connected(x)
    there = elements != 0
    there[:, 0] = True
    value = _evaluated(log_psi, reached[there])
    value = value.to(torch.complex128 if value.is_complex() else torch.float64)
    logarithm = torch.zeros(there.shape, dtype=value.dtype, device=x.device).masked_scatter_(there, value)
    own = logarithm[:, :1]
    dead = (own.real if own.is_complex() else own) == -torch.inf
    ratio = torch.exp(logarithm - torch.where(dead, 0, own))
    found = torch.where(there, elements * ratio, 0).sum(1)
    return torch.where(dead[:, 0], 0, found)


def natural(derivatives: Tensor, local: Tensor, weights: Tensor, shift: float) -> Tensor:
    """δ of (S + λ) δ = f: S = ⟨ΔO* ΔO⟩, f = ⟨ΔO* ΔE⟩ over samples with `weights` that sum to 1.

    O (sample, parameter), E (sample). Solved over parameters or over samples, whichever are fewer: the same δ.
    """
    root = weights.sqrt()[:, None]
    o = root * (derivatives - (weights[:, None] * derivatives).sum(0))
    e = (root[:, 0] * (local - weights.to(local.dtype) @ local)).to(o.dtype)
    samples, parameters = o.shape
    small = o.mH @ o if parameters <= samples else o @ o.mH
    small.diagonal().add_(shift)
    right = o.mH @ e if parameters <= samples else e
    factor = torch.linalg.cholesky(small)
    solved = torch.cholesky_solve(right[:, None], factor)[:, 0]
    return solved if parameters <= samples else o.mH @ solved


def energy(
    psi: Any, x: Tensor, weights: Tensor, hamiltonian: Hamiltonian, shift: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean of the local energy, whose gradient is the direction of stochastic reconfiguration, and its variance.

    So plain gradient descent with rate η is imaginary-time evolution by η. Raises FloatingPointError.
    """
    local = local_energy(psi, x, hamiltonian)
    real = local.real
    mean = weights @ real
    if not torch.isfinite(mean):
        raise FloatingPointError("the local energy is not finite: lower training.lr or training.clip, or raise shift")
    direction = psi.split(natural(psi.derivatives(x), local, weights, shift))
    slope = sum(((p * d).sum() for p, d in zip(psi.learnt(), direction, strict=True)), torch.zeros(()))
    variance = weights @ (local - weights.to(local.dtype) @ local).abs().square()
    return mean + slope - slope.detach(), {"variance": variance}
