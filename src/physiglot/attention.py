"""Causal self-attention over a true context window, in parallel for training and step by step with a cache.

The mask is banded: token t attends to t-W+1 … t, in training as in generation. So the cached rollout is the
training graph, for any length (a window that is recomputed from its first token is another function beyond one
layer, because cached keys carry what is older than the window).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """(time, width): sin and cos of t / 10000^(2j/width), interleaved (Vaswani et al. 2017)."""
    frequency = 10000 ** (-torch.arange(0, width, 2, device=positions.device, dtype=positions.dtype) / width)
    angle = positions[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary positions (Su et al., arXiv 2104.09864): only differences of positions matter to q · k."""
    half = x.shape[-1] // 2
    frequency = 10000 ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = positions.to(x.dtype)[:, None] * frequency
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def banded(time: int, window: int, device: torch.device | None = None) -> Tensor:
    """(time, time) mask: True where a token may look."""
    lag = torch.arange(time, device=device)[:, None] - torch.arange(time, device=device)
    return (lag >= 0) & (lag < window)


class Cache:
    """Keys and values of the last `window` tokens of a layer. Order does not matter: positions are in the keys."""

    def __init__(self, window: int):
        self.window, self.count = window, 0
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add the key and value (batch, head, 1, channel) of a token; return those it may look at."""
        if torch.is_grad_enabled():
            return self._grow(key, value)
        if self.keys is None or self.values is None:
            shape = (*key.shape[:2], self.window, key.shape[3])
            self.keys, self.values = key.new_zeros(shape), value.new_zeros(shape)
        place = self.count % self.window
        self.keys[:, :, place], self.values[:, :, place] = key[:, :, 0], value[:, :, 0]
        self.count += 1
        size = min(self.count, self.window)
        return self.keys[:, :, :size], self.values[:, :, :size]

    def _grow(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """As `append`, out of place, so that the gradient passes through the rollout."""
        if self.keys is not None and self.values is not None:
            key = torch.cat([self.keys, key], 2)[:, :, -self.window :]
            value = torch.cat([self.values, value], 2)[:, :, -self.window :]
        self.keys, self.values = key, value
        return key, value


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, window: int, rotary: bool):
        super().__init__()
        self.heads, self.window, self.rotary = heads, window, rotary
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None, cache: Cache | None = None) -> Tensor:
        batch, time, width = x.shape
        split = self.qkv(x).view(batch, time, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        if self.rotary:
            q, k = rotate(q, positions), rotate(k, positions)
        if cache is not None:
            k, v = cache.append(k, v)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(batch, time, width))


class Block(nn.Module):
    """Pre-norm: x + attention(norm x), then x + MLP(norm x), the MLP four times as wide with the tanh GELU."""

    def __init__(self, width: int, heads: int, window: int, norm: str, rotary: bool):
        super().__init__()
        kind = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[norm]
        self.norm1, self.norm2 = kind(width), kind(width)
        self.attention = Attention(width, heads, window, rotary)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None, cache: Cache | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), positions, mask, cache)
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    """The stack of blocks with a final norm: tokens (batch, time, width) -> (batch, time, width)."""

    def __init__(self, width: int, layers: int, heads: int, window: int, norm: str, rotary: bool):
        super().__init__()
        self.width, self.window, self.rotary = width, window, rotary
        self.blocks = nn.ModuleList(Block(width, heads, window, norm, rotary) for _ in range(layers))
        self.norm = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[norm](width)

    def caches(self) -> list[Cache]:
        return [Cache(self.window) for _ in self.blocks]

    def forward(self, x: Tensor, begin: int = 0, caches: list[Cache] | None = None) -> Tensor:
        """All tokens at once; or, with `caches`, one token at position `begin`."""
        time = x.shape[1]
        positions = torch.arange(begin, begin + time, device=x.device, dtype=x.dtype)
        if not self.rotary:
            x = x + sinusoids(positions, self.width)
        mask = banded(time, self.window, x.device) if caches is None else None
        for i, block in enumerate(self.blocks):
            x = block(x, positions, mask, caches[i] if caches else None)
        return self.norm(x)
