"""The control: logistic regression on how many of the sites changed at each step, n − 1 numbers in all.

The flip rate is a smooth function of temperature, so where this model crosses ½ is set by where it was trained.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from ..phases.classifier import Classifier, balanced, encode, label_of, scrambled
from ..phases.labels import Labelled


class Params(Labelled):
    l2: float = Field(1.0, gt=0, description="λ of the penalty λ/2 Σ w² beside the summed cross-entropy")
    small: float = Field(0.05, gt=0, description="real numbers only: what counts is how many are smaller in size")
    iterations: int = Field(50, ge=1, description="most Newton steps")


class Model(Classifier):
    """P = σ(w·f + b), f the fractions of sites that changed; fitted by Newton's method, in float64 weights."""

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__(params, mean, std)
        self.weight = nn.Parameter(torch.zeros(params.steps, dtype=torch.float64), requires_grad=False)

    def flips(self, state: Tensor) -> Tensor:
        """(sample, time, series) -> the fraction that changed at each transition, and 1: (sample, n).

        Real numbers all change: of them it is the fraction with |x| < `small` after each transition.
        """
        if self.params.quantity == "real":
            flips = (state[:, 1:].abs() < self.params.small).double().mean(-1)
        else:
            flips = (state.diff(dim=1) != 0).double().mean(-1)
        return torch.cat([flips, torch.ones_like(flips[:, :1])], dim=1)

    @torch.no_grad()
    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """Newton's method on all members within the windows; all draws of a member together count as one sample."""
        temperature = data["parameters"][:, 0]
        label, weight = label_of(temperature, self.params.windows)
        chosen = weight > 0
        if not (label[chosen] == 0).any() or not (label[chosen] == 1).any():
            raise ValueError(f"windows {self.params.windows}: no member of the training split lies in one of them")
        label = (scrambled(temperature) if self.params.labels == "random" else label)[chosen].double()
        share = balanced(label, torch.ones_like(label))
        state = self.cut(data["state"][chosen])
        alone = self.params.variant == "faithful" or self.draws == 1
        parts = [state[..., self.sites]] if alone else state.split(self.params.series, dim=-1)
        features = torch.cat([self.flips(encode(part, self.params, False)) for part in parts])
        steps = self._newton(features, label.repeat(len(parts)), share.repeat(len(parts)) / len(parts))
        return {"samples": float(len(label)), "draws": float(len(parts)), "newton_steps": float(steps)}

    def _newton(self, features: Tensor, label: Tensor, share: Tensor) -> int:
        """Minimise Σ share · cross-entropy + λ/2 Σ w², the constant's weight free; returns the steps taken."""
        penalty = torch.full_like(self.weight, self.params.l2)
        penalty[-1] = 1e-12
        for step in range(self.params.iterations):
            p = (features @ self.weight).sigmoid()
            gradient = features.T @ (share * (p - label)) + penalty * self.weight
            hessian = features.T @ ((share * p * (1 - p))[:, None] * features) + penalty.diag()
            change = torch.linalg.solve(hessian, gradient)
            self.weight.sub_(change)
            if change.abs().max() < 1e-8:
                return step + 1
        return self.params.iterations

    def logit(self, x: Tensor) -> Tensor:
        return self.flips(x).to(self.weight) @ self.weight
