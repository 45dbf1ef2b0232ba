"""Mean and standard deviation per field from parts: counts, means and sums of squares that add up exactly in order."""

from functools import reduce

import numpy as np

Moments = tuple[int, np.ndarray, np.ndarray]
SLAB = 2**17


def _of(state: np.ndarray) -> Moments:
    axes = tuple(i for i in range(state.ndim) if i != 2)
    mean = state.mean(axis=axes, dtype=np.float64, keepdims=True)
    squares = np.square(state - mean).sum(axis=axes)
    return state.size // state.shape[2], mean.reshape(-1), squares


def of(state: np.ndarray) -> Moments:
    """(count, mean, sum of squared deviations) per field of `state` (member, time, field, …), in float64.

    It goes by slabs of members, so that it needs little memory beside `state`.
    """
    members = max(1, SLAB // max(1, state[:1].size))
    return reduce(merge, (_of(state[i : i + members]) for i in range(0, len(state), members)))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two parts together (Chan, Golub & LeVeque 1983)."""
    n = a[0] + b[0]
    delta = b[1] - a[1]
    return n, a[1] + delta * (b[0] / n), a[2] + b[2] + delta**2 * (a[0] * b[0] / n)


def std(moments: Moments) -> np.ndarray:
    return np.sqrt(moments[2] / moments[0])
