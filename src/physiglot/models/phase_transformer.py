"""The Transformer encoder of Ding, Tang & Yu (2022): one block, shared by all series, without positions.

A spin or a truncated angle is one of V tokens and the block has no positional encoding, so what attention adds to a
token depends only on the token and on how often each token occurs in its series. The weights over the n steps are
therefore those over the V kinds with ln(count) added to the scores: the same function at a cost that does not grow
with n². It also says what attention can see here: counts, no order.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from ..phases.classifier import Classifier, glorot, head
from ..phases.labels import Labelled


class Params(Labelled):
    width: int = Field(8, ge=1, description="features of a token: 8 for Ising, 32 for XY and Hubbard")
    heads: int = Field(2, ge=1, description="attention heads: 2 for Ising, 4 for XY and Hubbard")
    size: int = Field(8, ge=1, description="features of each head (Keras' key_dim): 8 for Ising, 32 otherwise")
    hidden: int = Field(32, ge=1, description="hidden units of the feed-forward layer")
    tokens: int = Field(10, ge=2, description="rows of the embedding: 10 for Ising, 100 for XY, of which few are used")
    dropout: float = Field(0.1, ge=0, lt=1, description="after the attention and after the feed-forward layer")


class Block(nn.Module):
    """x ← LN(x + attention(x)), x ← LN(x + FFN(x)); each head has `size` features of its own, as in Keras."""

    def __init__(self, params: Params):
        super().__init__()
        width, inner = params.width, params.heads * params.size
        self.heads, self.size = params.heads, params.size
        self.query, self.key, self.value = (glorot(nn.Linear(width, inner)) for _ in range(3))
        self.out = glorot(nn.Linear(inner, width))
        self.first, self.second = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.up, self.down = glorot(nn.Linear(width, params.hidden)), glorot(nn.Linear(params.hidden, width))
        self.dropout = nn.Dropout(params.dropout)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.size)).transpose(-2, -3)

    def attend(self, x: Tensor) -> Tensor:
        """Attention over the steps of series (…, step, width)."""
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        found = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out(found.transpose(-2, -3).flatten(-2))

    def attend_kinds(self, kinds: Tensor, counts: Tensor) -> Tensor:
        """The same for kinds of tokens (kind, width) and how often a series has them (series, kind).

        Gives (series, kind, width): what a token of this kind receives in this series.
        """
        query, key, value = (self._split(layer(kinds)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / self.size**0.5
        weights = (scores + counts.log()[:, None, None, :]).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).flatten(-2))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = self.first(x + self.dropout(attended))
        return self.second(x + self.dropout(self.down(self.up(x).relu())))


class Model(Classifier):
    """Embedding, block, all series side by side, dense head: 107,921 parameters for 20 Ising series of 10 steps.

    Faithful: a spin −1 is no valid index of the authors' embedding, and becomes the zero vector; an angle becomes one
    of 7 integers. Sound: −1 is token 0; (cos θ, sin θ) are embedded linearly. Numbers (Hubbard) have a dense layer with
    relu per series.
    """

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__(params, mean, std)
        self.kinds = {"spin": 2, "angle": 7 if params.variant == "faithful" else 0, "real": 0}[params.quantity]
        if self.kinds:
            self.table = nn.Embedding(params.tokens, params.width)
            nn.init.uniform_(self.table.weight, -0.05, 0.05)
        elif params.quantity == "angle":
            self.enter = glorot(nn.Linear(2, params.width))
        else:
            self.scale = nn.Parameter(torch.empty(params.series, params.width))
            self.shift = nn.Parameter(torch.zeros(params.series, params.width))
            bound = (6 / (1 + params.width)) ** 0.5
            nn.init.uniform_(self.scale, -bound, bound)
        self.block = Block(params)
        self.head = head(params.series * params.steps * params.width)

    def rows(self) -> Tensor:
        """The vector of each kind of token."""
        rows = self.table.weight[: self.kinds]
        if self.params.quantity == "spin" and self.params.variant == "faithful":
            rows = torch.stack([torch.zeros_like(rows[0]), rows[1]])
        return rows

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """Series of tokens (series, step) -> (series, step, width)."""
        rows = self.rows()
        if tokens.max() >= len(rows) or tokens.min() < 0:
            raise ValueError(f"state: token {tokens.max().item()}: allowed are 0 … {len(rows) - 1}")
        counts = nn.functional.one_hot(tokens, self.kinds).sum(1).to(rows)
        attended = self.block.attend_kinds(rows, counts)
        if self.training and self.params.dropout:
            places = tokens.unsqueeze(-1).expand(*tokens.shape, rows.shape[-1])
            return self.block.finish(rows[tokens], attended.gather(1, places))
        finished = self.block.finish(rows, attended)
        return finished.gather(1, tokens.unsqueeze(-1).expand(*tokens.shape, rows.shape[-1]))

    def of_numbers(self, x: Tensor) -> Tensor:
        """Series of numbers (sample, series, step, channel) -> (…, width)."""
        if self.params.quantity == "angle":
            entered = self.enter(x)
        else:
            entered = (x * self.scale[:, None] + self.shift[:, None]).relu()
        return self.block.finish(entered, self.block.attend(entered))

    def logit(self, x: Tensor) -> Tensor:
        series = x.unflatten(-1, (self.params.series, -1)).transpose(1, 2)
        if self.kinds:
            tokens = series[..., 0].gt(0).long() if self.params.quantity == "spin" else series[..., 0].long()
            found = self.of_tokens(tokens.flatten(0, 1)).unflatten(0, (len(x), -1))
        else:
            found = self.of_numbers(series)
        return self.head(found.transpose(1, 2).flatten(1)).squeeze(-1)
