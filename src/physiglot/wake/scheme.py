"""The discrete equations of the wake: grid, factors of the tridiagonal systems, influence functions.

Length is the radius, velocity that of the free stream, so d = 2 and ν = 2/Re. With ξ = ln r,

    ω_t + r⁻²(ψ_θ ω_ξ − ψ_ξ ω_θ) = ν r⁻²(ω_ξξ + ω_θθ) − σω,    ψ_ξξ + ψ_θθ = −r²ω,    ψ = (r − 1/r) sin θ + φ.

Fourier series in θ, differences of second order in ξ, SBDF2 in time. A field is f = Σ_m c_m cos mθ + s_m sin mθ,
kept as `modes` (row of ξ, parity, column): parity 0 is the cosines; the even m come first, then the odd ones, so that
the mirror θ → π − θ acts on halves. σ damps the vorticity in r > r_out/2.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

WALL_SLOPE = np.array([-25.0, 48.0, -36.0, 16.0, -3.0]) / 12  # one-sided, fourth order, in units of 1/h
SPONGE = 1.0  # the rate σ at r_out, in units of U/radius


@dataclass(frozen=True)
class Grid:
    """`radial` rows of ξ from the wall to `r_out`, `angles` points in θ (a multiple of 8)."""

    radial: int
    angles: int
    r_out: float

    @cached_property
    def h(self) -> float:
        return float(np.log(self.r_out)) / (self.radial - 1)

    @cached_property
    def r(self) -> np.ndarray:
        return np.exp(self.h * np.arange(self.radial))

    @cached_property
    def highest(self) -> int:
        """The highest m that is kept: products of such modes alias into none of them (2/3 rule)."""
        return (self.angles - 1) // 3

    @cached_property
    def half(self) -> int:
        """Columns of the even m, and of the odd m (the last may be empty)."""
        return self.highest // 2 + 1

    @cached_property
    def m(self) -> np.ndarray:
        """The mode of each column; an empty column has a mode of its own that is never filled."""
        return np.concatenate([np.arange(0, 2 * self.half, 2), np.arange(1, 2 * self.half, 2)]).astype(float)

    @cached_property
    def bases(self) -> tuple[np.ndarray, np.ndarray]:
        """Synthesis (parity, half, column, θ) and analysis (parity, half, θ, column) on a quarter of the circle."""
        theta = (np.arange(self.angles // 4) + 0.5) * 2 * np.pi / self.angles
        m = self.m.reshape(2, self.half, 1)
        kept = m <= self.highest
        synthesis = np.stack([np.cos(m * theta) * kept, np.sin(m * theta) * kept])
        analysis = synthesis * np.where(m == 0, 2, 4) / self.angles
        return synthesis, np.ascontiguousarray(analysis.swapaxes(2, 3))

    @cached_property
    def sponge(self) -> np.ndarray:
        return SPONGE * np.clip(2 * self.r / self.r_out - 1, 0, None) ** 2

    @cached_property
    def free_stream(self) -> tuple[np.ndarray, np.ndarray]:
        """r − 1/r and its derivative in ξ: the potential flow, in the column of sin θ."""
        return self.r - 1 / self.r, self.r + 1 / self.r

    def natural(self, modes: np.ndarray) -> np.ndarray:
        """Modes (…, row, parity, column) as complex c − is (…, row, m), m = 0 … `highest`."""
        order = np.argsort(self.m)[: self.highest + 1]
        return modes[..., 0, order] - 1j * modes[..., 1, order]

    def columns(self, series: np.ndarray) -> np.ndarray:
        """The inverse of `natural`."""
        modes = np.zeros((*series.shape[:-1], 2, 2 * self.half))
        order = np.argsort(self.m)[: self.highest + 1]
        modes[..., 0, order], modes[..., 1, order] = series.real, -series.imag
        return modes


def pivots(diagonal: np.ndarray) -> np.ndarray:
    """c for d_i x_i − x_{i−1} − x_{i+1} = b_i, solved by y_i = c_i(b_i + y_{i−1}), x_i = y_i + c_i x_{i+1} (Thomas)."""
    c = np.empty_like(diagonal)
    c[0] = 1 / diagonal[0]
    for i in range(1, len(c)):
        c[i] = 1 / (diagonal[i] - c[i - 1])
    return c


def solve(c: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x of the tridiagonal system with the pivots `c`, along the first axis."""
    x = c * b
    for i in range(1, len(c)):
        x[i] += c[i] * x[i - 1]
    for i in range(len(c) - 2, -1, -1):
        x[i] += c[i] * x[i + 1]
    return x


def stream_diagonal(grid: Grid) -> np.ndarray:
    """Diagonal (row, column) for φ: 0 at the wall, decaying as r^−m beyond the last row."""
    diagonal = np.broadcast_to(2 + (grid.m * grid.h) ** 2, (grid.radial, len(grid.m))).copy()
    diagonal[0] = np.inf
    diagonal[-2] -= np.exp(-grid.m * grid.h)
    diagonal[-1] = np.inf
    return diagonal


def vorticity_diagonal(grid: Grid, nu: float, step: float) -> np.ndarray:
    """Diagonal (row, column) for ω in units of νh⁻²r⁻²: 0 at r_out; at the wall 0, for m = 0 no slope.

    ∂ω_0/∂ξ = 0 makes the pressure single-valued. That row is halved, which keeps the system symmetric.
    """
    storage = (grid.r * grid.h) ** 2 / nu * (1.5 / step + grid.sponge)
    diagonal = storage[:, None] + 2 + (grid.m * grid.h) ** 2
    diagonal[0] = np.where(grid.m == 0, diagonal[0] / 2, np.inf)
    diagonal[-1] = np.inf
    return diagonal


def slope_weights(grid: Grid) -> np.ndarray:
    """g (row, column): the slope φ_ξ at the wall is Σ g ω over the rows. For m = 0 it vanishes by construction."""
    stencil = np.zeros((grid.radial, len(grid.m)))
    stencil[1:5] = WALL_SLOPE[1:, None] / grid.h
    weights = solve(pivots(stream_diagonal(grid)), stencil) * (grid.r[:, None] * grid.h) ** 2
    return np.where(grid.m == 0, 0.0, weights)


def influence(grid: Grid, diagonal: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The response (row, column) of ω to the wall vorticity, scaled to a change −1 of the slope φ_ξ at the wall."""
    c = pivots(diagonal)
    source = np.zeros_like(c)
    source[1] = 1.0
    response = solve(c, source)
    response[0] = 1.0
    slope = (weights * response).sum(0)
    return np.where(grid.m == 0, 0.0, -response / np.where(grid.m == 0, 1.0, slope))


def kick(grid: Grid) -> np.ndarray:
    """The vorticity source exp(−[(x − 2.5)² + y²]/(2·0.5²)) as modes (row, parity, column); it is even in y."""
    theta = 2 * np.pi * np.arange(4 * grid.angles) / (4 * grid.angles)
    x, y = grid.r[:, None] * np.cos(theta), grid.r[:, None] * np.sin(theta)
    series = np.fft.rfft(np.exp(-2 * ((x - 2.5) ** 2 + y**2)))[:, : grid.highest + 1] / (2 * grid.angles)
    series[:, 0] /= 2
    return grid.columns(series.real.astype(complex))
