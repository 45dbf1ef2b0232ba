"""The published algorithm in ordinary PyTorch: the peer of `benchmarks.training`.

Geneva & Zabaras, Neural Networks 146 (2022) 272, written from their equations and sizes: eager modules, an embedding
loss that walks over the frames and builds K anew at each of them (as the released code does), attention with the full
softmax and an additive mask, torch.optim.Adam as it comes, a DataLoader over windows. No validation between epochs.
The released code spells the tanh GELU out; both that and PyTorch's, which is faster, are here.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

CHANNELS, HIDDEN, FIELDS = 32, 500, 3
LAYERS, HEADS, CONTEXT = 4, 4, 64
EMBEDDING = {"window": 16, "stride": 16, "batch": 512, "epochs": 300, "weight_decay": 1e-8}
TRANSFORMER = {"window": 64, "stride": 64, "batch": 16, "epochs": 200, "weight_decay": 1e-10}
CLIP, RATE = 0.1, 1e-3


class Embedding(nn.Module):
    """Encoder, decoder and the banded Koopman operator, §2.1."""

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.encoder = nn.Sequential(
            nn.Linear(FIELDS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CHANNELS), nn.LayerNorm(CHANNELS)
        )
        self.decoder = nn.Sequential(nn.Linear(CHANNELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, FIELDS))
        self.diagonal = nn.Parameter(torch.linspace(1, 0, CHANNELS))
        self.first = nn.Parameter(0.1 * torch.rand(CHANNELS - 1))
        self.second = nn.Parameter(0.1 * torch.rand(CHANNELS - 2))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder((x - self.mean) / self.std)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z) * self.std + self.mean

    def operator(self) -> Tensor:
        k = torch.diag(self.diagonal)
        for j, band in enumerate((self.first, self.second), 1):
            k = k + torch.diag(band, j) - torch.diag(band, -j)
        return k

    def loss(self, states: Tensor) -> Tensor:
        """One frame after the other: reconstruct it, advance z by K, decode that too."""
        first = states[:, 0]
        z = self.encode(first)
        total = (1e4 + 1) * functional.mse_loss(self.decode(z), first)
        for j in range(1, states.shape[1]):
            frame = states[:, j]
            k = self.operator()
            z = z @ k.T
            total = total + functional.mse_loss(self.decode(z), frame)
            total = total + 1e4 * functional.mse_loss(self.decode(self.encode(frame)), frame)
            total = total + 0.1 * k.square().sum()
        return total


def positions(time: int) -> Tensor:
    """Sinusoids (time, CHANNELS), §2.2."""
    place = torch.arange(time, dtype=torch.float32)[:, None]
    angle = place / 10000 ** (torch.arange(0, CHANNELS, 2) / CHANNELS)
    found = torch.zeros(time, CHANNELS)
    found[:, 0::2], found[:, 1::2] = angle.sin(), angle.cos()
    return found


class Attention(nn.Module):
    def __init__(self, window: int | None):
        super().__init__()
        self.window = window
        self.qkv, self.out = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)

    def mask(self, time: int) -> Tensor:
        """0 where a token may look, -10000 elsewhere (what is added before the softmax)."""
        lag = torch.arange(time)[:, None] - torch.arange(time)
        seen = (lag >= 0) & (lag < (self.window or time))
        return torch.where(seen, 0.0, -1e4)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = (a.view(batch, time, HEADS, -1).transpose(1, 2) for a in self.qkv(x).chunk(3, -1))
        weights = q @ k.transpose(-1, -2) / math.sqrt(width // HEADS) + self.mask(time)
        return self.out((weights.softmax(-1) @ v).transpose(1, 2).reshape(batch, time, width))


class SpelledOut(nn.Module):
    """The tanh GELU by its formula."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class Block(nn.Module):
    def __init__(self, window: int | None, gelu: nn.Module):
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS), Attention(window)
        self.mlp = nn.Sequential(nn.Linear(CHANNELS, 4 * CHANNELS), gelu, nn.Linear(4 * CHANNELS, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """The next embedding from the embeddings before, §2.2; `window` bands the mask."""

    def __init__(self, window: int | None = None, spelled_out: bool = False):
        super().__init__()
        gelu = SpelledOut() if spelled_out else nn.GELU("tanh")
        self.blocks = nn.ModuleList(Block(window, gelu) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.05)
                nn.init.zeros_(module.bias)

    def forward(self, z: Tensor) -> Tensor:
        x = z + positions(z.shape[1])
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, z: Tensor) -> Tensor:
        return functional.mse_loss(self(z[:, :-1]), z[:, 1:])


def windows(series: Tensor, recipe: dict) -> DataLoader:
    """Shuffled batches of windows (batch, window, channel) of `series` (member, time, channel)."""
    cut = series.unfold(1, recipe["window"], recipe["stride"]).transpose(2, 3).flatten(0, 1).contiguous()
    return DataLoader(TensorDataset(cut), batch_size=recipe["batch"], shuffle=True, drop_last=True)


def optimizer(model: nn.Module, recipe: dict) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=recipe["weight_decay"])


def scheduler(adam: torch.optim.Adam, recipe: dict) -> torch.optim.lr_scheduler.LRScheduler:
    """Exponential decay by epochs for the embedding, cosine with warm restarts by batches for the Transformer."""
    if recipe is EMBEDDING:
        return torch.optim.lr_scheduler.ExponentialLR(adam, 0.995)
    return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(adam, 14, 2, eta_min=1e-9)


class Training:
    """One batch after the other, epoch after epoch, with the published optimiser and schedule."""

    def __init__(self, model: nn.Module, series: Tensor, recipe: dict):
        self.model, self.loader, self.batches = model, windows(series, recipe), iter(())
        self.adam = optimizer(model, recipe)
        self.schedule, self.by_epoch = scheduler(self.adam, recipe), recipe is EMBEDDING

    def _batch(self) -> Tensor:
        try:
            return next(self.batches)[0]
        except StopIteration:
            if self.by_epoch and self.adam.state:
                self.schedule.step()
            self.batches = iter(self.loader)
            return next(self.batches)[0]

    def advance(self) -> Tensor:
        """One optimiser step; the loss."""
        self.adam.zero_grad()
        loss = self.model.loss(self._batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.adam.step()
        if not self.by_epoch:
            self.schedule.step()
        return loss.detach()
