"""Causal self-attention over a true context window, in parallel for training and step by step with a cache.

The mask is banded: token t attends to t-W+1 … t, in training as in generation. So the cached rollout is the
training graph, for any length (a window that is recomputed from its first token is another function beyond one
layer, because cached keys carry what is older than the window). Tokens of a prefix have no position and are never
dropped: what holds for the whole series, such as a viscosity.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

LONGEST, WIDEST = 128, 64  # tokens and channels up to which a sequence stays in the cache: see `fused.Block`


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """(time, width): sin and cos of t / 10000^(2j/width), interleaved (Vaswani et al. 2017)."""
    frequency = 10000 ** (-torch.arange(0, width, 2, device=positions.device, dtype=positions.dtype) / width)
    angle = positions[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]


def rotation(positions: Tensor, channels: int) -> Tensor:
    """(2, time, channels / 2): cosines and sines of the rotary positions."""
    half = channels // 2
    frequency = 10000 ** (-torch.arange(half, device=positions.device, dtype=positions.dtype) / half)
    angle = positions[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """x (…, channel) turned by its position (Su et al., arXiv 2104.09864): q · k then sees differences alone."""
    (a, b), (cos, sin) = x.chunk(2, -1), turn
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def banded(time: int, window: int, device: torch.device | None = None) -> Tensor:
    """(time, time) mask: True where a token may look."""
    lag = torch.arange(time, device=device)[:, None] - torch.arange(time, device=device)
    return (lag >= 0) & (lag < window)


class Where(NamedTuple):
    """What all blocks share about the tokens at hand: their positions and, if they come together, the mask."""

    added: Tensor | None  # sinusoids (time, width)
    turn: Tensor | None  # rotation (2, time, 1, 1, channels / 2)
    mask: Tensor | None
    window: int
    prefix: int = 0  # tokens before the first position
    fixed: bool = False  # the tokens at hand are a prefix that the caches are to keep


def fusible(x: Tensor) -> bool:
    """Whether the kernels of `fused` hold for x, and gain: training in float32 on one CPU thread, whole vectors."""
    single = x.device.type == "cpu" and x.dtype == torch.float32 and torch.get_num_threads() == 1
    return single and torch.is_grad_enabled() and x.numel() >= 2**15 and x.numel() % 16 == 0


class Cache:
    """Keys and values of the last `window` tokens of a layer. Order does not matter: positions are in the keys."""

    def __init__(self, window: int):
        self.window, self.count = window, 0
        self.both: Tensor | None = None
        self.prefix: Tensor | None = None

    def fix(self, both: Tensor) -> Tensor:
        """Keep the keys and values of a prefix."""
        self.prefix = both
        return both

    def visible(self, both: Tensor, turn: Tensor | None) -> Tensor:
        """Add the key and value of a token; return those it may look at, the prefix among them.

        Queries see a prefix without rotation. They are rotated here, so its keys are rotated as they are.
        """
        recent = self.append(both)
        if self.prefix is None:
            return recent
        keys = self.prefix[0] if turn is None else rotate(self.prefix[0], turn)
        return torch.cat([torch.stack([keys, self.prefix[1]]), recent], 3)

    def append(self, both: Tensor) -> Tensor:
        """Add the key and value (2, batch, head, 1, channel) of a token; return those it may look at."""
        if torch.is_grad_enabled():
            return self._grow(both)
        if self.both is None:
            self.both = both.new_zeros((*both.shape[:3], self.window, both.shape[4]))
        self.both[..., self.count % self.window, :] = both[..., 0, :]
        self.count += 1
        return self.both if self.count >= self.window else self.both[..., : self.count, :]

    def _grow(self, both: Tensor) -> Tensor:
        """As `append`, out of place, so that the gradient passes through the rollout."""
        self.both = both if self.both is None else torch.cat([self.both, both], 3)[..., -self.window :, :]
        return self.both


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, where: Where, cache: Cache | None = None) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        if where.prefix:
            return self.out(self._after_prefix(qkv.permute(2, 0, 3, 1, 4), where).transpose(1, 2).flatten(2))
        if where.turn is not None:
            qkv = torch.cat([rotate(qkv[:, :, :2], where.turn), qkv[:, :, 2:]], 2)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if cache is not None:
            both = torch.stack([k, v])
            k, v = cache.fix(both) if where.fixed else cache.visible(both, where.turn)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=where.mask)
        return self.out(y.transpose(1, 2).flatten(2))

    @staticmethod
    def _after_prefix(qkv: Tensor, where: Where) -> Tensor:
        """All tokens at once, (3, batch, head, token, channel): the prefix sees itself, the others see it as well."""
        (q, k, v), n = qkv, where.prefix
        first = functional.scaled_dot_product_attention(q[:, :, :n], k[:, :, :n], v[:, :, :n])
        queries, keys = q[:, :, n:], k[:, :, n:]
        to_prefix = queries @ k[:, :, :n].mT
        if where.turn is not None:
            turn = where.turn[:, :, 0, 0]
            queries, keys = rotate(queries, turn), rotate(keys, turn)
        among = queries @ keys.mT
        if where.mask is not None:
            among = among.masked_fill(~where.mask, -torch.inf)
        weights = (torch.cat([to_prefix, among], -1) / q.shape[-1] ** 0.5).softmax(-1)
        return torch.cat([first, weights @ v], 2)


class Gelu(nn.Module):
    """The tanh GELU."""

    def forward(self, x: Tensor) -> Tensor:
        if not fusible(x):
            return functional.gelu(x, approximate="tanh")
        from . import fused

        return fused.Gelu.apply(x)


class Block(nn.Module):
    """Pre-norm: x + attention(norm x), then x + MLP(norm x), the MLP four times as wide with the tanh GELU."""

    def __init__(self, width: int, heads: int, norm: str):
        super().__init__()
        kind = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[norm]
        self.norm1, self.norm2 = kind(width), kind(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), Gelu(), nn.Linear(4 * width, width))

    def _fusible(self, x: Tensor, where: Where) -> bool:
        """Whether `fused.Block` is this block on x: LayerNorm, no rotation, no prefix; and x is small enough."""
        _, time, width = x.shape
        plain = isinstance(self.norm1, nn.LayerNorm) and where.turn is None and not where.prefix
        whole = width % 16 == 0 and width % (8 * self.attention.heads) == 0
        return plain and whole and time <= LONGEST and width <= WIDEST and fusible(x)

    def forward(self, x: Tensor, where: Where, cache: Cache | None = None) -> Tensor:
        if cache is None and self._fusible(x, where):
            from . import fused

            return fused.Block.apply(x, self.attention.heads, where.window, self.norm1.eps, *self.parameters())
        x = x + self.attention(self.norm1(x), where, cache)
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    """The stack of blocks with a final norm: tokens (batch, time, width) -> (batch, time, width)."""

    def __init__(self, width: int, layers: int, heads: int, window: int, norm: str, rotary: bool):
        super().__init__()
        self.width, self.heads, self.window, self.rotary = width, heads, window, rotary
        self.blocks = nn.ModuleList(Block(width, heads, norm) for _ in range(layers))
        self.norm = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[norm](width)

    def caches(self, prefix: Tensor | None = None) -> list[Cache]:
        """Empty caches; with a prefix (batch, token, width), caches that will keep it."""
        caches = [Cache(self.window) for _ in self.blocks]
        if prefix is not None:
            for block, cache in zip(self.blocks, caches, strict=True):
                prefix = block(prefix, Where(None, None, None, self.window, fixed=True), cache)
        return caches

    def _where(self, x: Tensor, begin: int, alone: bool) -> Where:
        time = x.shape[1]
        positions = torch.arange(begin, begin + time, device=x.device, dtype=x.dtype)
        mask = None if alone else banded(time, self.window, x.device)
        if self.rotary:
            return Where(None, rotation(positions, self.width // self.heads)[:, :, None, None], mask, self.window)
        return Where(sinusoids(positions, self.width), None, mask, self.window)

    def forward(
        self, x: Tensor, begin: int = 0, caches: list[Cache] | None = None, prefix: Tensor | None = None
    ) -> Tensor:
        """All tokens at once, after the `prefix` if there is one; or, with `caches`, one token at position `begin`."""
        where = self._where(x, begin, alone=caches is not None)
        if where.added is not None:
            x = x + where.added
        if prefix is not None:
            x, where = torch.cat([prefix, x], 1), where._replace(prefix=prefix.shape[1])
        for i, block in enumerate(self.blocks):
            x = block(x, where, caches[i] if caches else None)
        return self.norm(x[:, where.prefix :])
