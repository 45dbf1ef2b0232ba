"""The Gray–Scott equations by Fourier series and exponential time differencing: an independent oracle.

ETDRK4 of S. M. Cox, P. C. Matthews, J. Comput. Phys. 176, 430 (2002), its coefficients by contour integrals as in
A.-K. Kassam, L. N. Trefethen, SIAM J. Sci. Comput. 26, 1214 (2005). Diffusion and the linear loss are exact.
"""

import numpy as np
from scipy import fft

from .stencils import Reaction

POINTS = 32  # of the contour, on the upper half of a circle of radius 1


def _coefficients(linear: np.ndarray, h: float) -> dict[str, np.ndarray]:
    """The functions of L h that ETDRK4 needs, as means over a circle around each value: no cancellation."""
    distinct, places = np.unique(linear * h, return_inverse=True)
    z = distinct[:, None] + np.exp(1j * np.pi * (np.arange(POINTS) + 0.5) / POINTS)
    e = np.exp(z)
    functions = {
        "half": (np.exp(z / 2) - 1) / z,
        "first": (-4 - z + e * (4 - 3 * z + z**2)) / z**3,
        "middle": (2 + z + e * (z - 2)) / z**3,
        "last": (-4 - 3 * z - z**2 + e * (4 - z)) / z**3,
    }
    means = {name: h * values.real.mean(1) for name, values in functions.items()}
    means |= {"whole_decay": np.exp(distinct), "half_decay": np.exp(distinct / 2)}
    return {name: values[places].reshape(linear.shape) for name, values in means.items()}


class Solver:
    """Steps of length `h` for states (…, field, z, y, x) in float64 on a periodic cube of edge `length`."""

    def __init__(self, size: int, length: float, h: float, reaction: Reaction):
        k = 2 * np.pi / length * np.fft.fftfreq(size, 1 / size)
        squares = k[:, None, None] ** 2 + k[:, None] ** 2 + k[: size // 2 + 1] ** 2
        loss = np.array([reaction.feed, reaction.feed + reaction.kill])
        diffusion = np.array([reaction.diffusion_u, reaction.diffusion_v])
        self.c = _coefficients(-diffusion[:, None, None, None] * squares - loss[:, None, None, None], h)
        self.size, self.feed = size, reaction.feed

    def _nonlinear(self, spectrum: np.ndarray) -> np.ndarray:
        state = fft.irfftn(spectrum, (self.size,) * 3, axes=(-3, -2, -1))
        u, v = state[..., 0, :, :, :], state[..., 1, :, :, :]
        product = u * v * v
        return fft.rfftn(np.stack([self.feed - product, product], -4), axes=(-3, -2, -1))

    def _step(self, spectrum: np.ndarray) -> np.ndarray:
        c = self.c
        n0 = self._nonlinear(spectrum)
        a = c["half_decay"] * spectrum + c["half"] * n0
        na = self._nonlinear(a)
        b = c["half_decay"] * spectrum + c["half"] * na
        nb = self._nonlinear(b)
        d = c["half_decay"] * a + c["half"] * (2 * nb - n0)
        nd = self._nonlinear(d)
        return c["whole_decay"] * spectrum + c["first"] * n0 + 2 * c["middle"] * (na + nb) + c["last"] * nd

    def __call__(self, state: np.ndarray, steps: int) -> np.ndarray:
        """The state after `steps` steps."""
        spectrum = fft.rfftn(np.asarray(state, np.float64), axes=(-3, -2, -1))
        for _ in range(steps):
            spectrum = self._step(spectrum)
        return fft.irfftn(spectrum, (self.size,) * 3, axes=(-3, -2, -1))
