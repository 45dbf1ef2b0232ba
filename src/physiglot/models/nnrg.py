"""Neural renormalisation group: a flow wired like a real-space renormalisation, see `hierarchy`.

S.-H. Li, L. Wang, Phys. Rev. Lett. 121, 260601 (2018), arXiv 1802.02840. For L = 16 their code, `li012589/NeuralRG`,
has ten couplings per block with three layers of ten units, one repetition, and the mixture of both signs.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..generative import flows
from ..generative.hierarchy import Hierarchy, scales
from ..strict import Strict
from ..targets import Target


class Params(Strict):
    univariate: Literal["affine", "spline"] = Field(
        "affine", description="what is done to a variable: real NVP's affine map, or a rational-quadratic spline"
    )
    couplings: int = Field(6, ge=1, description="couplings of a block of four sites (Li & Wang 2018: 10)")
    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        [16, 16], description="widths of their networks, one per layer (Li & Wang 2018: 10, 10, 10)"
    )
    repeat: int = Field(1, ge=1, description="pairs of layers at each scale (Li & Wang 2018: 1)")
    bins: int = Field(8, ge=2, description="of a spline")
    bound: float = Field(5.0, gt=0, description="splines act on [−bound, bound] standard deviations; identity outside")
    width: float = Field(
        1.0, gt=0, description="first width of the samples, in standard deviations of the data; it is learnt"
    )
    z2: bool = Field(True, description="the mixture of q(x) and q(−x) in equal parts")
    shift: float = Field(0.0, ge=-100, le=100, description="mean of the noise; not 0: a model bent to one mode")
    anneal: float | None = Field(None, gt=0, description="beta_t = beta (1 − exp(−progress/anneal)) in training")


class Model(nn.Module):
    """The exact density of a hierarchy of blocks over L × L lattices, L a power of two."""

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
        if len(target.shape) != 2 or target.shape[0] != target.shape[1]:
            raise ValueError(f"shape {tuple(target.shape)}: the hierarchy of 2×2 blocks needs an L × L lattice")
        given = params.model_dump(include={"univariate", "bins", "bound", "repeat"})
        flow = Hierarchy(target.shape[0], params.couplings, params.hidden, **given)
        self.density = flows.Density(flow, mean, std, target, width=params.width, z2=params.z2, shift=params.shift)

    def loss(self, batch: dict, progress: float = 1.0) -> dict[str, Tensor]:
        return flows.loss(self, batch, progress)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """x (n, L, L) and ln q (n), float64; both carry the gradient."""
        return self.density.sample(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """ln q (batch), float64, of x (batch, L, L)."""
        return self.density.log_prob(x)

    def stages(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Configurations (n, L, L) from the coarsest scale to the finest: noise of finer scales is at its mean."""
        size = self.target.shape[0]
        noise, scale = self.density.noise(n, generator), scales(size).to(self.mean.device)
        found, sign = {}, self.density.sign(n, generator)
        for finest in reversed(range(int(scale.max()) + 1)):
            kept = torch.where(scale >= finest, noise, self.params.shift)
            found[f"noise of {int((scale >= finest).sum())} sites"] = sign * self.density.push(kept)[0]
        return found
