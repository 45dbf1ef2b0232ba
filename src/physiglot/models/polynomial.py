"""A polynomial one-step map fitted by least squares: the baseline that any smooth, observed flow deserves.

A next-generation reservoir computer with a single delay (Gauthier et al., Nat. Commun. 12, 5564, 2021,
arXiv 2106.07688). `monomials` is the feature map; other models use it too.
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import combinations_with_replacement
from math import comb
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from .. import shooting
from ..strict import Strict


class Params(Strict):
    degree: int = Field(3, ge=0, le=12, description="highest total degree of the monomials")
    ridge: float = Field(1e-13, ge=0, description="ridge in units of the mean diagonal of the Gram matrix, tr(G)/n")
    refinements: int = Field(1, ge=0, description="steps of iterative refinement, against the ridge and round-off")
    source: Literal["smooth", "state"] = Field("smooth", description="fit to the smoothed or to the raw training data")
    shooting: list[Annotated[int, Field(ge=2)]] = Field(
        [], description="segment lengths of a multiple shooting that refines the fit where data are noisy"
    )
    chunk: int = Field(32768, ge=1, description="pairs of states held in memory at once while fitting")


@lru_cache
def exponents(fields: int, degree: int) -> tuple[tuple[int, ...], ...]:
    """The monomials up to `degree`, each as the non-decreasing tuple of the fields it multiplies."""
    return tuple(m for d in range(degree + 1) for m in combinations_with_replacement(range(fields), d))


@lru_cache
def _factors(fields: int, degree: int, device: torch.device) -> tuple[tuple[Tensor, Tensor], ...]:
    """For each degree: each monomial's cofactor, by its place one degree lower, and its first field."""
    levels = []
    below: dict[tuple[int, ...], int] = {(): 0}
    for d in range(1, degree + 1):
        level = list(combinations_with_replacement(range(fields), d))
        pairs = [(below[m[1:]], m[0]) for m in level]
        cofactor, field = torch.tensor(pairs, device=device).T.contiguous()
        levels.append((cofactor, field))
        below = {m: i for i, m in enumerate(level)}
    return tuple(levels)


def monomials(x: Tensor, degree: int) -> Tensor:
    """All monomials of x (…, field) up to `degree`, constant first: (…, C(fields + degree, degree)).

    Ordered as `exponents`: 1, x, y, z, xx, xy, …; one product each, from the monomial one degree lower.
    """
    levels = [torch.ones_like(x[..., :1])]
    for cofactor, field in _factors(x.shape[-1], degree, x.device):
        levels.append(levels[-1].index_select(-1, cofactor) * x.index_select(-1, field))
    return torch.cat(levels, dim=-1)


class Model(nn.Module):
    """x⁺ = x + W m(x̃): x̃ the standardised state, m its monomials, W (monomial, field) in physical units.

    Least squares needs no gradient, so `weight` is a parameter without one. Everything is float64: from
    degree 5 on the one-step error on clean data is below the round-off of float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.double())
        self.register_buffer("std", std.double())
        fields = len(mean)
        shape = comb(fields + params.degree, params.degree), fields
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64), requires_grad=False)

    def features(self, state: Tensor) -> Tensor:
        return monomials((state - self.mean) / self.std, self.params.degree)

    def step(self, state: Tensor) -> Tensor:
        return state + self.features(state) @ self.weight

    def chunks(self, series: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The pairs (x, x⁺) of all series, in pieces that fit in memory."""
        length = series.shape[1] - 1
        for part in series.split(max(1, self.params.chunk // length)):
            part = part.to(self.weight)
            yield part[:, :-1].flatten(0, 1), part[:, 1:].flatten(0, 1)

    @torch.no_grad()
    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """Ridge regression over all pairs of the training split; the one-step error in units of std."""
        series = data[self.params.source]
        size = len(self.weight)
        gram = sum((m.T @ m for m in (self.features(x) for x, _ in self.chunks(series))), torch.zeros(()))
        ridge = self.params.ridge * gram.trace() / size
        factor = torch.linalg.cholesky(gram + ridge * torch.eye(size).to(gram))
        self.weight.zero_()
        for _ in range(1 + self.params.refinements):
            pairs = self.chunks(series)
            moment = sum((self.features(x).T @ (y - self.step(x)) for x, y in pairs), torch.zeros(()))
            self.weight.add_(torch.cholesky_solve(moment, factor))
        if self.params.shooting and data["smooth"] is not data["state"]:
            self._shoot(data["state"].to(self.weight), data["smooth"].to(self.weight))
        squares = [((self.step(x) - y) / self.std).square() for x, y in self.chunks(series)]
        return {"one_step_rmse": torch.cat(squares).mean().sqrt().item()}

    def _shoot(self, observed: Tensor, smooth: Tensor) -> None:
        """Multiple shooting in the standardised state, where data are noisy."""
        precision = shooting.precision_of(shooting.noise_of(observed, smooth), smooth) * self.std**2
        series = [(x - self.mean) / self.std for x in (observed, smooth)]
        features = partial(monomials, degree=self.params.degree)
        weight = shooting.refine(
            features, self.weight / self.std, series[0], series[1], precision, self.params.shooting
        )
        self.weight.copy_(weight * self.std)

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared one-step error in units of std; there is nothing left to minimise."""
        state = batch[self.params.source].to(self.weight)
        return {"loss": ((self.step(state[:, :-1]) - state[:, 1:]) / self.std).square().mean()}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int) -> Tensor:
        """(member, field) -> (member, steps, field). It may diverge, to values that are not finite."""
        states = [start.to(self.weight)]
        for _ in range(steps - 1):
            states.append(self.step(states[-1]))
        return torch.stack(states, dim=1)
