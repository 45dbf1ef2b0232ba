"""Koopman embedding of the cylinder wake: a convolutional encoder, and an operator that depends on the viscosity.

Geneva & Zabaras, Neural Networks 146 (2022) 272, arXiv 2010.03957, §4: the fields (ux, uy, p) and the constant field
of the viscosity ν pass four convolutions of stride 2; the decoder doubles the grid four times and is zero within the
cylinder. K(ν) comes from small networks of 100 ν. Without the weights of dynamics and decay this is an autoencoder.

The paper gives 224 k parameters. Two skew off-diagonals give 224,134; the public code has four upper and four lower
ones that are independent, which gives 262,535 (`bands: 4`, `skew: false`).
"""

from typing import Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ..frames import Doubled, beside, framewise, given
from ..strict import Strict, divisible
from .koopman import advance, balance, window_terms

LEVELS = 4  # halvings of the grid
COARSE = 4  # channels of the embedding at each point of the coarse grid


class Params(Strict):
    grid: list[int] = Field([64, 128], min_length=2, max_length=2, description="points in y and x; multiples of 16")
    window: list[float] = Field(
        [-4.0, 4.0, -2.0, 14.0],
        min_length=4,
        max_length=4,
        description="first and last y, first and last x of the grid, in radii; the centre is the origin",
    )
    radius: float = Field(1.0, ge=0, description="of the cylinder: the decoder is zero nearer to the origin")
    width: int = Field(16, ge=1, description="channels of the first convolution; doubled by each that follows")
    bands: int = Field(2, ge=1, description="off-diagonals of K on each side")
    skew: bool = Field(True, description="K[i+j, i] = -K[i, i+j]; independent otherwise")
    stable: bool = Field(False, description="the exponential of a skew matrix minus a positive diagonal")
    hidden: int = Field(50, ge=1, description="hidden units of the networks of 100 ν")
    reconstruction: float = Field(10.0, ge=0, description="weight of |x_j - G F x_j|^2")
    dynamics: float = Field(10.0, ge=0, description="weight of |x_j - G K^j F x_0|^2")
    decay: float = Field(0.01, ge=0, description="weight of |K|^2")
    consistency: float = Field(0.0, ge=0, description="weight of |F x_j - K^j F x_0|^2")

    @field_validator("grid")
    @classmethod
    def _sixteenths(cls, grid: list[int]) -> list[int]:
        return divisible(grid, 2**LEVELS)

    @model_validator(mode="after")
    def _stable_is_skew(self) -> Self:
        if self.stable and not self.skew:
            raise ValueError("stable needs skew: true")
        return self


class Operator(nn.Module):
    """K(ν) of size n from networks of 100 ν: diagonal and `bands` off-diagonals on each side."""

    def __init__(self, n: int, params: Params):
        super().__init__()
        self.params = params
        self.sizes = [n - j for j in range(1, min(params.bands, n - 1) + 1)]
        self.diagonal = self._network(n)
        self.upper = self._network(sum(self.sizes))
        self.lower = None if params.skew else self._network(sum(self.sizes))

    def _network(self, outputs: int) -> nn.Sequential:
        hidden = self.params.hidden
        return nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def matrix(self, nu: Tensor) -> Tensor:
        """(batch, n, n) of ν (batch, 1)."""
        x = 100 * nu
        upper = self.upper(x).split(self.sizes, -1)
        lower = [-u for u in upper] if self.lower is None else self.lower(x).split(self.sizes, -1)
        diagonal = self.diagonal(x)
        k = torch.diag_embed(-functional.softplus(diagonal) if self.params.stable else diagonal)
        for j, (above, below) in enumerate(zip(upper, lower, strict=True), 1):
            k = k + torch.diag_embed(above, j) + torch.diag_embed(below, -j)
        return torch.matrix_exp(k) if self.params.stable else k


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, padding_mode="replicate")


class Model(nn.Module):
    mean: Tensor
    std: Tensor
    nu_mean: Tensor
    nu_std: Tensor
    inside: Tensor
    recorded = True

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params, fields = params, len(mean)
        for name, value in {"mean": mean, "std": std, "nu_mean": torch.zeros(1), "nu_std": torch.ones(1)}.items():
            self.register_buffer(name, value.clone())
        self.register_buffer("inside", self._inside())
        widths = [params.width * 2**i for i in range(LEVELS)]
        down = zip([fields + 1, *widths], widths, strict=False)
        up = zip([COARSE, *widths[::-1]], widths[::-1], strict=False)
        coders = [layer for a, b in down for layer in (conv(a, b, 2), nn.ReLU())]
        self.encoder = nn.Sequential(*coders, conv(widths[-1], COARSE))
        self.coarse = [n // 2**LEVELS for n in params.grid]
        self.channels = COARSE * self.coarse[0] * self.coarse[1]
        self.norm = nn.LayerNorm(self.channels)
        decoders = [layer for a, b in up for layer in (Doubled(2), conv(a, b), nn.ReLU())]
        self.decoder = nn.Sequential(*decoders, conv(widths[0], fields))
        self.operator = Operator(self.channels, params)

    def _inside(self) -> Tensor:
        """(y, x): the points within the cylinder."""
        (ny, nx), (south, north, west, east) = self.params.grid, self.params.window
        y, x = torch.linspace(south, north, ny), torch.linspace(west, east, nx)
        return y[:, None] ** 2 + x**2 < self.params.radius**2

    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The mean and deviation of ν over the training members."""
        nu = given(data.get("parameters"), "koopman_cylinder", "the viscosity")[:, :1]
        self.nu_mean.copy_(nu.mean(0))
        self.nu_std.copy_(nu.std(0, correction=0).clamp(min=1e-6))
        return {"nu": self.nu_mean.item(), "nu_std": self.nu_std.item()}

    def embed(self, state: Tensor, parameters: Tensor | None = None) -> Tensor:
        """F: (member, …, field, y, x) in physical units and ν (member, 1 or more) -> (member, …, channel)."""
        nu = given(parameters, "koopman_cylinder", "the viscosity")[..., :1]
        x = (state - self.mean[:, None, None]) / self.std[:, None, None]
        constant = beside((nu - self.nu_mean) / self.nu_std, state.shape[:-3])[..., None, None]
        x = torch.cat([x, constant.expand(*x.shape[:-3], 1, *x.shape[-2:])], -3)
        return framewise(self._encode, x, 3)

    def _encode(self, x: Tensor) -> Tensor:
        return self.norm(self.encoder(x.contiguous(memory_format=torch.channels_last)).flatten(1))

    def decode(self, z: Tensor, parameters: Tensor | None = None) -> Tensor:
        """G: (…, channel) -> (…, field, y, x) in physical units, zero within the cylinder."""
        return framewise(self._decode, z, 1)

    def _decode(self, z: Tensor) -> Tensor:
        coarse = z.view(-1, COARSE, *self.coarse).contiguous(memory_format=torch.channels_last)
        x = self.decoder(coarse) * self.std[:, None, None] + self.mean[:, None, None]
        return x.masked_fill(self.inside, 0)

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The sum over the window of reconstruction, dynamics and latent consistency, and the decay of K."""
        states, nu = batch["smooth"], given(batch.get("parameters"), "koopman_cylinder", "the viscosity")
        z, k = self.embed(states, nu), self.operator.matrix(nu[:, :1])
        return balance(self.params, window_terms(self.params, states, z, k, self.decode))

    def predict(self, start: Tensor, steps: int, parameters: Tensor | None = None) -> Tensor:
        """(member, field, y, x) -> (member, steps, field, y, x): G K^j F x_0, index 0 the given start."""
        z = self.embed(start, parameters)
        k = self.operator.matrix(given(parameters, "koopman_cylinder", "the viscosity")[:, :1])
        states = self.decode(advance(k, z, steps))
        return torch.cat([start[:, None], states[:, 1:]], 1)
