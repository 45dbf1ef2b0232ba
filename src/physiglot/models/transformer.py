"""A causal Transformer on Koopman embeddings: what the state becomes, from the states before.

Faithful: Geneva & Zabaras, Neural Networks 146 (2022) 272, §2.2: GPT-2 blocks (pre-LayerNorm, tanh GELU) on
z + sinusoidal positions, trained on the next embedding with teacher forcing, generation from z_0 alone.

Ours, each a parameter: banded attention with rotary positions, so that the cached rollout is the training graph;
increments of the state instead of the next embedding, re-embedded at every step; a linear path from the
embedding, fitted by least squares (extended dynamic mode decomposition, Williams et al. 2015), to which the
Transformer adds what it lacks; and a loss on the rollout against the observed states.
"""

import copy
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from .. import shooting
from ..attention import Decoder
from ..curriculum import Curriculum
from ..strict import Strict


class Params(Strict):
    layers: int = Field(4, ge=1, description="blocks")
    heads: int = Field(4, ge=1, description="heads of attention in each block")
    width: int | None = Field(None, ge=1, description="channels of a token; those of the embedding if omitted")
    window: int = Field(64, ge=1, description="tokens of context")
    norm: Literal["layer", "rms"] = Field("layer", description="LayerNorm or RMSNorm")
    positions: Literal["sinusoidal", "rotary"] = Field(
        "sinusoidal", description="added sines, or rotated queries and keys"
    )
    init: float = Field(0.05, gt=0, description="standard deviation of the initial weights")
    target: Literal["embedding", "increment"] = Field(
        "embedding", description="the next embedding, or the increment of the state"
    )
    linear: bool = Field(False, description="a linear path from the embedding, fitted by least squares")
    shooting: list[int] = Field(
        [],
        description="segment lengths of the multiple shooting that refines the linear path where data are noisy",
    )
    rollout: Curriculum = Field(Curriculum(horizons=[1], shares=[1.0]), description="steps that the loss unrolls")

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        if self.target == "embedding" and (self.rollout.horizons != [1] or self.linear or self.width):
            raise ValueError("rollout, linear and width need target: increment")
        return self


class Linear(nn.Module):
    """The increment of the state from the whitened embedding; whitening makes gradient steps well conditioned."""

    centre: Tensor
    whiten: Tensor

    def __init__(self, channels: int, fields: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("whiten", torch.eye(channels))
        self.weight = nn.Parameter(torch.zeros(channels, fields))
        self.bias = nn.Parameter(torch.zeros(fields))

    def tokens(self, z: Tensor) -> Tensor:
        return (z - self.centre) @ self.whiten

    def forward(self, white: Tensor) -> Tensor:
        return white @ self.weight + self.bias

    @torch.no_grad()
    def fit(self, z: Tensor, target: Tensor, ridge: float = 1e-12) -> float:
        """Least squares of `target` (member, time, field) on `z` (member, time, channel); returns the rms residual."""
        parts = list(zip(z.split(64), target.split(64), strict=True))
        count = z.shape[0] * z.shape[1]
        centre = sum(a.double().sum((0, 1)) for a, _ in parts) / count
        gram = torch.zeros(z.shape[-1], z.shape[-1], dtype=torch.float64)
        cross = torch.zeros(z.shape[-1], target.shape[-1], dtype=torch.float64)
        mean = sum(b.double().sum((0, 1)) for _, b in parts) / count
        for a, b in parts:
            rows, values = (a.double() - centre).flatten(0, 1), (b.double() - mean).flatten(0, 1)
            gram += rows.T @ rows / count
            cross += rows.T @ values / count
        gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        whiten = torch.linalg.inv(torch.linalg.cholesky(gram)).T
        weight = whiten.T @ cross
        residual = sum(((a.double() - centre) @ whiten @ weight + mean - b).square().sum() for a, b in parts)
        for name, value in {"centre": centre, "whiten": whiten, "weight": weight, "bias": mean}.items():
            getattr(self, name).copy_(value)
        return float((residual / (count * target.shape[-1])).sqrt())


class Model(nn.Module):
    mean: Tensor
    std: Tensor
    scale: Tensor
    noise: Tensor
    linear: Any
    embedding: Any

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: Any):
        super().__init__()
        if embedding is None:
            raise ValueError("models.transformer: an embedding is needed")
        self.params, self.embedding = params, embedding
        self.reads = ("embedded",) if params.target == "embedding" else ("state", "smooth", "embedded")
        self.recorded = params.target == "embedding"
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("scale", torch.ones_like(mean))
        self.register_buffer("noise", torch.zeros(len(mean), 3))
        channels, width = embedding.channels, params.width or embedding.channels
        out = channels if params.target == "embedding" else len(mean)
        self.linear = Linear(channels, len(mean)) if params.linear else None
        self.enter = nn.Linear(channels, width) if params.width else nn.Identity()
        rotary = params.positions == "rotary"
        self.decoder = Decoder(width, params.layers, params.heads, params.window, params.norm, rotary)
        self.head = nn.Linear(width, out)
        self._initialise()

    def _initialise(self) -> None:
        for module in (*self.decoder.modules(), self.head, self.enter):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=self.params.init)
                nn.init.zeros_(module.bias)
        if self.params.target == "increment":
            nn.init.zeros_(self.head.weight)

    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """Set the scale of the increments and fit the linear path to them."""
        if self.params.target == "embedding":
            return {}
        delta = data["smooth"].diff(dim=1) / self.std
        self.scale.copy_(delta.std((0, 1)))
        if self.linear is None:
            return {"scale": float(self.scale.mean())}
        residual = self.linear.fit(data["embedded"][:, :-1], delta / self.scale)
        if self.params.shooting and data["smooth"] is not data["state"]:
            self._shoot(data["state"].double(), data["smooth"].double())
        return {"scale": float(self.scale.mean()), "residual": residual}

    def _features(self, embedding: Any, linear: Linear) -> shooting.Features:
        """The inputs of the linear path, and 1, from the standardised state."""

        def features(x: Tensor) -> Tensor:
            z = embedding.embed(x * self.std.to(x) + self.mean.to(x))
            return functional.pad(linear.tokens(z), (0, 1), value=1.0)

        return features

    def _weight(self, linear: Linear) -> Tensor:
        return torch.cat([linear.weight, linear.bias[None]]) * self.scale

    @torch.no_grad()
    def _shoot(self, observed: Tensor, smooth: Tensor) -> None:
        """Refine the linear path by multiple shooting in the standardised state."""
        embedding, linear = copy.deepcopy(self.embedding).double(), copy.deepcopy(self.linear).double()
        noise = shooting.noise_of(observed, smooth)
        series = [(x - self.mean) / self.std for x in (observed, smooth)]
        precision = shooting.precision_of(noise, smooth) * self.std**2
        features = self._features(embedding, linear)
        weight = (
            shooting.refine(features, self._weight(linear), series[0], series[1], precision, self.params.shooting)
            / self.scale
        )
        self.noise.copy_(noise)
        self.linear.weight.copy_(weight[:-1])
        self.linear.bias.copy_(weight[-1])

    @torch.no_grad()
    def _analyse(self, start: Tensor, observed: Tensor) -> Tensor:
        """Better starts (batch, field) of rollouts against noisy states (batch, time, field) that follow them.

        Smoothed states are off by enough to teach the model their errors. The linear path, which is good after the
        shooting, finds those that fit the observations.
        """
        if not self.noise.any():
            return start
        features = self._features(self.embedding, self.linear)
        first, rest = ((x - self.mean) / self.std for x in (start, observed))
        series = torch.cat([first[:, None], rest], 1)
        precision = shooting.precision_of(self.noise, torch.cat([start[:, None], observed], 1)) * self.std**2
        precision[:, 0] = 0
        found = shooting.analyse(features, self._weight(self.linear), series, first, precision)
        return found * self.std + self.mean

    # --- one step -------------------------------------------------------------------------------

    def _increment(self, z: Tensor, begin: int, caches: list | None) -> Tensor:
        """Increment of the state in physical units from embeddings (batch, time, channel)."""
        if self.linear is None:
            delta = self.head(self.decoder(self.enter(z), begin, caches))
        else:
            white = self.linear.tokens(z)
            delta = self.linear(white) + self.head(self.decoder(self.enter(white), begin, caches))
        return delta * self.scale * self.std

    def _advance(self, state: Tensor, begin: int, caches: list | None) -> Tensor:
        """The state (batch, field) one step later."""
        z = self.embedding.embed(state)[:, None]
        return state + self._increment(z, begin, caches)[:, 0]

    def _next(self, z: Tensor, begin: int = 0, caches: list | None = None) -> Tensor:
        """The next embeddings of (batch, time, channel)."""
        return self.head(self.decoder(self.enter(z), begin, caches))

    # --- training -------------------------------------------------------------------------------

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """Mean squared error of the next embedding, or of the unrolled states in units of their deviation."""
        if self.params.target == "embedding":
            z = batch["embedded"]
            return {"loss": functional.mse_loss(self._next(z)[:, :-1], z[:, 1:])}
        length = batch["state"].shape[1] - 1
        steps = min(self.params.rollout.horizon(progress), length)
        if steps == 1:
            states = batch["smooth"][:, :-1] + self._increment(batch["embedded"][:, :-1], 0, None)
            error = states - batch["state"][:, 1:]
        else:
            used = length // steps * steps
            start = batch["smooth"][:, :used:steps].flatten(0, 1)
            observed = batch["state"][:, 1 : used + 1].unflatten(1, (-1, steps)).flatten(0, 1)
            error = self._roll(self._analyse(start, observed), steps + 1)[:, 1:] - observed
        return {"loss": (error / self.std).square().mean()}

    # --- generation -----------------------------------------------------------------------------

    def _roll(self, start: Tensor, steps: int, generation: str = "cache") -> Tensor:
        """(batch, field) -> (batch, steps, field) by increments; the cache is the true context window."""
        caches, states = self.decoder.caches(), [start]
        for i in range(steps - 1):
            if generation == "markov":
                caches = self.decoder.caches()
            states.append(self._advance(states[-1], i, caches))
        return torch.stack(states, 1)

    def _generate(self, z: Tensor, steps: int, generation: str) -> Tensor:
        """Embeddings (batch, steps, channel) from the first (batch, channel)."""
        caches, tokens = self.decoder.caches(), [z]
        for i in range(steps - 1):
            if generation == "window":
                following = self._next(torch.stack(tokens[-self.params.window :], 1))[:, -1]
            elif generation == "cache":
                following = self._next(tokens[-1][:, None], i, caches)[:, 0]
            else:
                following = self._next(tokens[-1][:, None])[:, 0]
            tokens.append(following)
        return torch.stack(tokens, 1)

    def predict(
        self,
        start: Tensor,
        steps: int,
        generation: Literal["cache", "window", "markov"] = "cache",
        parameters: Tensor | None = None,
    ) -> Tensor:
        """(member, field…) -> (member, steps, field…), index 0 the given start; `parameters` are for the embedding.

        `cache`: a true context window. `window`: the last `window` tokens recomputed at every step, positions from
        0 (the paper). `markov`: the last token alone (what the paper's public code does).
        """
        if generation not in ("cache", "window", "markov"):
            raise ValueError(f"predict.generation: {generation!r}: allowed are cache, window, markov")
        if self.params.target == "increment":
            if generation == "window":
                raise ValueError("predict.generation: window: increments are generated with cache or markov")
            return self._roll(start, steps, generation)
        z = self._generate(self.embedding.embed(start, parameters), steps, generation)
        return torch.cat([start[:, None], self.embedding.decode(z[:, 1:], parameters)], 1)
