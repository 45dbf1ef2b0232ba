"""Spins as tokens: one spin each, or square patches of them, in the order of the lattice's rows.

A token of c spins has 2^c values; value v has spin j up where bit j of v is set. A token of one spin has one logit,
that of spin up, others have a logit per value.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def grid(shape: tuple[int, ...], patch: int) -> tuple[int, int]:
    """Rows and columns of the tokens of a lattice of `shape`; a chain is one row."""
    rows, columns = shape if len(shape) == 2 else (1, *shape)
    across = (patch if rows > 1 else 1, patch)
    if rows % across[0] or columns % across[1]:
        raise ValueError(f"patch {patch}: it does not divide the lattice {rows} × {columns}")
    return rows // across[0], columns // across[1]


def split(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """x (batch, …) of ±1 as (batch, token, spin), for `shape` (rows, columns) of tokens."""
    rows = x.shape[1] if x.ndim == 3 else 1
    down, right = rows // shape[0], x.shape[-1] // shape[1]
    return x.reshape(-1, shape[0], down, shape[1], right).transpose(2, 3).reshape(len(x), shape[0] * shape[1], -1)


def join(tokens: Tensor, shape: tuple[int, int], like: tuple[int, ...]) -> Tensor:
    """The inverse of `split`: (batch, token, spin) -> (batch, *like)."""
    rows = like[0] if len(like) == 2 else 1
    down, right = rows // shape[0], like[-1] // shape[1]
    return tokens.reshape(-1, *shape, down, right).transpose(2, 3).reshape(len(tokens), *like)


def values(spins: Tensor) -> Tensor:
    """The value (…) of tokens (…, spin) of ±1."""
    powers = 2 ** torch.arange(spins.shape[-1], device=spins.device)
    return ((spins > 0) * powers).sum(-1)


def spins(value: Tensor, count: int) -> Tensor:
    """The spins ±1 (…, spin) of the value (…) of a token."""
    return 2 * (value[..., None] >> torch.arange(count, device=value.device) & 1) - 1


def log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """ln q (batch), in float64, of tokens (batch, token, spin) under logits (batch, token, value)."""
    if logits.shape[-1] == 1:
        return functional.logsigmoid(logits * tokens).double().sum((1, 2))
    chosen = logits.log_softmax(-1).gather(-1, values(tokens)[..., None])
    return chosen.double().sum((1, 2))


def choose(logits: Tensor, uniform: Tensor, count: int) -> Tensor:
    """Tokens (batch, spin) by inversion: logits (batch, value) and one uniform number (batch) in [0, 1) each."""
    if logits.shape[-1] == 1:
        return 2.0 * (uniform < logits[:, 0].double().sigmoid()).to(logits.dtype)[:, None] - 1
    below = logits.double().softmax(-1).cumsum(-1)[:, :-1] <= uniform[:, None]
    return spins(below.sum(-1), count).to(logits.dtype)
