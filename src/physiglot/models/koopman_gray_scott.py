"""Koopman embedding of 3-D Gray-Scott patterns: periodic convolutions, then two fully connected layers.

Geneva & Zabaras, Neural Networks 146 (2022) 272, arXiv 2010.03957, §5: 6,202,837 parameters at 32³ points. Without the
weights of dynamics and decay this is an autoencoder.
"""

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from ..frames import doubled, framewise
from ..strict import Strict, divisible
from .koopman import advance, balance, window_terms

LEVELS = 3  # halvings of the grid


class Params(Strict):
    grid: list[int] = Field(
        [32, 32, 32], min_length=3, max_length=3, description="points in z, y and x; multiples of 8"
    )
    width: int = Field(64, ge=1, description="channels of the first convolution; the next have twice as many")
    channels: int = Field(512, ge=1, description="channels of the embedding, and hidden units of the full layers")
    bands: int = Field(9, ge=1, description="skew off-diagonals of K")
    reconstruction: float = Field(1e4, ge=0, description="weight of |x_j - G F x_j|^2")
    dynamics: float = Field(1.0, ge=0, description="weight of |x_j - G K^j F x_0|^2")
    decay: float = Field(1e-3, ge=0, description="weight of |K|^2")
    consistency: float = Field(0.0, ge=0, description="weight of |F x_j - K^j F x_0|^2")
    features: float = Field(
        1e3, ge=0, description="weight of the squared difference of encoder and decoder on the coarse grid"
    )

    @field_validator("grid")
    @classmethod
    def _eighths(cls, grid: list[int]) -> list[int]:
        return divisible(grid, 2**LEVELS)


class Operator(nn.Module):
    """K of size n: diagonal, first all ones, and skew off-diagonals."""

    def __init__(self, n: int, bands: int):
        super().__init__()
        self.diagonal = nn.Parameter(torch.ones(n))
        sizes = [n - j for j in range(1, min(bands, n - 1) + 1)]
        self.bands = nn.ParameterList([nn.Parameter(0.01 * torch.rand(size)) for size in sizes])

    def matrix(self) -> Tensor:
        k = torch.diag(self.diagonal)
        for j, band in enumerate(self.bands, 1):
            k = k + torch.diag(band, j) - torch.diag(band, -j)
        return k


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """A periodic convolution with its norm and activation."""
    layer = nn.Conv3d(inputs, outputs, size, stride=stride, padding=size // 2, padding_mode="circular")
    return [layer, nn.BatchNorm3d(outputs), nn.LeakyReLU(0.02)]


class Periodic(nn.Module):
    """Trilinear interpolation to twice the points, periodic: one more point on each side, and then cut off."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, (1,) * 6, mode="circular")
        return doubled(x, 3)[..., 2:-2, 2:-2, 2:-2]


class Model(nn.Module):
    mean: Tensor
    std: Tensor
    recorded = True

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params, fields, w, n = params, len(mean), params.width, params.channels
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.channels = n
        self.coarse = [w, *(m // 2**LEVELS for m in params.grid)]
        size = torch.Size(self.coarse).numel()
        down = [*conv(fields, w, 5, 2), *conv(w, 2 * w, 3, 2), *conv(2 * w, 2 * w, 3, 2), *conv(2 * w, w, 1)]
        self.encoder = nn.Sequential(*down)
        self.full = nn.Sequential(nn.Linear(size, n), nn.LeakyReLU(0.02), nn.Linear(n, n), nn.LayerNorm(n))
        self.unfold = nn.Sequential(nn.Linear(n, n), nn.LeakyReLU(0.02), nn.Linear(n, size), nn.LeakyReLU(0.02))
        up = [*conv(w, 2 * w, 1), Periodic(), *conv(2 * w, 2 * w), Periodic(), *conv(2 * w, w), Periodic(), *conv(w, w)]
        self.decoder = nn.Sequential(*up, nn.Conv3d(w, fields, 1))
        self.operator = Operator(n, params.bands)

    def _encode(self, state: Tensor) -> Tensor:
        shape = (-1, 1, 1, 1)
        return self.encoder((state - self.mean.view(shape)) / self.std.view(shape))

    def _decode(self, z: Tensor) -> Tensor:
        return self._from_coarse(self.unfold(z))

    def _from_coarse(self, features: Tensor) -> Tensor:
        shape = (-1, 1, 1, 1)
        return self.decoder(features.view(-1, *self.coarse)) * self.std.view(shape) + self.mean.view(shape)

    def embed(self, state: Tensor, parameters: Tensor | None = None) -> Tensor:
        """F: (…, field, z, y, x) in physical units -> (…, channel)."""
        return framewise(lambda x: self.full(self._encode(x).flatten(1)), state, 4)

    def decode(self, z: Tensor, parameters: Tensor | None = None) -> Tensor:
        """G: (…, channel) -> (…, field, z, y, x) in physical units."""
        return framewise(self._decode, z, 1)

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The sum over the window of reconstruction, dynamics, consistency and features, and the decay of K."""
        states = batch["smooth"]
        encoded = self._encode(states.flatten(0, 1)).flatten(1)
        z = self.full(encoded).view(*states.shape[:2], -1)
        terms = window_terms(self.params, states, z, self.operator.matrix(), self.decode)
        features = functional.mse_loss(self.unfold(z.flatten(0, 1)), encoded)
        return balance(self.params, {**terms, "features": states.shape[1] * features})

    def predict(self, start: Tensor, steps: int, parameters: Tensor | None = None) -> Tensor:
        """(member, field, z, y, x) -> (member, steps, field, z, y, x): G K^j F x_0, index 0 the given start."""
        states = self.decode(advance(self.operator.matrix(), self.embed(start), steps))
        return torch.cat([start[:, None], states[:, 1:]], 1)
