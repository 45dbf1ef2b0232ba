"""The restricted Boltzmann machine, as a density and as a wave function: P. Smolensky (1986); G. Carleo, M. Troyer,
Science 355, 602 (2017), arXiv 1606.02318."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LIMIT = 22  # bits of an enumeration


def log_2cosh(z: Tensor) -> Tensor:
    """ln 2cosh z, real or complex, without overflow."""
    if not z.is_complex():
        return z.abs() + F.softplus(-2 * z.abs())
    right = torch.where(z.real < 0, -z, z)
    return right + torch.log1p(torch.exp(-2 * right))


class RBM(nn.Module):
    """ln f(v) = a·v + Σ_j ln 2cosh(b_j + v·W_j), v and the hidden units ±1; ln p* of a density, ln ψ of a state.

    Parameters are float64, with a last axis (real, imaginary) if `complex_`. With `symmetric` a single a, and
    hidden/visible filters with a bias each, shifted over the ring: f(v) is invariant under translations.
    """

    def __init__(
        self,
        visible: int,
        hidden: int,
        *,
        complex_: bool = False,
        symmetric: bool = False,
        visible_bias: bool = True,
        hidden_bias: bool = True,
        scale: float = 0.01,
    ):
        super().__init__()
        if symmetric and hidden % visible:
            raise ValueError(f"hidden {hidden}: a symmetric RBM has multiples of its {visible} visible units")
        self.visible, self.hidden, self.complex, self.symmetric = visible, hidden, complex_, symmetric
        tail, filters = [2] * complex_, hidden // visible if symmetric else hidden
        zeros = torch.zeros(1 if symmetric else visible, *tail).double()
        self.a = nn.Parameter(zeros, requires_grad=visible_bias)
        self.b = nn.Parameter(torch.zeros(filters, *tail).double(), requires_grad=hidden_bias)
        self.w = nn.Parameter(scale * torch.randn(visible, filters, *tail).double())
        shifts = torch.arange(visible)
        self.register_buffer("place", (shifts[:, None] - shifts) % visible, persistent=False)  # (site, shift)

    place: Tensor

    def learnt(self) -> list[nn.Parameter]:
        return [p for p in (self.a, self.b, self.w) if p.requires_grad]

    def couplings(self) -> tuple[Tensor, Tensor, Tensor]:
        """a (visible), b (hidden), W (visible, hidden), whole also where translations make most of them equal."""
        a, b, w = (torch.view_as_complex(p) if self.complex else p for p in (self.a, self.b, self.w))
        if not self.symmetric:
            return a, b, w
        whole = w[self.place].transpose(1, 2).flatten(1)  # hidden unit f N + shift
        return a.expand(self.visible), b.repeat_interleave(self.visible), whole

    def angles(self, v: Tensor) -> Tensor:
        """θ = b + v·W (…, hidden)."""
        _, b, w = self.couplings()
        return b + v.to(w.dtype) @ w

    def forward(self, v: Tensor) -> Tensor:
        """ln f of v (…, visible)."""
        a, b, w = self.couplings()
        v = v.to(w.dtype)
        return v @ a + log_2cosh(b + v @ w).sum(-1)

    @torch.no_grad()
    def derivatives(self, v: Tensor) -> Tensor:
        """∂ ln f / ∂ (a, b, W) of v (batch, visible): (batch, parameter), in the order of `learnt`."""
        t = torch.tanh(self.angles(v))
        v = v.to(t.dtype)
        if not self.symmetric:
            parts = [v, t, (v[:, :, None] * t[:, None]).flatten(1)]
        else:
            t = t.unflatten(1, (-1, self.visible))
            added = self.place[:, (-torch.arange(self.visible)) % self.visible]  # site + shift
            moved = v[:, added]
            parts = [v.sum(1, keepdim=True), t.sum(2), torch.einsum("bfs,bsi->bif", t, moved).flatten(1)]
        learnt = [part for part, p in zip(parts, (self.a, self.b, self.w), strict=True) if p.requires_grad]
        return torch.cat(learnt, 1)

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector (parameter) as tensors like `learnt`."""
        learnt = self.learnt()
        sizes = [p[..., 0].numel() if self.complex else p.numel() for p in learnt]
        parts = vector.split(sizes)
        if self.complex:
            return [torch.view_as_real(part).view_as(p) for part, p in zip(parts, learnt, strict=True)]
        return [part.view_as(p) for part, p in zip(parts, learnt, strict=True)]


def every(bits: int) -> Tensor:
    """All 2^bits configurations ±1, float64 (2^bits, bits). Raises ValueError above 22 bits."""
    return torch.cat(list(parts(bits)))


def parts(bits: int, rows: int = 2**16) -> Iterator[Tensor]:
    """All 2^bits configurations ±1 in order, `rows` at a time. Raises ValueError above 22 bits."""
    if bits > LIMIT:
        raise ValueError(f"bits {bits}: an enumeration takes up to {LIMIT} units")
    for start in range(0, 2**bits, rows):
        numbers = torch.arange(start, min(start + rows, 2**bits))
        yield 2 * (numbers[:, None] >> torch.arange(bits) & 1).double() - 1
