"""Autoregressive networks of spins: ln q(s) = Σ ln q(s_i | s_1 … s_(i−1)), exact, and sampled token by token.

D. Wu, L. Wang, P. Zhang, Phys. Rev. Lett. 122, 080602 (2019), arXiv 1809.10606 (their MADE and PixelCNN); tokens of
2 × 2 spins and a Transformer are alternatives. See `causal/` for the networks and their samplers.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..causal import made, pixelcnn, tokens, transformer
from ..generative import losses
from ..strict import Strict
from ..targets import Target


class Params(Strict):
    net: Literal["made", "pixelcnn", "transformer"] = Field("pixelcnn", description="the network")
    depth: int = Field(3, ge=1, description="layers (published: 3 and 6; the glass: 1)")
    width: int = Field(16, ge=1, description="channels of a hidden layer (published: PixelCNN 64, MADE 4)")
    kernel: int = Field(7, ge=3, description="pixelcnn: columns of its kernels, odd (published: 13)")
    heads: int = Field(4, ge=1, description="transformer: heads of its attention")
    bias: bool = Field(True, description="made, pixelcnn: biases")
    residual: bool = Field(False, description="pixelcnn: the inner layers add to what they read")
    patch: int = Field(1, ge=1, le=2, description="2: tokens of 2 × 2 spins of a lattice, of 2 of a chain")
    z2: bool = Field(True, description="ln ½[q(s) + q(−s)], and a random global flip in sampling")
    anneal: float | None = Field(
        None, gt=0, description="beta_t = beta (1 − exp(−progress/anneal)) in training from an energy"
    )


class Model(nn.Module):
    """`loss` is the variational free energy in nats, or −⟨ln q⟩ of data of shape (batch, 1, site)."""

    log_prob_kind = "exact"
    reparam = False
    mean: Tensor
    std: Tensor

    def __init__(
        self, params: Params, *, mean: Tensor, std: Tensor, target: Target, embedding: nn.Module | None = None
    ):
        super().__init__()
        if target.support != "spin":
            raise ValueError(f"target: its support is {target.support!r}; causal is for spins ±1")
        self.params, self.target = params, target
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.shape, self.grid = tuple(target.shape), tokens.grid(target.shape, params.patch)
        self.net: Any = self._net(math.prod(self.shape) // math.prod(self.grid))

    def _net(self, cells: int) -> nn.Module:
        p = self.params
        if p.net == "transformer":
            return transformer.Transformer(self.grid, cells, depth=p.depth, width=p.width, heads=p.heads)
        if p.net == "made":
            return made.MADE(self.grid, cells, depth=p.depth, width=p.width, bias=p.bias)
        given: dict[str, Any] = {"bias": p.bias, "residual": p.residual}
        return pixelcnn.PixelCNN(self.grid, cells, depth=p.depth, width=p.width, kernel=p.kernel, **given)

    def loss(self, batch: dict, progress: float = 1.0) -> dict[str, Tensor]:
        return losses.energy_or_data(self, batch, progress)

    def conditionals(self, x: Tensor) -> Tensor:
        """Logits (batch, token, value) of every token given those before it, of x (batch, *shape)."""
        return self.net(self._split(x))

    def _split(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x of shape {tuple(x.shape)}: expected (batch, {', '.join(map(str, self.shape))})")
        return tokens.split(x.to(self.mean.dtype), self.grid)

    def log_prob(self, x: Tensor) -> Tensor:
        """ln q (batch), float64, of spins x (batch, *shape)."""
        s = self._split(x)
        if not self.params.z2:
            return tokens.log_prob(self.net(s), s)
        both = torch.cat([s, -s])
        return torch.logaddexp(*tokens.log_prob(self.net(both), both).chunk(2)) - math.log(2)

    def _draw(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens and logits before a flip, and the sign of the flip (n, 1, …)."""
        where = self.mean.device
        uniform = torch.rand(n, math.prod(self.grid), dtype=torch.float64, device=where, generator=generator)
        drawn, logits = self.net.draw(uniform)
        sign = torch.ones(n, device=where)
        if self.params.z2:
            sign = 2.0 * torch.randint(2, (n,), device=where, generator=generator) - 1
        return drawn, logits, sign.to(drawn.dtype).view(n, *[1] * len(self.shape))

    def configurations(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`sample` without ln q, which training takes with its gradient anyway."""
        drawn, _, sign = self._draw(n, generator)
        return sign * tokens.join(drawn, self.grid, self.shape)

    def stages(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Configurations (n, *shape) while they are drawn, a quarter of the tokens at a time; 0 where none is yet."""
        drawn, _, sign = self._draw(n, generator)
        count = drawn.shape[1]
        place, found = torch.arange(count, device=drawn.device)[:, None], {}
        for t in [count * quarter // 4 for quarter in range(1, 5)]:
            found[f"{t} of {count} tokens"] = sign * tokens.join(drawn * (place < t), self.grid, self.shape)
        return found

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """x (n, *shape) of ±1 and ln q (n), float64."""
        drawn, logits, sign = self._draw(n, generator)
        log_q = tokens.log_prob(logits, drawn)
        if self.params.z2:
            flipped = tokens.log_prob(self.net(-drawn), -drawn)
            log_q = torch.logaddexp(log_q, flipped) - math.log(2)
        return sign * tokens.join(drawn, self.grid, self.shape), log_q
