"""What PixelCNN and MADE share: the activation, and how their published code starts the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def started(shape: tuple[int, ...], mask: Tensor, published: int) -> nn.Parameter:
    """Weights where the mask lets them, uniform as torch starts a layer of `published` inputs, made up for the mask.

    The correction √(entries / entries that are left) is that of wdphy16/stat-mech-van; `published` counts the inputs
    of its masked layer, half of which our layers do not even store.
    """
    left = float(mask.float().mean()) * mask[0].numel() / published
    bound = (1 / published) ** 0.5 / left**0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound) * mask)


def shift(channels: tuple[int, ...], published: int, given: bool) -> nn.Parameter | None:
    """A bias as torch starts it, or none."""
    bound = published**-0.5
    return nn.Parameter(torch.empty(channels).uniform_(-bound, bound)) if given else None


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """max(x, 0) + slope · min(x, 0) with slopes that broadcast."""
    return torch.where(x > 0, x, slope * x)
