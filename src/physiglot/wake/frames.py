"""What is saved of the wake: velocity and pressure on a Cartesian window, and the force on the cylinder."""

import numpy as np

from . import scheme

WINDOW = ((-2.0, 14.0), (-4.0, 4.0))  # x and y, in radii (Geneva and Zabaras 2022)


class Camera:
    """Looks at flows on `grid` through a window of `width` × `height` points, x ∈ [−2, 14], y ∈ [−4, 4]."""

    def __init__(self, grid: scheme.Grid, width: int, height: int):
        self.grid = grid
        self.x, self.y = (np.linspace(*side, n) for side, n in zip(WINDOW, (width, height), strict=True))
        self.rows = min(grid.radial, int(np.searchsorted(grid.r, 1.2 * np.hypot(14.0, 4.0))) + 4)
        self.spline = _spline(grid, self.rows, self.x, self.y)
        self.pressure_pivots = scheme.pivots(_pressure_diagonal(grid))
        theta = 2 * np.pi * np.arange(grid.angles) / grid.angles
        self.cos, self.sin = np.cos(theta), np.sin(theta)

    def velocity(self, stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cartesian velocity (member, row, θ) of the modes φ (member, row, m)."""
        grid, m = self.grid, np.arange(stream.shape[-1])
        radial = physical(1j * m * stream, grid.angles) + grid.free_stream[0][:, None] * self.cos
        slope = np.gradient(physical(stream, grid.angles), grid.h, axis=1, edge_order=2)
        tangential = -slope - grid.free_stream[1][:, None] * self.sin
        radial, tangential = radial / grid.r[:, None], tangential / grid.r[:, None]
        radial[:, 0], tangential[:, 0] = 0.0, 0.0
        return radial * self.cos - tangential * self.sin, radial * self.sin + tangential * self.cos

    def pressure(self, u: np.ndarray, v: np.ndarray, vorticity: np.ndarray, nu: np.ndarray) -> np.ndarray:
        """Modes (member, row, m) of the kinematic pressure: ∇²p = 2(u_x v_y − u_y v_x), p_ξ = −ν ω_θ at the wall.

        Each mode decays as r^−m beyond the last row; the mean is 0 there.
        """
        grid, m = self.grid, np.arange(vorticity.shape[-1])
        (u_xi, u_theta), (v_xi, v_theta) = (_slopes(field, grid.h) for field in (u, v))
        source = -2 * grid.h**2 * modes(u_xi * v_theta - u_theta * v_xi, len(m))
        source[:, 0] = grid.h * nu[:, None] * 1j * m * vorticity[:, 0]
        source[:, -1] = 0.0
        p = scheme.solve(self.pressure_pivots[:, None], source.swapaxes(0, 1)).swapaxes(0, 1)
        p[:, -1, 1:] = p[:, -2, 1:] * np.exp(-m[1:] * grid.h)
        return p

    def frame(self, vorticity: np.ndarray, stream: np.ndarray, nu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fields (member, [ux, uy, p], y, x) on the window and forces (member, [drag, lift]) from modes in columns.

        Forces are coefficients: per length, over ρU²/2 and the diameter. Points within the cylinder are 0.
        """
        vorticity, stream = self.grid.natural(vorticity), self.grid.natural(stream)
        u, v = self.velocity(stream)
        p = self.pressure(u, v, vorticity, nu)
        fields = np.stack([u, v, physical(p, self.grid.angles)], 1)
        return self.seen(fields), forces(p[:, 0, 1], vorticity[:, 0, 1], nu)

    def seen(self, fields: np.ndarray) -> np.ndarray:
        """Fields (…, row, θ) interpolated to the window (…, y, x) by cubic splines, periodic in θ."""
        from scipy.interpolate import make_interp_spline

        angles = self.grid.angles
        filtered = np.fft.rfft(fields[..., : self.rows, :])
        filtered *= 3 / (2 + np.cos(2 * np.pi * np.arange(filtered.shape[-1]) / angles))
        xi = self.grid.h * np.arange(self.rows)
        knots = make_interp_spline(xi, np.fft.irfft(filtered, angles), axis=-2, check_finite=False).c
        values = self.spline @ knots.reshape(self.rows, -1, angles).swapaxes(1, 2).reshape(self.rows * angles, -1)
        return values.T.reshape(*fields.shape[:-2], len(self.y), len(self.x))


def physical(series: np.ndarray, angles: int) -> np.ndarray:
    """Values at θ_j = 2πj/`angles` of modes c − is (…, m)."""
    scaled = series * (angles / 2)
    scaled[..., 0] *= 2
    return np.fft.irfft(scaled, angles)


def modes(values: np.ndarray, count: int) -> np.ndarray:
    """The inverse of `physical`, the first `count` modes."""
    series = np.fft.rfft(values)[..., :count] * (2 / values.shape[-1])
    series[..., 0] /= 2
    return series


def forces(pressure: np.ndarray, vorticity: np.ndarray, nu: np.ndarray) -> np.ndarray:
    """Drag and lift coefficients (member, 2) from the modes m = 1 at the wall: ∮(−p r̂ + ν ω θ̂) dθ."""
    drag = -pressure.real + nu * vorticity.imag
    lift = pressure.imag + nu * vorticity.real
    return np.pi * np.stack([drag, lift], 1)


def _slopes(field: np.ndarray, h: float) -> tuple[np.ndarray, np.ndarray]:
    """∂/∂ξ and ∂/∂θ of values (…, row, θ)."""
    angles = field.shape[-1]
    series = np.fft.rfft(field) * 1j * np.arange(angles // 2 + 1)
    return np.gradient(field, h, axis=-2, edge_order=2), np.fft.irfft(series, angles)


def _pressure_diagonal(grid: scheme.Grid) -> np.ndarray:
    """Diagonal (row, m); the row of the wall is halved, as its slope is given."""
    m = np.arange(grid.highest + 1)
    diagonal = np.broadcast_to(2 + (m * grid.h) ** 2, (grid.radial, len(m))).copy()
    diagonal[0] /= 2
    diagonal[-2, 1:] -= np.exp(-m[1:] * grid.h)
    diagonal[-1] = np.inf
    return diagonal


def _spline(grid: scheme.Grid, rows: int, x: np.ndarray, y: np.ndarray):
    """Sparse matrix (point of the window, coefficient): bicubic splines, 16 coefficients for a point."""
    from scipy.interpolate import BSpline, make_interp_spline
    from scipy.sparse import csr_array

    x, y = (a.ravel() for a in np.meshgrid(x, y))
    outside = np.flatnonzero(np.hypot(x, y) >= 1)
    xi, turn = np.log(np.hypot(x, y)[outside]), np.arctan2(y, x)[outside] * grid.angles / (2 * np.pi)
    knots = make_interp_spline(grid.h * np.arange(rows), np.zeros(rows)).t
    radial = BSpline.design_matrix(xi, knots, 3).tocoo()
    start, t = np.floor(turn).astype(int), turn - np.floor(turn)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * (t + t**2 - t**3), t**3]) / 6
    columns = [radial.col * grid.angles + (start[radial.row] + k - 1) % grid.angles for k in range(4)]
    values = [radial.data * weights[k, radial.row] for k in range(4)]
    points = np.tile(outside[radial.row], 4)
    shape = (len(x), rows * grid.angles)
    return csr_array((np.concatenate(values), (points, np.concatenate(columns))), shape=shape)
