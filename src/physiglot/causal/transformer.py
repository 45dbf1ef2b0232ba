"""A decoder over tokens, with the keys and values of earlier tokens kept while it samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..attention import Decoder
from . import tokens


def earlier(shape: tuple[int, int]) -> Tensor:
    """What a token sees at once, (4, token): the one before, the one above and, across the periodic edges, the first
    of its row and of its column, where they are neighbours; −1 for none."""
    rows, columns = shape
    t = torch.arange(rows * columns)
    y, x = t // columns, t % columns
    up = torch.where(y > 0, t - columns, -1)
    right = torch.where((x == columns - 1) & (columns > 1), t - x, -1)
    down = torch.where((y == rows - 1) & (y > 0), x, -1)
    return torch.stack([t - 1, up, right, down])


class Transformer(nn.Module):
    """Tokens (batch, token, spin) -> logits (batch, token, value); inputs are its place and its earlier neighbours."""

    sees: Tensor

    def __init__(self, shape: tuple[int, int], cells: int, *, depth: int, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width}: it must be a multiple of heads {heads}")
        self.cells, count = cells, shape[0] * shape[1]
        self.values = 1 if cells == 1 else 2**cells
        self.register_buffer("sees", earlier(shape), persistent=False)
        self.embedding = nn.Embedding(4 * (2**cells + 1), width)
        self.place = nn.Parameter(0.1 * torch.randn(count, width))
        self.decoder = Decoder(width, depth, heads, count, "layer", False)
        self.out = nn.Linear(width, self.values)

    def _inputs(self, value: Tensor, sees: Tensor) -> Tensor:
        """(batch, …, width) of the values (batch, token) so far, for tokens that see (4, …); 2^spins is none."""
        none = 2**self.cells
        seen = torch.where(sees < 0, none, value[:, sees.clamp(min=0)])
        place = torch.arange(4, device=value.device).view(4, *[1] * (sees.ndim - 1))
        return self.embedding(seen + (none + 1) * place).sum(1)

    def forward(self, spins: Tensor) -> Tensor:
        return self.out(self.decoder(self._inputs(tokens.values(spins), self.sees) + self.place))

    @torch.no_grad()
    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (batch, token, spin) and their logits, from uniform numbers (batch, token)."""
        caches, value = self.decoder.caches(), torch.zeros(uniform.shape, dtype=torch.long, device=uniform.device)
        drawn, found = [], []
        for t, place in enumerate(self.place):
            x = self._inputs(value, self.sees[:, t]) + place
            logits = self.out(self.decoder(x[:, None], t, caches))[:, 0]
            drawn.append(tokens.choose(logits, uniform[:, t], self.cells))
            found.append(logits)
            value[:, t] = tokens.values(drawn[-1])
        return torch.stack(drawn, 1), torch.stack(found, 1)
