"""The wiring of the neural renormalisation group: one small flow for all blocks of a layer, scale by scale.

S.-H. Li, L. Wang, Neural network renormalization group, Phys. Rev. Lett. 121, 260601 (2018), arXiv 1802.02840. On a
lattice of side L = 2^D, scale j has the sites whose coordinates are multiples of 2^j. From the configuration to the
noise, 2×2 blocks of these are transformed, then the blocks between them (wrapped around the torus), and the sites of
scale j + 1 go on; what stays behind is independent noise of scale j.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .flows import Couplings, checkerboard


def depth(size: int) -> int:
    """D of L = 2^D. Raises ValueError for another L."""
    if size < 2 or size & (size - 1):
        raise ValueError(f"size {size}: the hierarchy of 2×2 blocks needs a power of two, at least 2")
    return size.bit_length() - 1


def blocks(size: int, scale: int, offset: int) -> Tensor:
    """Sites (block, 4) of the 2×2 blocks with dilation 2^scale and stride 2^(scale + 1), from `offset` on, periodic."""
    step = 2**scale
    first = torch.arange(0, size, 2 * step) + offset
    side = torch.stack([first, first + step], 1) % size
    rows, columns = side[:, None, :, None], side[None, :, None, :]
    return (rows * size + columns).reshape(-1, 4)


def scales(size: int) -> Tensor:
    """The scale at which the noise of each site comes in, (site): 0 is the finest, D − 1 the last four sites."""
    last = depth(size) - 1
    coordinate = torch.arange(size)
    divisible = sum((coordinate % 2**j == 0).long() for j in range(1, last + 1)) + torch.zeros(size, dtype=torch.long)
    return torch.minimum(divisible[:, None], divisible).flatten()


class Hierarchy(nn.Module):
    """Noise (batch, site) to lattice (batch, site): from the coarsest scale to the finest; `inverse` is fine to coarse.

    A layer is `blocks` that share one flow of four variables, so its log-determinant is the sum over its blocks.
    """

    def __init__(self, size: int, couplings: int, hidden: list[int], repeat: int = 1, **options):
        super().__init__()
        mask = checkerboard((2, 2))
        layers: list[Couplings] = []
        self.sites: list[str] = []
        for scale in range(depth(size)):
            for offset in (0, 2**scale) * repeat:
                name = f"layer{len(layers)}"
                self.register_buffer(name, blocks(size, scale, offset), persistent=False)
                self.sites.append(name)
                layers.append(Couplings(mask, couplings, hidden, **options))
        self.layers = nn.ModuleList(layers)

    def _through(self, name: str, transform, x: Tensor) -> tuple[Tensor, Tensor]:
        index = getattr(self, name)
        made, change = transform(x[:, index])
        x = x.index_copy(1, index.flatten(), made.flatten(1))
        return x, change.sum(1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(len(z))
        for name, layer in zip(reversed(self.sites), reversed(self.layers), strict=True):
            z, change = self._through(name, layer, z)
            total = total + change
        return z, total

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for name, layer in zip(self.sites, self.layers, strict=True):
            x, change = self._through(name, layer.inverse, x)
            total = total + change
        return x, total
