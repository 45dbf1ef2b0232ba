"""The convolutional LSTM baseline on fields: an encoder, three ConvLSTM layers on the coarse grid, a decoder.

Shi et al., arXiv 1506.04214 (2015), with peepholes; the baseline of Geneva & Zabaras, Neural Networks 146 (2022) 272,
Table 3, where it has 934 k parameters. How its layers were cut there is not published: 64 channels in three layers and
three halvings of the grid give 933 k.
"""

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ..frames import Doubled, beside, framewise, given
from ..strict import Strict

LEVELS = 3  # halvings of the grid


class Params(Strict):
    width: int = Field(64, ge=4, multiple_of=4, description="channels of the ConvLSTM layers; 64 give 933 k parameters")
    layers: int = Field(3, ge=1, description="ConvLSTM layers")
    parameters: int = Field(0, ge=0, description="parameters of the system, all positive, as constant input fields")


class Memory(NamedTuple):
    """Hidden and cell states of the layers, each (member, channel, y, x)."""

    hidden: list[Tensor]
    cell: list[Tensor]


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, padding_mode="replicate")


class Cell(nn.Module):
    """Gates from 3 x 3 convolutions of input and hidden state, and peepholes from the cell, one weight a channel."""

    def __init__(self, width: int):
        super().__init__()
        self.gates = conv(2 * width, 4 * width)
        self.peepholes = nn.Parameter(torch.zeros(3, width, 1, 1))

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        enter, forget, new, leave = self.gates(torch.cat([x, hidden], 1)).chunk(4, 1)
        to_enter, to_forget, to_leave = self.peepholes
        kept = torch.sigmoid(forget + to_forget * cell) * cell
        cell = kept + torch.sigmoid(enter + to_enter * cell) * torch.tanh(new)
        return torch.sigmoid(leave + to_leave * cell) * torch.tanh(cell), cell


class Model(nn.Module):
    """x̃(t+1) = decoder(ConvLSTM(encoder(x̃(t), log ν))) in standardised units; no memory before the first frame."""

    mean: Tensor
    std: Tensor
    logs: Tensor
    recorded = True

    def __init__(self, params: Params, *, mean: Tensor, std: Tensor, embedding: nn.Module | None = None):
        super().__init__()
        self.params, fields, w = params, len(mean), params.width
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.register_buffer("logs", torch.stack([torch.zeros(params.parameters), torch.ones(params.parameters)]))
        down = [(fields + params.parameters, w // 4), (w // 4, w // 2), (w // 2, w)]
        self.encoder = nn.Sequential(*(part for a, b in down for part in (conv(a, b, 2), nn.LeakyReLU(0.2))))
        self.cells = nn.ModuleList(Cell(w) for _ in range(params.layers))
        up = [part for a, b in [(w, w // 2), (w // 2, w // 4)] for part in (Doubled(2), conv(a, b), nn.LeakyReLU(0.2))]
        self.decoder = nn.Sequential(*up, Doubled(2), conv(w // 4, fields))

    def fit(self, data: dict[str, Tensor]) -> dict[str, float]:
        """Mean and deviation of the logarithms of the parameters."""
        if self.params.parameters:
            logs = self._given(data.get("parameters")).log()
            self.logs.copy_(torch.stack([logs.mean(0), logs.std(0, correction=0).clamp(min=1e-6)]))
        return {"parameters": float(self.params.parameters)}

    def _given(self, parameters: Tensor | None) -> Tensor:
        return given(parameters, "conv_lstm", "parameters: 1 or more")[:, : self.params.parameters]

    def _inputs(self, x: Tensor, parameters: Tensor | None) -> Tensor:
        """x̃ (member, time, field, y, x) with the constant fields."""
        if not self.params.parameters:
            return x
        constant = (self._given(parameters).log() - self.logs[0]) / self.logs[1]
        constant = beside(constant, x.shape[:2])[..., None, None]
        return torch.cat([x, constant.expand(*constant.shape[:3], *x.shape[-2:])], 2)

    def advance(
        self, x: Tensor, parameters: Tensor | None = None, memory: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """What follows each of x̃ (member, time, field, y, x), and the memory after the last one."""
        coarse = framewise(lambda f: self.encoder(_last(f)), self._inputs(x, parameters), 3)
        memory = memory or Memory(*([torch.zeros_like(coarse[:, 0]) for _ in self.cells] for _ in range(2)))
        found = []
        for y in coarse.unbind(1):
            hidden, cells = [], []
            for layer, h, c in zip(self.cells, *memory, strict=True):
                y, c = layer(y, h, c)
                hidden.append(y)
                cells.append(c)
            memory = Memory(hidden, cells)
            found.append(y)
        fields = framewise(lambda f: self.decoder(_last(f)), torch.stack(found, 1), 3)
        return fields[..., : x.shape[-2], : x.shape[-1]], memory

    def loss(self, batch: dict[str, Tensor], progress: float = 1.0) -> dict[str, Tensor]:
        """The mean squared one-step error in units of std, each step given the observed frames before it."""
        x = (batch["state"] - self.mean[:, None, None]) / self.std[:, None, None]
        predicted, _ = self.advance(x[:, :-1], batch.get("parameters"))
        return {"loss": (predicted - x[:, 1:]).square().mean()}

    @torch.no_grad()
    def predict(self, start: Tensor, steps: int, parameters: Tensor | None = None) -> Tensor:
        """(member, field, y, x) -> (member, steps, field, y, x), warmed by the start alone."""
        mean, std = self.mean[:, None, None], self.std[:, None, None]
        x, memory, states = ((start - mean) / std)[:, None], None, [start[:, None]]
        for _ in range(steps - 1):
            x, memory = self.advance(x, parameters, memory)
            states.append(mean + std * x)
        return torch.cat(states, 1)


def _last(x: Tensor) -> Tensor:
    """Channels last in memory: convolutions on a CPU are twice as fast so."""
    return x.contiguous(memory_format=torch.channels_last)
