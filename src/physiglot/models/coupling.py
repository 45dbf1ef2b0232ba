"""Real NVP and neural spline flows: couplings of two colours of the sites, after `flows`.

Real NVP: L. Dinh, J. Sohl-Dickstein, S. Bengio, arXiv 1605.08803; splines: C. Durkan et al., arXiv 1906.04032. On
lattices the coupling flow is the first of the models of M. S. Albergo, G. Kanwar, P. E. Shanahan, Phys. Rev. D 100,
034515 (2019), with networks that see the whole lattice.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..generative import flows
from ..strict import Strict
from ..targets import Target


class Params(Strict):
    univariate: Literal["affine", "spline"] = Field(
        "affine", description="what is done to a variable: real NVP's affine map, or a rational-quadratic spline"
    )
    couplings: int = Field(6, ge=1, description="couplings; the two colours of the sites take turns")
    hidden: list[Annotated[int, Field(ge=1)]] = Field([32, 32], description="widths of the networks, one per layer")
    bins: int = Field(8, ge=2, description="of a spline")
    bound: float = Field(5.0, gt=0, description="splines act on [−bound, bound] standard deviations; identity outside")
    width: float = Field(
        1.0, gt=0, description="first width of the samples, in standard deviations of the data; it is learnt"
    )
    z2: bool = Field(True, description="the mixture of q(x) and q(−x) in equal parts")
    shift: float = Field(0.0, ge=-100, le=100, description="mean of the noise; not 0: a model bent to one mode")
    anneal: float | None = Field(None, gt=0, description="beta_t = beta (1 − exp(−progress/anneal)) in training")


class Model(nn.Module):
    """The exact density of a coupling flow over configurations of the shape of its target, which are real."""

    log_prob_kind = "exact"
    reparam = True
    mean: Tensor
    std: Tensor

    def __init__(
        self, params: Params, *, mean: Tensor, std: Tensor, target: Target, embedding: nn.Module | None = None
    ):
        super().__init__()
        self.params, self.target = params, target
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        given = params.model_dump(include={"univariate", "bins", "bound"})
        flow = flows.Couplings(flows.checkerboard(target.shape), params.couplings, params.hidden, **given)
        self.density = flows.Density(flow, mean, std, target, width=params.width, z2=params.z2, shift=params.shift)

    def loss(self, batch: dict, progress: float = 1.0) -> dict[str, Tensor]:
        return flows.loss(self, batch, progress)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """x (n, *shape) and ln q (n), float64; both carry the gradient."""
        return self.density.sample(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """ln q (batch), float64, of x (batch, *shape)."""
        return self.density.log_prob(x)
