"""Principal components of the fields (proper orthogonal decomposition), and a linear map on their coefficients.

The modes come from the Gram matrix of snapshots (Sirovich, Q. Appl. Math. 45 (1987) 561). As an embedding it has the
coefficients alone. As a forecaster it is dynamic mode decomposition (Schmid, J. Fluid Mech. 656 (2010) 5) with an
operator that is a polynomial of the logarithm of the first parameter of the system: the linear baseline.
Everything is fitted in closed form.
"""

from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..frames import framewise, given
from ..strict import Strict

COLUMNS = 4096  # points of a snapshot that are in double precision at a time


class Params(Strict):
    grid: list[Annotated[int, Field(ge=1)]] = Field(
        [64, 128], max_length=3, description="points in each direction, the last is x; empty for states without a grid"
    )
    modes: int = Field(128, ge=1, description="components kept: the channels of the embedding")
    frames: int = Field(2048, ge=2, description="snapshots of the training split from which the modes are made")
    degree: int = Field(
        0, ge=0, description="of the linear map in the logarithm of the first parameter; 0: one map for all"
    )
    ridge: float = Field(1e-9, ge=0, description="regularisation of the linear map, in units of the mean square")


def components(snapshots: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Orthonormal modes (count, point) and singular values of centred snapshots (frame, point)."""
    gram = torch.zeros(len(snapshots), len(snapshots), dtype=torch.float64)
    for part in snapshots.split(COLUMNS, 1):
        gram.addmm_(part.double(), part.double().T)
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0)[:count].clamp(min=0), vectors.flip(1)[:, :count]
    # What lies below is round-off: such a mode would be a mixture of the others.
    kept = values > 1e-12 * values[0]
    singular = values.sqrt()
    weights = (vectors / torch.where(kept, singular, torch.inf)).T
    modes = torch.cat([(weights @ part.double()).to(snapshots) for part in snapshots.split(COLUMNS, 1)], 1)
    return modes, singular * kept


class Model(nn.Module):
    mean: Tensor
    std: Tensor
    average: Tensor
    modes: Tensor
    scale: Tensor
    operator: Tensor
    log: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params, self.channels = params, params.modes
        self.shape = [len(mean), *params.grid]
        buffers = {
            "mean": mean,
            "std": std,
            "average": torch.zeros(self.shape),
            "modes": torch.zeros(params.modes, prod(self.shape)),
            "scale": torch.ones(()),
            "operator": torch.zeros((params.degree + 1) * (params.modes + 1), params.modes),
            "log": torch.tensor([0.0, 1.0]),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.clone())

    # --- the embedding --------------------------------------------------------------------------

    def embed(self, state: Tensor, parameters: Tensor | None = None) -> Tensor:
        """(…, field[, z, y, x]) in physical units -> (…, channel), on the average of unit variance."""
        return framewise(self._embed, state, len(self.shape))

    def _embed(self, state: Tensor) -> Tensor:
        return self._standard(state) @ self.modes.T / self.scale

    def _standard(self, state: Tensor) -> Tensor:
        return ((state - self.average) / self._deviation()).flatten(1)

    def _deviation(self) -> Tensor:
        return self.std.view(-1, *[1] * len(self.params.grid))

    def decode(self, z: Tensor, parameters: Tensor | None = None) -> Tensor:
        """(…, channel) -> (…, field[, z, y, x]) in physical units."""
        return framewise(self._decode, z, 1)

    def _decode(self, z: Tensor) -> Tensor:
        return (self.scale * z @ self.modes).view(-1, *self.shape) * self._deviation() + self.average

    # --- fitting --------------------------------------------------------------------------------

    @torch.no_grad()
    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The modes from at most `frames` snapshots, the map from all of them. Returns what variance is lost."""
        states = data["smooth"].flatten(0, 1)
        if list(states.shape[1:]) != self.shape:
            found = list(states.shape[1:])
            raise ValueError(f"models.pca: grid: {self.params.grid}: the states are {found} (field, then the grid)")
        chosen = states[torch.linspace(0, len(states) - 1, min(len(states), self.params.frames)).round().long()]
        if len(chosen) < self.params.modes:
            raise ValueError(f"models.pca: modes: {self.params.modes}: allowed are up to {len(chosen)}, the snapshots")
        self.average.copy_(chosen.mean(0, dtype=torch.float64))
        snapshots = self._standard(chosen)
        modes, singular = components(snapshots, self.params.modes)
        self.modes.copy_(modes)
        kept = singular.square().sum()
        self.scale.copy_((kept / (len(chosen) * self.params.modes)).sqrt().clamp(min=1e-30))
        residual = self._fit_operator(self.embed(data["smooth"]).double(), data.get("parameters"))
        lost = 1 - float(kept / snapshots.double().square().sum())
        return {"variance_lost": max(0.0, lost), "one_step_error": residual}

    def _fit_operator(self, z: Tensor, parameters: Tensor | None) -> float:
        if self.params.degree:
            logs = given(parameters, "pca", "the first parameter, for degree > 0,")[:, 0].double().log()
            self.log.copy_(torch.stack([logs.mean(), logs.std(correction=0).clamp(min=1e-6)]))
        rows = self._features(z[:, :-1], parameters).flatten(0, 1)
        target = z.diff(dim=1).flatten(0, 1)
        gram = rows.T @ rows / len(rows)
        gram += self.params.ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        operator = torch.linalg.solve(gram, rows.T @ target / len(rows))
        self.operator.copy_(operator)
        return float((rows @ operator - target).square().mean().sqrt())

    def _features(self, z: Tensor, parameters: Tensor | None) -> Tensor:
        """z and 1, times each power of the standardised logarithm: (member, …, channel) -> (member, …, feature)."""
        one = functional.pad(z, (0, 1), value=1.0)
        if not self.params.degree:
            return one
        x = (given(parameters, "pca", "the first parameter")[:, :1].log() - self.log[0]) / self.log[1]
        x = x.to(z).view(-1, *[1] * (z.ndim - 1))
        return torch.cat([one * x**k for k in range(self.params.degree + 1)], -1)

    # --- the forecaster -------------------------------------------------------------------------

    def _advance(self, z: Tensor, parameters: Tensor | None) -> Tensor:
        return z + self._features(z, parameters) @ self.operator.to(z)

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The squared error of the reconstruction in units of std, and that of one step; nothing is minimised."""
        states, parameters = batch["smooth"], batch.get("parameters")
        z = self.embed(states)
        error = (self.decode(z) - states) / self._deviation()
        return {
            "loss": error.square().mean(),
            "step": functional.mse_loss(self._advance(z[:, :-1], parameters), z[:, 1:]),
        }

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int, parameters: Tensor | None = None) -> Tensor:
        """(member, field…) -> (member, steps, field…), index 0 the given start."""
        z = [self.embed(start)]
        for _ in range(steps - 1):
            z.append(self._advance(z[-1], parameters))
        return torch.cat([start[:, None], self.decode(torch.stack(z, 1)[:, 1:])], 1)
