"""Continuous flows: one velocity field, learnt from an energy (reverse Kullback–Leibler) or from data (matching).

From an energy it is the continuous normalising flow of R. Chen et al. (2018), with the lattice field of M. Gerdes et
al., arXiv 2207.00283. From data it is flow matching (`path: linear`) or a diffusion model (`path: trig`), which can
also be sampled by its stochastic equation (`sampler: sde`); such samples have no log-probability.
"""

from math import log, pi
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..generative import losses
from ..strict import Strict
from ..targets import Target
from ..velocity import fields, follow

PROBES, STAGES = 64, 8


class Params(Strict):
    width: float = Field(1.0, gt=0, le=1e3, description="σ₀ of the Gaussian base, in units of the configurations")
    times: int = Field(8, ge=1, description="Chebyshev polynomials in time of each coefficient")
    frequencies: int = Field(12, ge=0, description="lattices: sines among the features; 0: a linear field")
    highest: float = Field(6.0, gt=0, le=1e3, description="lattices: largest of their initial frequencies")
    radial: int = Field(16, ge=1, description="particles: radial functions of each distance")
    reach: float = Field(6.0, gt=0, le=1e3, description="particles: distance up to which these are spread")
    hidden: int = Field(0, ge=0, description="particles: units of a network that sees what is around a pair; 0: none")
    path: Literal["linear", "trig"] = Field("linear", description="data: from noise to data, see velocity.paths")
    coupling: Literal["independent", "ot", "aligned"] = Field(
        "independent", description="data: how noise and data are paired; aligned: particles, renumbered and turned"
    )
    steps: int = Field(8, ge=1, description="energy: Runge–Kutta steps in training; to report, they come from doubling")
    sampler: Literal["ode", "sde"] = Field("ode", description="the flow, or the stochastic equation of the trig path")
    kicks: int = Field(200, ge=2, description="sde: Euler–Maruyama steps")
    anneal: float | None = Field(None, gt=0, description="energy: beta_t = beta (1 − exp(−progress/anneal))")

    @model_validator(mode="after")
    def _stochastic_is_trig(self) -> "Params":
        if self.sampler == "sde" and self.path != "trig":
            raise ValueError("sampler: 'sde': needs path: trig")
        return self


class Model(nn.Module):
    """q(x): the Gaussian base carried along a velocity field."""

    reparam = True
    mean: Tensor
    std: Tensor

    def __init__(
        self, params: Params, *, mean: Tensor, std: Tensor, target: Target, embedding: nn.Module | None = None
    ):
        super().__init__()
        if params.coupling == "aligned" and not target.particles:
            raise ValueError("coupling: 'aligned': needs particles; allowed on lattices: independent, ot")
        self.params, self.target = params, target
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.field = fields.of(target, params)
        self._steps: int | None = None
        self._error = mean.new_zeros(())

    @property
    def log_prob_kind(self) -> str:
        """The density of the flow is exact; the end of a stochastic path has none that could be computed."""
        return "none" if self.params.sampler == "sde" and not self.training else "exact"

    @property
    def centred(self) -> bool:
        """Whether configurations have their centre of mass at the origin, as those of free particles do."""
        return getattr(self.target, "centred", False)

    def loss(self, batch: dict, progress: float = 1.0) -> dict[str, Tensor]:
        if "count" in batch:
            value = losses.variational(self, batch, progress)
            return {"loss": value + self._error, "free_energy": value} if self.training else {"loss": value}
        x = self.target.configurations(batch["state"]).to(self.mean.dtype)
        return {"loss": losses.match(self, x, self.params.path, self.params.coupling)}

    def base(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """z (n, *shape) of the base, on the centred subspace if the target's configurations lie there."""
        like: dict[str, Any] = {"dtype": self.mean.dtype, "device": self.mean.device}
        return self.params.width * self.project(torch.randn(n, *self.target.shape, generator=generator, **like))

    def project(self, x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True) if self.centred else x

    def base_log_prob(self, z: Tensor) -> Tensor:
        """ln q₀ (batch): of (N − 1) d variables, not N d, where the centre of mass is fixed."""
        dimension = z[0].numel() - (z.shape[-1] if self.centred else 0)
        square = z.flatten(1).double().square().sum(1) / self.params.width**2
        return -0.5 * (square + dimension * log(2 * pi * self.params.width**2))

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """x (n, *shape) and ln q (n), float64, with gradient; samples of the stochastic equation have no ln q."""
        z = self.base(n, generator)
        if self.params.sampler == "sde" and not self.training:
            return self.diffuse(z, 1, generator)[-1], None
        if self.training:
            x, total, error = follow.rk4_with_error(self.field, z, self.params.steps, self.params.width)
            self._error = error.mean()
        else:
            x, total = follow.rk4(self.field, z, self.solver_steps())
        return x, self.base_log_prob(z) - total.double()

    def log_prob(self, x: Tensor) -> Tensor:
        """ln q (batch), float64, of x (batch, *shape): back to the base. Raises ValueError for another shape."""
        if tuple(x.shape[1:]) != tuple(self.target.shape):
            raise ValueError(f"x: {tuple(x.shape)}: must be (batch, {', '.join(map(str, self.target.shape))})")
        z, total = follow.rk4(self.field, x.to(self.mean), self.solver_steps(), 1.0, 0.0)
        return self.base_log_prob(z) + total.double()

    def solver_steps(self) -> int:
        """Runge–Kutta steps: given in training; else by doubling, on samples of the base that are always the same."""
        if self.training:
            return self.params.steps
        if self._steps is None:
            generator = torch.Generator(self.mean.device).manual_seed(0)
            self._steps = follow.enough(self.field, self.base(PROBES, generator))
        return self._steps

    def train(self, mode: bool = True) -> "Model":
        self._steps = None
        return super().train(mode)

    def diffuse(self, z: Tensor, saved: int, generator: torch.Generator | None = None) -> Tensor:
        """(saved + 1, batch, *shape): from the noise z along the stochastic equation of the trigonometric path."""
        kicks = -(-self.params.kicks // saved)
        return follow.stochastic(self.field, z, kicks, self.params.width, generator, saved, self.project)

    def stages(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """`n` configurations on their way from noise (t = 0) to data (t = 1): in reverse time of a diffusion."""
        z = self.base(n, generator)
        if self.params.sampler == "sde":
            states = self.diffuse(z, STAGES, generator)
        else:
            states = follow.path_of(self.field, z, -(-self.solver_steps() // STAGES), STAGES)
        return {f"t = {i / STAGES:.2g}": x for i, x in enumerate(states)}
