"""Coupling flows: invertible maps of Gaussian noise whose density is known, of `zuko`'s coupling transforms.

Half of the variables is kept and decides how the other half is stretched and shifted (L. Dinh, J. Sohl-Dickstein,
S. Bengio, real NVP, arXiv 1605.08803) or bent by monotonic rational-quadratic splines (C. Durkan et al., Neural spline
flows, arXiv 1906.04032). `forward` is noise to configuration and `inverse` back; both also give ln |det dx/dz|.
"""

from __future__ import annotations

from functools import partial
from math import log, pi, prod
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from zuko.flows import GeneralCouplingTransform
from zuko.transforms import CouplingTransform, MonotonicAffineTransform, MonotonicRQSTransform

from . import losses

if TYPE_CHECKING:
    from ..targets import Target

STEEPEST = 10.0  # the largest stretch of an affine coupling: many in a row must not overflow far from the samples


def checkerboard(shape: tuple[int, ...]) -> Tensor:
    """The sites of even colour, (site) bool. Raises ValueError for a lattice with an odd side: its colours clash."""
    if len(shape) > 1 and any(side % 2 for side in shape):
        raise ValueError(f"shape {tuple(shape)}: a checkerboard mask needs even sides")
    return torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).sum(0).flatten() % 2 == 0


class Couplings(nn.Module):
    """`count` couplings of the last axis that keep `mask` and its complement in turn.

    `hidden` are the widths of the networks. Splines have `bins` on [−bound, bound] and are the identity outside.
    """

    def __init__(
        self,
        mask: Tensor,
        count: int,
        hidden: list[int],
        *,
        univariate: Literal["affine", "spline"] = "affine",
        bins: int = 8,
        bound: float = 5.0,
    ):
        super().__init__()
        given: dict[str, Any] = {"hidden_features": hidden, "activation": nn.SiLU}
        if univariate == "spline":
            shapes = [(bins,), (bins,), (bins - 1,)]
            given |= {"univariate": partial(MonotonicRQSTransform, bound=bound), "shapes": shapes}
        else:
            given |= {"univariate": partial(MonotonicAffineTransform, slope=1 / STEEPEST), "shapes": [(), ()]}
        self.parts = nn.ModuleList(
            GeneralCouplingTransform(len(mask), mask=~mask if i % 2 else mask, **given) for i in range(count)
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """x of z (…, variable), and ln |det dx/dz| (…)."""
        total = z.new_zeros(z.shape[:-1])
        for part in self.parts:
            z, change = part().call_and_ladj(z)
            total = total + change
        return z, total

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z of x (…, variable), and ln |det dx/dz| (…) there."""
        total = x.new_zeros(x.shape[:-1])
        for part in reversed(self.parts):
            x, change = _undo(part(), x)
            total = total + change
        return x, total


def _undo(transform: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """z of x and ln |det dx/dz| there; the network of a coupling, which sees the kept half, is used once for both."""
    if not isinstance(transform, CouplingTransform):
        z = transform.inv(x)
        return z, transform.log_abs_det_jacobian(z, x)
    kept, moved = transform.split(x)
    inner = transform.meta(kept)
    z = inner.inv(moved)
    return transform.merge(kept, z, x.shape), inner.log_abs_det_jacobian(z, moved)


class Density(nn.Module):
    """The exact density of x = mean + std·s·flow(z), z Gaussian; `flow` has forward and inverse, s is learnt.

    s begins at `width`. `z2` mixes q(x) and q(−x) half and half: without it a flow of Gaussian noise keeps one of two
    modes and cannot know. `shift` is the mean of z; away from zero it forces one.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, flow: Any, mean: Tensor, std: Tensor, target: Target, *, width: float, z2: bool, shift: float):
        super().__init__()
        if target.support != "real":
            raise ValueError(
                f"a flow makes real configurations, and those of {type(target).__name__} are {target.support}"
            )
        self.flow, self.shape, self.z2, self.shift = flow, tuple(target.shape), z2, shift
        self.log_scale = nn.Parameter(torch.tensor(log(width)))
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, spread(value, self.shape), persistent=False)

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """x (batch, *shape) of noise z (batch, site), and ln q (batch), without the mixture."""
        y, change = self.flow(z)
        x = self.mean + self.std * self.log_scale.exp() * y
        return x.unflatten(1, self.shape), (self._base(z) - change - self._stretch()).double()

    def pull(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The noise z (batch, site) of x (batch, *shape), and ln q (batch), without the mixture."""
        y = (x.flatten(1) - self.mean) / (self.std * self.log_scale.exp())
        z, change = self.flow.inverse(y)
        return z, (self._base(z) - change - self._stretch()).double()

    def _stretch(self) -> Tensor:
        return self.std.log().sum() + self.log_scale * prod(self.shape)

    def _base(self, z: Tensor) -> Tensor:
        return -0.5 * ((z - self.shift).square() + log(2 * pi)).sum(1)

    def noise(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        like: dict[str, Any] = {"dtype": self.mean.dtype, "device": self.mean.device}
        return self.shift + torch.randn(n, prod(self.shape), generator=generator, **like)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """x (n, *shape), and ln q (n), float64; differentiable by the weights."""
        x, logs = self.push(self.noise(n, generator))
        if not self.z2:
            return x, logs
        logs = torch.logaddexp(logs, self.pull(-x)[1]) - log(2)
        return x * self.sign(n, generator), logs

    def sign(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """The sign of each sample, (n, 1, …): at random with `z2`, else +1."""
        drawn = torch.randint(2, (n,), generator=generator, device=self.mean.device) if self.z2 else torch.zeros(n)
        return (1 - 2 * drawn).to(self.mean).view(-1, *[1] * len(self.shape))

    def log_prob(self, x: Tensor) -> Tensor:
        """ln q (batch), float64, of x (batch, *shape). Raises ValueError for another shape."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x: {tuple(x.shape)}: it must be (batch, {', '.join(map(str, self.shape))})")
        x = x.to(self.mean)
        if not self.z2:
            return self.pull(x)[1]
        return torch.logaddexp(*self.pull(torch.cat([x, -x]))[1].chunk(2)) - log(2)


def spread(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Statistics of the first axes of configurations of this shape, for each site: (site)."""
    if values.numel() == prod(shape):
        return values.flatten().clone()
    return values.view(*values.shape, *[1] * (len(shape) - values.ndim)).expand(shape).flatten().clone()


class Flow(nn.Module):
    """A model whose density is that of a flow; `params` are `FlowParams`."""

    log_prob_kind = "exact"
    reparam = True
    mean: Tensor
    std: Tensor

    def __init__(self, params: Any, flow: nn.Module, mean: Tensor, std: Tensor, target: Target):
        super().__init__()
        self.params, self.target = params, target
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.density = Density(flow, mean, std, target, width=params.width, z2=params.z2, shift=params.shift)

    def loss(self, batch: dict, progress: float = 1.0) -> dict[str, Tensor]:
        return losses.energy_or_data(self, batch, progress)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """x (n, *shape) and ln q (n), float64; both carry the gradient."""
        return self.density.sample(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """ln q (batch), float64, of x (batch, *shape)."""
        return self.density.log_prob(x)
