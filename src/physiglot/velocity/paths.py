"""Paths x_t = a(t) x₁ + s(t) z from the base z ~ N(0, σ₀²) to data x₁, and the loss of a field along them.

`linear` is flow matching (Y. Lipman et al., arXiv 2210.02747), `trig` the variance-preserving diffusion in its
v-parametrisation (T. Salimans, J. Ho, arXiv 2202.00512). The loss is E|v(x_t, t) − u|², u = a' x₁ + s' z, summed over
the variables and averaged over uniform t.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

Path = Literal["linear", "trig"]
Coupling = Literal["independent", "ot", "aligned"]
TURNS = 2


def coefficients(path: Path, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a, s, a', s' at the times `t` in [0, 1]."""
    if path == "linear":
        return t, 1 - t, torch.ones_like(t), -torch.ones_like(t)
    if path == "trig":
        sine, cosine = torch.sin(pi / 2 * t), torch.cos(pi / 2 * t)
        return sine, cosine, pi / 2 * cosine, -pi / 2 * sine
    raise ValueError(f"path {path!r}: must be linear or trig")


def noise_of(path: Path, t: Tensor, x: Tensor, velocity: Tensor) -> Tensor:
    """E[z | x_t] = (a u − a' x)/(a s' − a' s): what the velocity says about the noise in x; the divisor is never 0."""
    a, s, da, ds = coefficients(path, t)
    return (a * velocity - da * x) / (a * ds - da * s)


def score(path: Path, t: Tensor, x: Tensor, velocity: Tensor, width: float) -> Tensor:
    """∇ ln p_t(x) = −E[z | x]/(s σ₀²) of the density along the path; at t = 1, where s = 0, it is not defined."""
    return -noise_of(path, t, x, velocity) / (coefficients(path, t)[1] * width**2)


def paired(z: Tensor, x: Tensor, coupling: Coupling) -> Tensor:
    """The rows of `z` in the order that goes with `x`: as they are, or with the least Σ|x − z|² (`ot`).

    Pairs of least distance within a batch: A. Tong et al., arXiv 2302.00482; A. Pooladian et al., arXiv 2304.14772.
    `aligned`: each z stays with its x, and is renumbered and turned towards it.
    """
    if coupling == "independent":
        return z
    if coupling == "aligned":
        return aligned(z, x)
    if coupling != "ot":
        raise ValueError(f"coupling {coupling!r}: must be independent, ot or aligned")
    from scipy.optimize import linear_sum_assignment

    distances = torch.cdist(x.detach().flatten(1), z.flatten(1)).square().cpu().numpy()
    return z[torch.as_tensor(linear_sum_assignment(distances)[1], device=z.device)]


def aligned(z: Tensor, x: Tensor) -> Tensor:
    """z (batch, N, d) of particles with the numbering and the orthogonal transformation that bring it near x.

    L. Klein, A. Krämer, F. Noé, Equivariant flow matching, arXiv 2306.15030. Base, data and field have these
    symmetries, so the densities along the path keep theirs, and the paths become straighter. By turns, the best
    numbering (Hungarian) and the best transformation (W. Kabsch, Acta Cryst. A 32, 922 (1976)).
    """
    from scipy.optimize import linear_sum_assignment

    for _ in range(TURNS):
        distances = torch.cdist(x, z).square().cpu().numpy()
        order = torch.as_tensor(np.stack([linear_sum_assignment(each)[1] for each in distances]), device=z.device)
        z = torch.gather(z, 1, order[..., None].expand_as(z))
        left, _, right = torch.linalg.svd(x.mT @ z)
        z = z @ (left @ right).mT
    return z


def residuals(field, z: Tensor, x: Tensor, t: Tensor, path: Path) -> Tensor:
    """|v(x_t, t) − u|², (batch), of pairs z, x (batch, …) at the times t (batch)."""
    a, s, da, ds = (c.view(-1, *[1] * (x.ndim - 1)) for c in coefficients(path, t))
    velocity = field(a * x + s * z, t)[0]
    return (velocity - da * x - ds * z).square().flatten(1).sum(1)


def times(n: int, like: Tensor) -> Tensor:
    """`n` times in [0, 1), one in each of n equal intervals: uniform, with less variance than independent ones."""
    drawn = torch.rand(n, dtype=like.dtype, device=like.device)
    return (torch.randperm(n, device=like.device) + drawn) / n
