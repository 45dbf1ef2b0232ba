"""The echo state baseline: a fixed random recurrent network with a linear read-out.

Jaeger, GMD report 148 (2001); leaky units as in Lukoševičius, "A practical guide to applying echo state
networks" (2012). Geneva & Zabaras (arXiv 2010.03957, Tables 1 and 2) quote 7.5 k output weights, 6.3 M fixed.
"""

import itertools
import warnings
from typing import Annotated

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from pydantic import Field
from torch import Tensor, nn

from ..strict import Strict

Positive = Annotated[float, Field(gt=0)]


class Params(Strict):
    units: int = Field(2500, ge=10, description="reservoir units; 2500 give 7,500 output weights for 3 fields")
    density: float = Field(0.01, gt=0, le=1, description="share of the fixed weights that are not zero")
    seed: int = Field(0, ge=0, description="seed of the fixed weights")
    bias: float = Field(0.5, ge=0, description="half-width of the uniform bias, which breaks the odd symmetry")
    spectral_radius: list[Positive] = Field([0.3, 0.6, 0.9], min_length=1, description="candidates")
    input_scale: list[Positive] = Field([0.1, 0.3], min_length=1, description="candidates: half-width of weights")
    leak: list[Positive] = Field([0.5, 1.0], min_length=1, description="candidates: share renewed in one step")
    ridge: list[Positive] = Field([1e-11, 1e-9, 1e-7, 1e-5], min_length=1, description="candidates, of tr(G)/units")
    hold: int = Field(1, ge=1, description="steps for which an empty reservoir is shown its first state")
    series: int = Field(256, ge=1, description="training series used in the fit")
    tune_series: int = Field(32, ge=1, description="training series used to compare candidates")
    tune_steps: int = Field(192, ge=2, description="steps predicted on the validation split to compare candidates")


def fixed_weights(units: int, density: float, rng: np.random.Generator) -> Tensor:
    """A sparse Gaussian matrix of spectral radius 1; rounded to float32, so a cast and back loses nothing."""
    row = max(1, round(density * units))
    columns = np.concatenate([np.sort(rng.choice(units, row, replace=False)) for _ in range(units)])
    starts = np.arange(0, units * row + 1, row)
    matrix = scipy.sparse.csr_array((rng.standard_normal(units * row), columns, starts), shape=(units, units))
    largest = scipy.sparse.linalg.eigs(matrix, k=1, return_eigenvectors=False, v0=np.ones(units), tol=1e-3)
    values = torch.from_numpy(matrix.data / abs(largest[0])).float().double()
    crow, col = torch.from_numpy(starts), torch.from_numpy(columns)
    with warnings.catch_warnings(action="ignore"):  # torch calls its CSR format a beta
        weights = torch.sparse_csr_tensor(crow, col, values, (units, units), check_invariants=True)
    return weights.to_dense() if density == 1 else weights


class Model(nn.Module):
    """h⁺ = (1 − a) h + a tanh(ρ W h + s V x̃ + b), x̃⁺ = C h⁺; only C (field, unit) is learnt, by regression.

    W, V and b follow from `seed` and are made anew, not stored; (ρ, s, a) are chosen on the validation split
    by the error of free runs. The reservoir starts empty in training as in prediction, without wash-out: a
    rollout knows one state only. Reservoir states have the shape (unit, member).
    """

    mean: Tensor
    std: Tensor
    weights: Tensor
    inputs: Tensor
    bias: Tensor
    chosen: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.double())
        self.register_buffer("std", std.double())
        rng = np.random.default_rng(params.seed)
        inputs = rng.uniform(-1, 1, (params.units, len(mean))).astype(np.float32)
        bias = params.bias * rng.uniform(-1, 1, (params.units, 1)).astype(np.float32)
        self.register_buffer("weights", fixed_weights(params.units, params.density, rng), persistent=False)
        self.register_buffer("inputs", torch.tensor(inputs).double(), persistent=False)
        self.register_buffer("bias", torch.tensor(bias).double(), persistent=False)
        self.register_buffer("chosen", torch.tensor(self.candidates()[0], dtype=torch.float64))
        readout = torch.zeros(len(mean), params.units, dtype=torch.float64)
        self.readout = nn.Parameter(readout, requires_grad=False)

    def candidates(self) -> list[tuple[float, ...]]:
        """All combinations of spectral radius ρ, input scale s and leak a."""
        return list(itertools.product(self.params.spectral_radius, self.params.input_scale, self.params.leak))

    def empty(self, members: int) -> Tensor:
        return self.bias.new_zeros(len(self.bias), members)

    def drive(self, hidden: Tensor, state: Tensor) -> Tensor:
        """The reservoir after it has seen `state` (member, field)."""
        radius, scale, leak = self.chosen
        scaled = ((state - self.mean) / self.std).T
        renewed = torch.tanh(radius * (self.weights @ hidden) + scale * (self.inputs @ scaled) + self.bias)
        return torch.lerp(hidden, renewed, leak)

    def warm(self, series: Tensor) -> Tensor:
        """The reservoir after `series` (member, time, field), empty at first, the first state held."""
        hidden = self.empty(len(series))
        for state in [series[:, 0]] * (self.params.hold - 1) + list(series.unbind(1)):
            hidden = self.drive(hidden, state)
        return hidden

    def output(self, hidden: Tensor) -> Tensor:
        return self.mean + self.std * (self.readout @ hidden).T

    def moments(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Gram matrix (unit, unit) of the driven reservoir, and its products with the next state."""
        gram, moment = self.bias.new_zeros(2 * [len(self.bias)]), torch.zeros_like(self.inputs)
        for part in series.split(32):
            hidden, states = self.warm(part[:, :1]), []
            for state in part[:, 1:].unbind(1):
                states.append(hidden)
                hidden = self.drive(hidden, state)
            stacked = torch.cat(states, dim=1)
            target = ((part[:, 1:] - self.mean) / self.std).transpose(0, 1).flatten(0, 1)
            gram.addmm_(stacked, stacked.T)
            moment.addmm_(stacked, target)
        return gram, moment

    def regress(self, gram: Tensor, moment: Tensor, ridge: float) -> Tensor:
        penalty = ridge * gram.trace() / len(gram) * torch.eye(len(gram)).to(gram)
        return torch.cholesky_solve(moment, torch.linalg.cholesky(gram + penalty)).T

    def free_run_error(self, truth: Tensor) -> float:
        """Relative mean squared error of rollouts from the first states of `truth`; infinite if undefined."""
        truth = truth[:, : self.params.tune_steps]
        error = (self.predict(truth[:, 0], truth.shape[1]) - truth).square().sum() / truth.square().sum()
        return torch.nan_to_num(error, nan=torch.inf).item()

    def compare(self, candidate: tuple[float, ...], series: Tensor, val: Tensor) -> tuple[float, float]:
        """The best free-run error of a candidate, and the ridge that gives it."""
        self.chosen.copy_(torch.tensor(candidate))
        gram, moment = self.moments(series)
        errors = []
        for ridge in self.params.ridge:
            self.readout.copy_(self.regress(gram, moment, ridge))
            errors.append((self.free_run_error(val), ridge))
        return min(errors)

    @torch.no_grad()
    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """Choose radius, scale, leak and ridge on the validation split; then fit the read-out again."""
        series, val = data["state"].to(self.readout), data["val"].to(self.readout)
        few = series[: self.params.tune_series]
        (error, ridge), best = min((self.compare(c, few, val), c) for c in self.candidates())
        self.chosen.copy_(torch.tensor(best))
        self.readout.copy_(self.regress(*self.moments(series[: self.params.series]), ridge))
        radius, scale, leak = best
        return {"spectral_radius": radius, "input_scale": scale, "leak": leak, "ridge": ridge, "tuned": error}

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared one-step error in units of std; there is nothing left to minimise."""
        state = batch["state"].to(self.readout)
        hidden, errors = self.warm(state[:, :1]), []
        for target in state[:, 1:].unbind(1):
            errors.append(((self.output(hidden) - target) / self.std).square().mean())
            hidden = self.drive(hidden, target)
        return {"loss": torch.stack(errors).mean()}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int, history: Tensor | None = None) -> Tensor:
        """(member, field) -> (member, steps, field), warmed by the start alone.

        `history` (member, time, field), the true states before the start, is an unfair advantage: mark it.
        """
        start = start.to(self.readout)
        known = start.unsqueeze(1)
        hidden = self.warm(known if history is None else torch.cat([history.to(start), known], dim=1))
        states = [start]
        for _ in range(steps - 1):
            states.append(self.output(hidden))
            hidden = self.drive(hidden, states[-1])
        return torch.stack(states, dim=1)
