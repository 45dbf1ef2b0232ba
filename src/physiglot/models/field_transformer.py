"""A Transformer of a periodic field by local tokens: translation-equivariant up to the patch, no bottleneck.

A token is a patch of 4³ cells: its raw values and convolutional features. A block attends along time, for each token by
itself and over a short window, and mixes space by a circular 3³ convolution of the grid of tokens, without positions.
What the tokens know goes back to their cells, and a small network makes of it, of the cell (its monomials, as a
reaction is one) and of its neighbours an increment, several times within a saved step, from cell to cell.
All is trained through rollouts, on windows moved by the symmetries of the cube and by shifts.

With `law` a local law, fitted by least squares (see `local_law`), takes the step, and the network adds what it lacks;
where the law acts on a finer grid, to all cells below a stored one alike.
"""

from math import comb

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ..attention import Attention, Cache, Gelu, Where, rotation
from ..curriculum import Curriculum
from ..field_map import FieldMap, zeroed
from ..isotropic import neighbours
from ..strict import Strict
from . import local_law


class Params(Strict):
    patch: int = Field(4, ge=1, description="cells along the edge of a token")
    width: int = Field(64, ge=1, description="channels of a token within the blocks")
    features: int = Field(32, ge=1, description="convolutional features of a token, beside its raw values")
    layers: int = Field(2, ge=1, description="blocks")
    heads: int = Field(4, ge=1, description="heads of attention in each block")
    window: int = Field(4, ge=1, description="saved states that a token sees of itself")
    channels: int = Field(8, ge=1, description="channels that a token gives to each of its cells")
    hidden: int = Field(32, ge=1, description="hidden units of the network of a cell")
    degree: int = Field(3, ge=1, le=6, description="the network of a cell sees the monomials up to this degree")
    substeps: int = Field(4, ge=1, description="times that the network of a cell acts within a saved step")
    law: local_law.Params | None = Field(None, description="a fitted local law that takes the step; none if omitted")
    augment: bool = Field(True, description="random symmetries of the cube and periodic shifts of the training windows")
    rollout: Curriculum = Field(
        Curriculum(horizons=[1, 2, 4], shares=[0.4, 0.3, 0.3]), description="steps that the loss unrolls"
    )

    @model_validator(mode="after")
    def _divisible(self) -> "Params":
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the {self.heads} heads")
        return self


def patches(x: Tensor, edge: int) -> Tensor:
    """(batch, channel, z, y, x) -> (batch, channel edge³, z / edge, y / edge, x / edge)."""
    z, y, x_ = (size // edge for size in x.shape[-3:])
    cut = x.reshape(*x.shape[:2], z, edge, y, edge, x_, edge)
    return cut.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(len(x), -1, z, y, x_)


def cells(tokens: Tensor, edge: int) -> Tensor:
    """The inverse of `patches`."""
    batch, channels, z, y, x = tokens.shape
    cut = tokens.reshape(batch, -1, edge, edge, edge, z, y, x).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return cut.reshape(batch, channels // edge**3, z * edge, y * edge, x * edge)


class Mixing(nn.Module):
    """A circular 3³ convolution over the grid of tokens (batch, width, z, y, x), of any size."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3, padding=1, padding_mode="circular")
        self.act = Gelu()
        self.out = nn.Conv3d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.conv(x)))


class Block(nn.Module):
    """x + attention over time, then x + mixing over space, both after RMSNorm."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention, self.mixing = Attention(width, heads), Mixing(width)

    def forward(self, x: Tensor, where: Where, cache: Cache) -> Tensor:
        """x (batch, z, y, x, width): the tokens of one time."""
        each = self.norm1(x).flatten(0, 3)[:, None]
        x = x + self.attention(each, where, cache).view_as(x)
        return x + self.mixing(self.norm2(x).movedim(-1, 1)).movedim(1, -1)


class Cell(nn.Module):
    """The increment that a cell makes of its monomials and Laplacians, and of what its token gives; 0 at first."""

    centre: Tensor
    spread: Tensor

    def __init__(self, fields: int, given: int, params: Params):
        super().__init__()
        self.degree = params.degree
        functions = comb(fields + params.degree, params.degree) - 1 + 3 * fields
        self.register_buffer("centre", torch.zeros(functions))
        self.register_buffer("spread", torch.ones(functions))
        self.linear = zeroed(nn.Conv3d(functions + given, fields, 1))
        self.net = nn.Sequential(
            nn.Conv3d(functions + given, params.hidden, 1),
            nn.SiLU(),
            nn.Conv3d(params.hidden, params.hidden, 1),
            nn.SiLU(),
            zeroed(nn.Conv3d(params.hidden, fields, 1)),
        )

    def functions(self, x: Tensor) -> Tensor:
        return local_law.dictionary(x, neighbours(x), self.degree)[:, 1:]

    def fit(self, series: Tensor) -> None:
        """The mean and deviation of the functions over `series` (member, time, field, z, y, x)."""
        found = torch.cat([self.functions(x[:: max(1, len(x) // 8)]) for x in series])
        self.centre.copy_(found.mean((0, 2, 3, 4)))
        self.spread.copy_(found.transpose(0, 1).flatten(1).std(1))

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        white = (self.functions(x) - FieldMap.cells(self.centre, x)) / FieldMap.cells(self.spread, x)
        inputs = torch.cat([white, given], 1)
        return self.linear(inputs) + self.net(inputs)


class Memory:
    """The caches of a rollout, what is hidden from it, and how many states it has seen."""

    def __init__(self, window: int, layers: int):
        self.caches, self.hidden, self.seen = [Cache(window) for _ in range(layers)], local_law.Hidden(), 0


class Model(FieldMap):
    """x⁺ = law(x) + scale · N(x, states before); without a law, law(x) = x. N is zero at first."""

    rest: Tensor

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__(params, mean, std)
        fields, volume, width = len(mean), params.patch**3, params.width
        self.register_buffer("rest", 0.1 * std)
        self.law = local_law.Law(fields, params.law) if params.law else None
        self.stem = nn.Conv3d(fields, 8, 3, padding=1, padding_mode="circular")
        self.gather = nn.Conv3d(8 * volume, params.features, 1)
        self.enter = nn.Conv3d(fields * volume + params.features, width, 1)
        self.blocks = nn.ModuleList(Block(width, params.heads) for _ in range(params.layers))
        self.leave = nn.Sequential(nn.RMSNorm(width), nn.Linear(width, params.channels * volume))
        self.cell = Cell(fields, params.channels, params)

    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """The scale of what the network is to give: the increments or, with a law, what it lacks of them."""
        values = super().fit(data)
        self.cell.fit(self.standardised(data["smooth"][:8]))
        if self.law is None:
            self.rest.copy_(self.scale)
            return values
        found = self.law.fit(self.standardised(data["smooth"][: self.params.law.series]))
        self.rest.copy_((found * self.std).clamp(max=self.scale))
        return values | {"residual_over_std": found}

    def begin(self) -> Memory:
        return Memory(self.params.window, self.params.layers)

    def _tokens(self, x: Tensor) -> Tensor:
        """Tokens (batch, z, y, x, width) of the standardised state."""
        edge = self.params.patch
        features = self.gather(patches(functional.silu(self.stem(x)), edge))
        return self.enter(torch.cat([patches(x, edge), features], 1)).movedim(1, -1)

    def _given(self, x: Tensor, memory: Memory) -> Tensor:
        """What the tokens give to their cells (batch, channel, z, y, x)."""
        tokens = self._tokens(x)
        position = torch.full((1,), float(memory.seen), dtype=x.dtype, device=x.device)
        turn = rotation(position, self.params.width // self.params.heads)[:, :, None, None]
        where = Where(None, turn, None, self.params.window)
        for block, cache in zip(self.blocks, memory.caches, strict=True):
            tokens = block(tokens, where, cache)
        memory.seen += 1
        return cells(self.leave(tokens).movedim(-1, 1), self.params.patch)

    def _correction(self, x: Tensor, memory: Memory) -> Tensor:
        """What the network gives, in units of `rest`, from the standardised state."""
        given, total = self._given(x, memory), torch.zeros_like(x)
        share = self.cells(self.rest / self.std, x)
        for _ in range(self.params.substeps):
            y = x + share * total
            total = total + self.cell(y, given) / self.params.substeps
        return total

    def step(self, state: Tensor, memory: Memory) -> Tensor:
        if state.shape[-1] % self.params.patch:
            raise ValueError(f"patch: {self.params.patch}: does not divide the grid of {state.shape[-1]} cells")
        x = self.standardised(state)
        after = state
        if self.law is not None:
            after = self.law.after(x, memory.hidden) * self.cells(self.std, state) + self.cells(self.mean, state)
        added = self._correction(x, memory)
        if memory.hidden.fine is not None:
            fine = memory.hidden.fine
            share = self.cells(self.rest / self.std, state) * added
            memory.hidden.fine = fine + functional.interpolate(share, size=fine.shape[-3:])
        return after + self.cells(self.rest, state) * added
