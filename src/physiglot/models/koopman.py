"""Koopman embedding: coordinates in which the dynamics is a linear map.

Geneva & Zabaras, Neural Networks 146 (2022) 272, arXiv 2010.03957, §2.1: an encoder F, a decoder G and an
operator K are trained so that G(K^j F(x_0)) = x_j. Then K is discarded and F embeds the states for a
sequence model; with K it is a forecaster by itself.

What goes beyond the paper, each by a parameter: the state itself as the first channels (the decoder is then
exact), monomials of the state as further channels (a dictionary, Williams, Kevrekidis & Rowley 2015), and an
operator exp(S - D) with S skew and D >= 0, which cannot grow (|eigenvalues| <= 1).
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..strict import Strict
from .polynomial import monomials

Decode = Callable[[Tensor], Tensor]

ROWS = 256  # states whose hidden units stay in the cache of a core


class Params(Strict):
    channels: int = Field(32, ge=1, description="learnt channels of the embedding")
    width: int = Field(500, ge=1, description="hidden units of encoder and decoder")
    activation: Literal["relu", "silu"] = Field("relu", description="of the hidden layer")
    normalise: bool = Field(True, description="LayerNorm on the embedding")
    state: bool = Field(False, description="the standardised state as the first channels")
    dictionary: int = Field(1, ge=1, description="degree of the monomials that join the state; 1 is none")
    operator: Literal["banded", "stable"] = Field(
        "banded", description="a banded matrix, or the exponential of one that cannot grow"
    )
    bands: int = Field(2, ge=1, description="skew off-diagonals of K")
    reconstruction: float = Field(1e4, ge=0, description="weight of |x_j - G F x_j|^2")
    dynamics: float = Field(1.0, ge=0, description="weight of |x_j - G K^j F x_0|^2")
    decay: float = Field(0.1, ge=0, description="weight of |K|^2")
    consistency: float = Field(0.0, ge=0, description="weight of |F x_j - K^j F x_0|^2")


class Pieces(torch.autograd.Function):
    """Linear, ReLU or SiLU, linear: ROWS states at a time, and the hidden units once more for the gradient.

    Cheaper than moving the hidden units of all states through memory, which is what takes the time otherwise.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, relu: bool) -> Tensor:
        ctx.save_for_backward(x, w1, b1, w2)
        ctx.relu, act = relu, torch.relu_ if relu else functional.silu
        y = x.new_empty(len(x), len(w2))
        for piece, out in zip(x.split(ROWS), y.split(ROWS), strict=True):
            torch.addmm(b2, act(torch.addmm(b1, piece, w1.T)), w2.T, out=out)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w1, b1, w2 = ctx.saved_tensors
        by_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        by_w1, by_b1, by_w2 = torch.zeros_like(w1), torch.zeros_like(b1), torch.zeros_like(w2)
        for i in range(0, len(x), ROWS):
            piece, slope = x[i : i + ROWS], g[i : i + ROWS]
            hidden = torch.addmm(b1, piece, w1.T)
            s = None if ctx.relu else hidden.sigmoid()
            hidden = hidden.relu_() if s is None else hidden.mul_(s)
            by_w2.addmm_(slope.T, hidden)
            by_hidden = slope @ w2
            by_hidden *= hidden.sign_() if s is None else hidden.mul_(1 - s).add_(s)
            by_w1.addmm_(by_hidden.T, piece)
            by_b1 += by_hidden.sum(0)
            if by_x is not None:
                torch.mm(by_hidden, w1, out=by_x[i : i + ROWS])
        return by_x, by_w1, by_b1, by_w2, g.sum(0), None


def in_pieces(network: nn.Sequential, x: Tensor) -> Tensor:
    """`network(x)` for x (…, channel), by pieces where a training on a CPU gains from it."""
    first, act, last = network
    learns = torch.is_grad_enabled() and first.weight.requires_grad
    if not learns or x.device.type != "cpu" or x.shape[:-1].numel() < 8 * ROWS:
        return network(x)
    weights = first.weight, first.bias, last.weight, last.bias
    return Pieces.apply(x.flatten(0, -2), *weights, isinstance(act, nn.ReLU)).unflatten(0, x.shape[:-1])


def advance(matrix: Tensor, z: Tensor, steps: int) -> Tensor:
    """z, K z, … K^(steps-1) z of z (batch, channel), as (batch, steps, channel); K may be one for each of the batch."""
    transposed, states = matrix.mT, [z[:, None]]
    for _ in range(steps - 1):
        states.append(states[-1] @ transposed)
    return torch.cat(states, 1)


def window_terms(weights: Any, states: Tensor, z: Tensor, matrix: Tensor, decode: Decode) -> dict[str, Tensor]:
    """The terms of the loss of windows `states` (batch, time, …) with embeddings z, summed over time.

    Those of the dynamics are left out where neither of them has a weight: what remains is an autoencoder.
    """
    steps = states.shape[1]
    terms = {"reconstruction": steps * functional.mse_loss(decode(z), states)}
    if weights.dynamics or weights.consistency:
        advanced = advance(matrix, z[:, 0], steps)
        terms["dynamics"] = steps * functional.mse_loss(decode(advanced), states)
        terms["consistency"] = steps * functional.mse_loss(advanced, z)
    terms["decay"] = steps * matrix.square().sum((-2, -1)).mean()
    return terms


def balance(weights: Strict, terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms and their weighted sum, the loss."""
    values = weights.model_dump()
    return {"loss": sum((values[name] * term for name, term in terms.items()), torch.zeros(())), **terms}


class Operator(nn.Module):
    """K of size n: diagonal and skew off-diagonals, K[i, i+j] = k, K[i+j, i] = -k; or the exponential of such."""

    def __init__(self, n: int, bands: int, stable: bool):
        super().__init__()
        self.stable = stable
        self.diagonal = nn.Parameter(torch.full((n,), -4.0) if stable else torch.linspace(1, 0, n))
        sizes = [n - j for j in range(1, min(bands, n - 1) + 1)]
        self.bands = nn.ParameterList([nn.Parameter(0.1 * torch.rand(size)) for size in sizes])

    def matrix(self) -> Tensor:
        skew = sum((torch.diag(b, j) - torch.diag(b, -j) for j, b in enumerate(self.bands, 1)), torch.zeros(()))
        if self.stable:
            return torch.matrix_exp(skew - torch.diag(functional.softplus(self.diagonal)))
        return skew + torch.diag(self.diagonal)


class Model(nn.Module):
    mean: Tensor
    std: Tensor
    recorded = True

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params, fields = params, len(mean)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        act = {"relu": nn.ReLU, "silu": nn.SiLU}[params.activation]
        self.encoder = nn.Sequential(nn.Linear(fields, params.width), act(), nn.Linear(params.width, params.channels))
        self.norm = nn.LayerNorm(params.channels) if params.normalise else nn.Identity()
        given = self._given(torch.zeros(1, fields)).shape[-1]
        self.channels = given + params.channels
        if not params.state:
            self.decoder = nn.Sequential(
                nn.Linear(params.channels, params.width), act(), nn.Linear(params.width, fields)
            )
        self.operator = Operator(self.channels, params.bands, params.operator == "stable")

    def _given(self, x: Tensor) -> Tensor:
        """The channels that are not learnt: nothing, the state, or its monomials (the linear ones first)."""
        if not self.params.state:
            return x[..., :0]
        return x if self.params.dictionary == 1 else monomials(x, self.params.dictionary)[..., 1:]

    def embed(self, state: Tensor, parameters: Tensor | None = None) -> Tensor:
        """F: (…, field) in physical units -> (…, channel)."""
        x = (state - self.mean) / self.std
        return torch.cat([self._given(x), self.norm(in_pieces(self.encoder, x))], -1)

    def decode(self, z: Tensor, parameters: Tensor | None = None) -> Tensor:
        """G: (…, channel) -> (…, field) in physical units. Exact if the state is among the channels."""
        x = z[..., : len(self.mean)] if self.params.state else in_pieces(self.decoder, z)
        return x * self.std + self.mean

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The sum over the window of reconstruction, dynamics and latent consistency, and the decay of K."""
        states = batch["smooth"]
        return balance(
            self.params, window_terms(self.params, states, self.embed(states), self.operator.matrix(), self.decode)
        )

    def predict(self, start: Tensor, steps: int) -> Tensor:
        """(member, field) -> (member, steps, field): G K^j F x_0, index 0 the given start."""
        states = self.decode(advance(self.operator.matrix(), self.embed(start), steps))
        return torch.cat([start[:, None], states[:, 1:]], 1)
