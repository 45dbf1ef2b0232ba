"""Hopfield's associative memory and its successors: patterns are stored, and recalled from damaged copies of them.

See `memory` for the rules and their sources. Nothing is trained: `fit` stores the patterns.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..generative import memory
from ..strict import Strict


class Params(Strict):
    rule: Literal["hebb", "power", "exponential", "modern"] = Field(
        "hebb", description="G of the energy −Σ G(ξ·s): z², zⁿ or eᶻ; modern: one step of attention"
    )
    power: int = Field(3, ge=2, le=20, description="n of the rule power")
    sharpness: float = Field(1.0, gt=0, description="b of the rule modern")
    stored: list[int] = Field([8], min_length=1, description="numbers of patterns: a memory of the first so many each")
    flipped: float = Field(0.0, ge=0, le=0.5, description="fraction of the spins of a cue that are wrong")
    update: Literal["asynchronous", "once"] = Field(
        "asynchronous", description="spin by spin until nothing changes, or all spins once, together"
    )
    sweeps: int = Field(100, ge=1, description="most asynchronous sweeps")
    seed: int = Field(0, ge=0, description="of the damage, and of the order of the updates")

    @model_validator(mode="after")
    def _growing(self) -> "Params":
        if sorted(set(self.stored)) != self.stored or self.stored[0] < 1:
            raise ValueError(f"stored {self.stored}: allowed: growing numbers, 1 or more")
        return self


class Model(nn.Module):
    """The patterns (pattern, site) of the largest memory."""

    mean: Tensor
    std: Tensor
    patterns: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params = params
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.register_buffer("patterns", torch.ones(params.stored[-1], len(mean), dtype=torch.int8))

    @torch.no_grad()
    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """Store the first patterns of the training split."""
        patterns, wanted = memory.checked(data["state"].flatten(0, 1)), len(self.patterns)
        if len(patterns) < wanted:
            raise ValueError(f"model.params.stored: {wanted}: the training split has {len(patterns)} patterns")
        self.patterns.copy_(patterns[:wanted])
        return {"patterns": float(wanted), "largest_load": wanted / patterns.shape[1]}

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The share of wrong spins after recall from the patterns of the batch, by the largest memory."""
        pattern = batch["state"].flatten(0, 1)
        found = self._recalled(pattern, self.patterns.to(pattern.dtype))
        return {"loss": (found * pattern < 0).to(pattern.dtype).mean()}

    def damaged(self, pattern: Tensor) -> Tensor:
        """Patterns (batch, site) with exactly the fraction `flipped` of the spins wrong, the same ones every time."""
        wrong = round(self.params.flipped * pattern.shape[1])
        generator = torch.Generator().manual_seed(self.params.seed)
        order = torch.rand(pattern.shape, generator=generator, dtype=torch.float64).argsort(1)
        return torch.where(order.to(pattern.device) < wrong, -pattern, pattern)

    def _recalled(self, cue: Tensor, patterns: Tensor) -> Tensor:
        rule, power = self.params.rule, self.params.power
        generator = torch.Generator().manual_seed(self.params.seed)
        if rule == "modern":
            return memory.attend(patterns, cue, self.params.sharpness)
        if self.params.update == "once":
            return memory.step(patterns, cue, rule, power)
        if rule == "hebb":
            return memory.settle(patterns, cue, self.params.sweeps, generator)
        return memory.descend(patterns, cue, rule, power, self.params.sweeps, generator)

    @torch.no_grad()
    def read(self, state: Tensor) -> dict[str, Tensor]:
        """Patterns (member, time, site), of each the first, as cues of every memory.

        `cue` (member, site) and `recalled` (member, memory, site); (member, memory): the `overlap` with the pattern,
        whether every spin is `right`, and whether the memory has `known` the pattern.
        """
        pattern = memory.checked(state[:, 0], "cues")
        cue = self.damaged(pattern)
        nearest = (pattern @ self.patterns.to(pattern.dtype).T).argmax(1)
        stored = (self.patterns[nearest] == pattern).all(1)
        found: dict[str, list[Tensor]] = {"overlap": [], "right": [], "known": [], "recalled": []}
        for count in self.params.stored:
            recalled = self._recalled(cue, self.patterns[:count].to(cue.dtype))
            found["overlap"].append((recalled * pattern).mean(1))
            found["right"].append((recalled * pattern > 0).all(1).to(pattern.dtype))
            found["known"].append((stored & (nearest < count)).to(pattern.dtype))
            found["recalled"].append(recalled)
        return {"cue": cue, **{name: torch.stack(values, 1) for name, values in found.items()}}
