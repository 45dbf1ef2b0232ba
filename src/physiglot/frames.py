"""Frames of fields: leading dimensions folded into one, and the parameters of a system beside each frame."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

FRAMES = 64  # frames that pass through a network at once where no gradient is kept: bounds the memory of a long series


def framewise(network: Callable[[Tensor], Tensor], x: Tensor, trailing: int) -> Tensor:
    """`network` on the last `trailing` dimensions of x, the dimensions before folded into one."""
    lead, flat = x.shape[: x.ndim - trailing], x.flatten(0, x.ndim - trailing - 1) if x.ndim > trailing else x[None]
    if torch.is_grad_enabled() or len(flat) <= FRAMES:
        y = network(flat)
    else:
        y = torch.cat([network(piece) for piece in flat.split(FRAMES)])
    return y.view(*lead, *y.shape[1:])


def doubled(x: Tensor, dims: int) -> Tensor:
    """Twice the points along the last `dims` dimensions, by linear interpolation between the centres of cells.

    As torch's `interpolate`, whose kernels for GPUs go through the frames and channels one by one.
    """
    if not x.is_cuda:
        kind = {2: "bilinear", 3: "trilinear"}[dims]
        return functional.interpolate(x, scale_factor=2, mode=kind, align_corners=False)
    return slices_doubled(x, dims)


def slices_doubled(x: Tensor, dims: int) -> Tensor:
    for dim in range(-dims, 0):
        last = x.shape[dim] - 1
        before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, last)], dim)
        after = torch.cat([x.narrow(dim, 1, last), x.narrow(dim, last, 1)], dim)
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim).flatten(dim - 1, dim)
    return x


class Doubled(nn.Module):
    """`doubled` as a layer."""

    def __init__(self, dims: int):
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return doubled(x, self.dims)


def beside(parameters: Tensor, lead: torch.Size | tuple[int, ...]) -> Tensor:
    """(member, parameter) -> (member, …, parameter), the same for all frames (member, …) of a member."""
    if not lead:
        return parameters[0] if parameters.ndim == 2 else parameters
    ones = [1] * (len(lead) - 1)
    return parameters.view(len(parameters), *ones, -1).expand(*lead, parameters.shape[-1])


def given(parameters: Tensor | None, model: str, what: str) -> Tensor:
    """The parameters, or a ValueError that says who needs them."""
    if parameters is None:
        raise ValueError(f"models.{model}: the data has no `parameters`: {what} is needed")
    return parameters
