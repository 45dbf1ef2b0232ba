"""Time steps of the wake in torch, on a GPU if there is one: the scheme of `stepper` for all members at once.

The tridiagonal systems are solved by parallel cyclic reduction (Hockney and Jesshope 1981) with factors computed
beforehand: about log₂(rows) operations on whole fields instead of a loop over the rows. Equal to `stepper` up to
rounding.
"""

import numpy as np
import torch
from torch import Tensor

from ..device import best
from . import scheme


class Flow:
    """As `stepper.Flow`; the state is kept on `device` as real modes (member, row, parity, m)."""

    def __init__(self, grid: scheme.Grid, nu: np.ndarray, step: float, device: str | None = None):
        self.grid, self.nu, self.step = grid, np.asarray(nu, float), step
        self.device = device or best()
        self.order = np.argsort(grid.m)[: grid.highest + 1]
        self.mirrored = True  # no kick so far
        self.recorded: dict[bool, torch.cuda.CUDAGraph] = {}  # `mirrored` -> a step without a source
        shape = (len(self.nu), grid.radial, 2, len(self.order))
        self.omega, self.phi, self.past = (self._put(np.zeros(shape)) for _ in range(3))
        self._systems()
        self._constants()

    def _systems(self) -> None:
        grid, order = self.grid, self.order
        weights = scheme.slope_weights(grid)
        diagonals = [scheme.vorticity_diagonal(grid, nu, self.step) for nu in self.nu]
        self.diffusion = _reduction(np.stack(diagonals)[:, :, None, order], self.device)
        self.poisson = _reduction(scheme.stream_diagonal(grid)[None, :, None, order], self.device)
        responses = np.stack([scheme.influence(grid, d, weights) for d in diagonals])
        self.weights = self._put(weights[None, :, None, order])
        self.responses = self._put(responses[:, :, None, order])

    def _constants(self) -> None:
        grid, m = self.grid, np.arange(self.grid.highest + 1)
        theta = (np.arange(grid.angles) + 0.5) * 2 * np.pi / grid.angles
        basis = np.concatenate([np.cos(m[:, None] * theta), np.sin(m[:, None] * theta)])
        self.synthesis = self._put(basis)
        self.analysis = self._put(basis.T * np.tile(np.where(m == 0, 1, 2), 2) / grid.angles)
        self.m, self.r2 = self._put(m), self._put(grid.r[1:-1, None, None] ** 2)
        self.radial, self.slope = (self._put(f[1:-1]) for f in grid.free_stream)
        self.scale = self._put(grid.h**2 / self.nu[:, None, None, None])
        self.decay = self._put(np.exp(-m * grid.h))
        self.kick = self._put(scheme.kick(grid)[1:-1][..., self.order])

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.array(array, float), device=self.device)

    def _columns(self, modes: Tensor) -> np.ndarray:
        found = modes.cpu().numpy()
        return self.grid.columns(found[..., 0, :] - 1j * found[..., 1, :])

    @property
    def vorticity(self) -> np.ndarray:
        return self._columns(self.omega)

    @property
    def stream(self) -> np.ndarray:
        return self._columns(self.phi)

    @torch.no_grad()
    def advance(self, sources: np.ndarray) -> None:
        """One step for each entry of `sources`, the strength of the kick at the end of that step."""
        for source in sources:
            self.mirrored &= float(source) == 0.0
            if source == 0.0 and torch.device(self.device).type == "cuda":
                self._replay()
            else:
                self._step(float(source))

    def _replay(self) -> None:
        """A step without a source as a CUDA graph: 200 small kernels, launched at once."""
        if self.mirrored not in self.recorded:
            state = self.omega, self.phi, self.past
            kept = [field.clone() for field in state]
            self._step(0.0)  # libraries choose their kernels
            for field, value in zip(state, kept, strict=True):
                field.copy_(value)
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                self._step(0.0)
            self.recorded[self.mirrored] = graph
        self.recorded[self.mirrored].replay()

    def _turned(self, modes: Tensor) -> Tensor:
        """∂/∂θ of modes."""
        return torch.stack([self.m * modes[..., 1, :], -self.m * modes[..., 0, :]], -2)

    def _advection(self) -> Tensor:
        """ψ_θ ω_ξ − ψ_ξ ω_θ on the inner rows."""
        omega, phi, h = self.omega, self.phi, self.grid.h
        psi_theta, omega_theta = self._turned(phi[:, 1:-1]), self._turned(omega[:, 1:-1])
        omega_xi, psi_xi = ((f[:, 2:] - f[:, :-2]) / (2 * h) for f in (omega, phi))
        psi_theta[..., 0, 1] += self.radial
        psi_xi[..., 1, 1] += self.slope
        a, b, c, d = self.values(torch.stack([psi_theta, omega_xi, psi_xi, omega_theta]))
        found = self.modes(a * b - c * d)
        if self.mirrored:
            found[..., 0, :] = 0.0
        return found

    def values(self, modes: Tensor) -> Tensor:
        return modes.flatten(-2) @ self.synthesis

    def modes(self, values: Tensor) -> Tensor:
        return (values @ self.analysis).unflatten(-1, (2, -1))

    def _step(self, source: float) -> None:
        advection, h2 = self._advection(), self.grid.h**2
        right = torch.zeros_like(self.omega)
        old = self.r2 / self.step * self.omega[:, 1:-1]
        right[:, 1:-1] = self.scale * (2 * old - 2 * advection + self.past[:, 1:-1] + source * self.r2 * self.kick)
        right[:, 0] = self.scale[:, 0] / 2 * (2 / self.step * self.omega[:, 0] + self.past[:, 0])
        self.past[:, 1:-1] = advection - old / 2
        self.past[:, 0] = -self.omega[:, 0] / (2 * self.step)
        omega = self._solved(self.diffusion, right)
        slip = (self.weights * omega).sum(1, keepdim=True)
        slip[:, 0, 1, 1] += 2.0
        self.omega.copy_(omega + slip * self.responses)
        right = torch.zeros_like(omega)
        right[:, 1:-1] = h2 * self.r2 * self.omega[:, 1:-1]
        phi = self._solved(self.poisson, right)
        phi[:, -1] = self.decay * phi[:, -2]
        phi[:, :, 0, 0] = self._mean(right[:, :, 0, 0])
        self.phi.copy_(phi)

    @staticmethod
    def _solved(system: tuple[list[tuple[int, Tensor, Tensor]], Tensor], b: Tensor) -> Tensor:
        levels, inverse = system
        for distance, lower, upper in levels:
            reduced = b.clone()
            reduced[:, distance:].addcmul_(lower[:, distance:], b[:, :-distance])
            reduced[:, :-distance].addcmul_(upper[:, :-distance], b[:, distance:])
            b = reduced
        return b * inverse

    def _mean(self, source: Tensor) -> Tensor:
        """The mean of φ (member, row) from the wall outwards, where it and its slope vanish."""
        steps = torch.cumsum(source[:, :-1], 1) + self.grid.h**2 / 2 * self.omega[:, :1, 0, 0]
        return torch.cat([torch.zeros_like(source[:, :1]), -torch.cumsum(steps, 1)], 1)


def _reduction(diagonal: np.ndarray, device: str) -> tuple[list[tuple[int, Tensor, Tensor]], Tensor]:
    """Levels (distance, factor of the row below, factor of the row above) and the reciprocal of the last diagonal.

    The system is d_i x_i − x_{i−1} − x_{i+1} = b_i along axis 1; an infinite d_i stands for x_i = 0.
    """
    below, above = np.ones_like(diagonal), np.ones_like(diagonal)
    below[:, 0], above[:, -1] = 0.0, 0.0
    levels, distance = [], 1
    while distance < diagonal.shape[1]:
        down, up = _shifted(diagonal, distance, np.inf), _shifted(diagonal, -distance, np.inf)
        lower, upper = below / down, above / up
        levels.append((distance, torch.as_tensor(lower, device=device), torch.as_tensor(upper, device=device)))
        diagonal = diagonal - lower * _shifted(above, distance, 0.0) - upper * _shifted(below, -distance, 0.0)
        below, above = lower * _shifted(below, distance, 0.0), upper * _shifted(above, -distance, 0.0)
        distance *= 2
    return levels, torch.as_tensor(1 / diagonal, device=device)


def _shifted(array: np.ndarray, distance: int, fill: float) -> np.ndarray:
    """Row i − `distance` in the place of row i."""
    moved = np.roll(array, distance, axis=1)
    moved[:, slice(None, distance) if distance > 0 else slice(distance, None)] = fill
    return moved
