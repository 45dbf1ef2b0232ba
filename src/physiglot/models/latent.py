"""The dynamics of fields in the coordinates of a frozen embedding: a Transformer, or an MLP, on increments.

z⁺ = z + std(Δz) (W m(z, ν) + f(z, its past, ν)). W is fitted by least squares of the increments on z, 1 and their
products with powers of log ν; f is trained through its own rollouts, as long as a test asks for stability. The
parameters of the system are one token before all others, made from the Fourier features of their logarithms, which
the window of context never drops. Nothing is decoded until the end.

An instability grows from motions far smaller than those it ends in, and it is they that set its phase: with `relative`
a rollout weighs the more the less it moves.

With `core: mlp` f sees the last state and ν alone. If it is as good, the task is Markov and attention buys nothing.
"""

import math
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..attention import Cache, Decoder
from ..curriculum import Curriculum
from ..frames import given
from ..ranks import normal
from ..strict import Strict

RIDGE = 1e-6  # of the least squares, in units of the mean square
LEAST = 1e-4  # of a rollout's motion, in units of the mean one: states at rest do not take over


class Params(Strict):
    core: Literal["transformer", "mlp"] = Field("transformer", description="with attention to the past, or without")
    layers: int = Field(1, ge=1, description="blocks of the Transformer")
    heads: int = Field(4, ge=1, description="heads of attention in each block")
    width: int = Field(64, ge=1, description="channels of a token")
    window: int = Field(16, ge=1, description="tokens of context")
    hidden: int = Field(256, ge=1, description="units in each hidden layer of the MLP")
    depth: int = Field(2, ge=1, description="hidden layers of the MLP")
    parameters: int = Field(0, ge=0, description="parameters of the system, all positive; none if 0")
    frequencies: int = Field(2, ge=1, description="Fourier features of each: half a period spans two deviations, …")
    degree: int = Field(1, ge=-1, description="of the linear path in the first parameter's logarithm; -1: no such path")
    rollout: Curriculum = Field(Curriculum(), description="steps that the loss unrolls")
    noise: float = Field(0.0, ge=0, description="noise on the starts of training rollouts, in units of std")
    flat: float = Field(
        0.0, ge=0, le=1, description="0: errors weigh as in the fields, 1: each channel weighs the same"
    )
    relative: float = Field(
        0.0, ge=0, le=1, description="0: all rollouts weigh the same, 1: each weighs by the inverse of how far it moves"
    )


class Condition(nn.Module):
    """log of the parameters -> cos and sin of its multiples, and itself; smooth, since few values are known."""

    centre: Tensor
    spread: Tensor

    def __init__(self, parameters: int, frequencies: int):
        super().__init__()
        self.frequencies, self.features = frequencies, parameters * (1 + 2 * frequencies)
        self.register_buffer("centre", torch.zeros(parameters))
        self.register_buffer("spread", torch.ones(parameters))

    def fit(self, parameters: Tensor) -> None:
        logs = parameters.log()
        self.centre.copy_(logs.mean(0))
        self.spread.copy_(logs.std(0, correction=0).clamp(min=1e-6))

    def standard(self, parameters: Tensor) -> Tensor:
        return (parameters.log() - self.centre) / self.spread

    def forward(self, parameters: Tensor) -> Tensor:
        x = self.standard(parameters)[..., None]
        angle = x * (math.pi / 4 * 2 ** torch.arange(self.frequencies, device=x.device, dtype=x.dtype))
        return torch.cat([x, angle.cos(), angle.sin()], -1).flatten(-2)


class Model(nn.Module):
    mean: Tensor
    std: Tensor
    centre: Tensor
    spread: Tensor
    step: Tensor
    weight: Tensor
    embedding: Any
    reads = ("embedded", "parameters")
    recorded = True

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: Any):
        super().__init__()
        if embedding is None:
            raise ValueError("models.latent: an embedding is needed")
        p, n = params, embedding.channels
        self.params, self.embedding = params, embedding
        powers = max(0, p.degree) + 1 if p.parameters else 1
        buffers = {"mean": mean, "std": std, "centre": torch.zeros(n), "spread": torch.ones(n), "step": torch.ones(n)}
        for name, value in buffers.items():
            self.register_buffer(name, value.clone())
        self.condition = Condition(p.parameters, p.frequencies)
        self.weight = nn.Parameter(torch.zeros(powers * (n + 1), n), requires_grad=p.degree >= 0)
        inputs = n + self.condition.features
        if p.core == "transformer":
            self.enter, inputs = nn.Linear(n, p.width), inputs + p.width
            self.prefix = nn.Linear(self.condition.features, p.width) if p.parameters else nn.Identity()
            self.decoder = Decoder(p.width, p.layers, p.heads, p.window, "rms", rotary=True)
        sizes = [inputs, *[p.hidden] * p.depth]
        hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
        last = nn.Linear(p.hidden, n)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*hidden, last)

    # --- the closed-form part -------------------------------------------------------------------

    @torch.no_grad()
    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The scales of z and of its increments, and the linear path."""
        z = data["embedded"]
        self.centre.copy_(z.mean((0, 1)))
        self.spread.copy_(z.std((0, 1)).clamp(min=1e-6))
        self.step.copy_(z.diff(dim=1).std((0, 1)).clamp(min=1e-6))
        parameters = self._given(data.get("parameters"))
        if parameters is not None:
            self.condition.fit(parameters)
        if self.params.degree < 0:
            return {"step_over_spread": float((self.step / self.spread).mean())}
        rows = self._monomials(self._white(z[:, :-1]), parameters).flatten(0, 1).double()
        target = (z.diff(dim=1) / self.step).flatten(0, 1).double()
        gram = rows.T @ rows / len(rows)
        gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        weight = torch.linalg.solve(gram, rows.T @ target / len(rows))
        self.weight.copy_(weight)
        return {"linear_residual": float((rows @ weight - target).square().mean().sqrt())}

    def _given(self, parameters: Tensor | None) -> Tensor | None:
        if not self.params.parameters:
            return None
        return given(parameters, "latent", "parameters: 1 or more")[:, : self.params.parameters]

    def _white(self, z: Tensor) -> Tensor:
        return (z - self.centre) / self.spread

    def _monomials(self, white: Tensor, parameters: Tensor | None) -> Tensor:
        """(member, …, feature): z and 1 times the powers of the standardised logarithm of the first parameter."""
        one = functional.pad(white, (0, 1), value=1.0)
        if parameters is None or self.params.degree < 1:
            return one
        x = self.condition.standard(parameters)[:, :1].view(-1, *[1] * (white.ndim - 1))
        return torch.cat([one * x**k for k in range(self.params.degree + 1)], -1)

    # --- one step -------------------------------------------------------------------------------

    def _linear(self, white: Tensor, parameters: Tensor | None) -> Tensor:
        return self._monomials(white, parameters) @ self.weight if self.params.degree >= 0 else torch.zeros_like(white)

    def _roll(self, z: Tensor, steps: int, parameters: Tensor | None) -> Tensor:
        """The `steps` embeddings after z (batch, channel): (batch, steps, channel)."""
        features = None if parameters is None else self.condition(parameters)
        caches, states = self._caches(features), [z]
        for i in range(steps):
            white = self._white(states[-1])
            inputs = [white] if features is None else [white, features]
            if caches is not None:
                inputs.append(self.decoder(self.enter(white)[:, None], i, caches)[:, 0])
            delta = self.network(torch.cat(inputs, -1)) + self._linear(white, parameters)
            states.append(states[-1] + self.step * delta)
        return torch.stack(states[1:], 1)

    def _caches(self, features: Tensor | None) -> list[Cache] | None:
        if self.params.core == "mlp":
            return None
        return self.decoder.caches(None if features is None else self.prefix(features)[:, None])

    # --- training and prediction ----------------------------------------------------------------

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared error of rollouts of growing length; a window of T states holds (T - 1) // K of K steps."""
        z, parameters = batch["embedded"], self._given(batch.get("parameters"))
        length = z.shape[1] - 1
        steps = min(self.params.rollout.horizon(progress), length)
        count = length // steps
        start = z[:, : count * steps : steps].flatten(0, 1)
        wanted = z[:, 1 : count * steps + 1].unflatten(1, (count, steps)).flatten(0, 1)
        if parameters is not None:
            parameters = parameters.repeat_interleave(count, 0)
        if self.params.noise:
            start = start + self.params.noise * self.step * normal(start)
        unit = self.spread**self.params.flat
        error = ((self._roll(start, steps, parameters) - wanted) / unit).square().mean((1, 2))
        moved = ((wanted - start[:, None]) / unit).square().mean((1, 2))
        weight = (moved / moved.mean() + LEAST) ** -self.params.relative
        return {"loss": (weight * error).mean(), "horizon": torch.tensor(float(steps))}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int, parameters: Tensor | None = None) -> Tensor:
        """(member, field…) -> (member, steps, field…), index 0 the given start."""
        if steps == 1:
            return start[:, None]
        z = self._roll(self.embedding.embed(start, parameters), steps - 1, self._given(parameters))
        return torch.cat([start[:, None], self.embedding.decode(z, parameters)], 1)
