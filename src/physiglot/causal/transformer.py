"""A decoder over tokens, with the keys and values of earlier tokens kept while it samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..attention import Decoder
from . import tokens


class Transformer(nn.Module):
    """Tokens (batch, token, spin) -> logits (batch, token, value); a token's input is its place and the one before."""

    def __init__(self, shape: tuple[int, int], cells: int, *, depth: int, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width}: it must be a multiple of heads {heads}")
        self.cells, count = cells, shape[0] * shape[1]
        self.values = 1 if cells == 1 else 2**cells
        self.embedding = nn.Embedding(2**cells, width)
        self.place = nn.Parameter(0.1 * torch.randn(count, width))
        self.decoder = Decoder(width, depth, heads, count, "layer", False)
        self.out = nn.Linear(width, self.values)

    def forward(self, spins: Tensor) -> Tensor:
        before = self.embedding(tokens.values(spins[:, :-1]))
        first = before.new_zeros(len(spins), 1, before.shape[-1])
        return self.out(self.decoder(torch.cat([first, before], 1) + self.place))

    @torch.no_grad()
    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (batch, token, spin) and their logits, from uniform numbers (batch, token)."""
        caches, before = self.decoder.caches(), self.place.new_zeros(len(uniform), len(self.place[0]))
        drawn, found = [], []
        for t, place in enumerate(self.place):
            logits = self.out(self.decoder((before + place)[:, None], t, caches))[:, 0]
            drawn.append(tokens.choose(logits, uniform[:, t], self.cells))
            found.append(logits)
            before = self.embedding(tokens.values(drawn[-1]))
        return torch.stack(drawn, 1), torch.stack(found, 1)
