"""Amplitude ratios ψ(x')/ψ(x) of an RBM for all moves of a Hamiltonian, with the tanh of every angle at hand.

A flip of spin i changes cosh θ_j by the factor cosh 2W_ij − x_i tanh θ_j sinh 2W_ij; an exchange of unequal spins i
and k does the same with W_i − W_k. So a ratio is a product of as many factors as there are hidden units.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..generative.rbm import RBM


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _ratios(x, first, wanted, cosh, sinh, field, b, w, found):
    """Fill `found` (sample, move) where `wanted`; `first` is the spin whose sign counts."""
    t = np.empty(w.shape[1], w.dtype)
    for c in range(len(x)):
        t[:] = b
        for i in range(x.shape[1]):
            t += x[c, i] * w[i]
        t[:] = np.tanh(t)
        for m in range(len(first)):
            if wanted[c, m]:
                spin, product = x[c, first[m]], np.exp(-2 * x[c, first[m]] * field[m])
                for j in range(len(t)):
                    product *= cosh[m, j] - spin * t[j] * sinh[m, j]
                found[c, m] = product


@torch.no_grad()
def ratios(psi: RBM, x: Tensor, flips: Tensor, wanted: Tensor) -> Tensor:
    """ψ(x')/ψ(x) of x (batch, site) for each move (move, flips), the spins it flips: (batch, move), 0 if not `wanted`.

    A move flips one spin, or two that are unequal.
    """
    a, b, w = (
        part.detach().cpu().double() if not part.is_complex() else part.detach().cpu() for part in psi.couplings()
    )
    sites = flips.cpu()
    change = w[sites[:, 0]] - w[sites[:, 1]] if sites.shape[1] == 2 else w[sites[:, 0]]
    field = a[sites[:, 0]] - a[sites[:, 1]] if sites.shape[1] == 2 else a[sites[:, 0]]
    found = torch.zeros(len(x), len(sites), dtype=w.dtype)
    given = (x.cpu().double(), sites[:, 0], wanted.cpu(), torch.cosh(2 * change), torch.sinh(2 * change), field, b, w)
    _ratios(*(np.ascontiguousarray(part.resolve_conj().numpy()) for part in given), found.numpy())
    return found.to(x.device)
