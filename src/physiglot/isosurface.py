"""Shaded pictures of isosurfaces: parallel rays through a volume, each ending where it first meets the level.

Where a region above the level is cut by a face of the box, the cut is a flat cap.
"""

import numpy as np
from numba import njit

AZIMUTH, ELEVATION = np.deg2rad(35.0), np.deg2rad(25.0)
AMBIENT, CAP = 0.3, 1.0


def axes(azimuth: float = AZIMUTH, elevation: float = ELEVATION) -> np.ndarray:
    """Unit vectors in (z, y, x): to the right and up in the picture, and away from the eye."""
    c, s = np.cos(azimuth), np.sin(azimuth)
    right = np.array([0.0, c, -s])
    away = np.array([-np.sin(elevation), -np.cos(elevation) * s, -np.cos(elevation) * c])
    return np.stack([right, np.cross(away, right), away])


def reach(shape: tuple[int, ...]) -> float:
    """Half of the diagonal of the box, in cells: the picture spans from −reach to reach."""
    return float(np.sqrt(sum((n - 1) ** 2 for n in shape)) / 2)


def edges(shape: tuple[int, ...]) -> np.ndarray:
    """The twelve edges of the box in the picture, in cells: (12, 2 ends, right and up)."""
    half = (np.array(shape) - 1) / 2
    corners = np.array(np.meshgrid(*([-1, 1],) * 3, indexing="ij")).reshape(3, 8).T
    pairs = [(a, b) for a in range(8) for b in range(a) if np.sum(corners[a] != corners[b]) == 1]
    return np.stack([corners[[a, b]] * half for a, b in pairs]) @ axes()[:2].T


def shaded(volume: np.ndarray, level: float, size: int = 160) -> np.ndarray:
    """Brightness 0…1 (size, size) of the surface where `volume` (z, y, x) rises above `level`; NaN beside it."""
    picture = np.full((size, size), np.nan)
    _cast(np.ascontiguousarray(volume, dtype=np.float64), float(level), axes(), reach(volume.shape), picture)
    return picture


@njit(cache=True, error_model="numpy")
def _value(volume, z, y, x):
    """Trilinear interpolation inside the box."""
    i = min(max(int(z), 0), volume.shape[0] - 2)
    j = min(max(int(y), 0), volume.shape[1] - 2)
    k = min(max(int(x), 0), volume.shape[2] - 2)
    a, b, c = z - i, y - j, x - k
    low = (volume[i, j, k] * (1 - c) + volume[i, j, k + 1] * c) * (1 - b)
    low += (volume[i, j + 1, k] * (1 - c) + volume[i, j + 1, k + 1] * c) * b
    high = (volume[i + 1, j, k] * (1 - c) + volume[i + 1, j, k + 1] * c) * (1 - b)
    high += (volume[i + 1, j + 1, k] * (1 - c) + volume[i + 1, j + 1, k + 1] * c) * b
    return low * (1 - a) + high * a


@njit(cache=True, error_model="numpy")
def _inside(volume, z, y, x):
    n = volume.shape
    return 0 <= z <= n[0] - 1 and 0 <= y <= n[1] - 1 and 0 <= x <= n[2] - 1


@njit(cache=True, error_model="numpy")
def _brightness(volume, z, y, x, light):
    """Lambert's law, the normal from central differences over a cell, one-sided at the faces of the box."""
    n, h = volume.shape, 0.5
    dz = _value(volume, min(z + h, n[0] - 1.0), y, x) - _value(volume, max(z - h, 0.0), y, x)
    dy = _value(volume, z, min(y + h, n[1] - 1.0), x) - _value(volume, z, max(y - h, 0.0), x)
    dx = _value(volume, z, y, min(x + h, n[2] - 1.0)) - _value(volume, z, y, max(x - h, 0.0))
    norm = np.sqrt(dz * dz + dy * dy + dx * dx)
    cosine = -(dz * light[0] + dy * light[1] + dx * light[2]) / norm if norm > 0 else 0.0
    return AMBIENT + (0.9 - AMBIENT) * max(cosine, 0.0)


@njit(cache=True, error_model="numpy")
def _cast(volume, level, axes, reach, picture):
    size, step = picture.shape[0], 0.5
    right, up, away = axes[0], axes[1], axes[2]
    light = 0.35 * up - 0.45 * right - away
    light = light / np.sqrt((light**2).sum())
    for i in range(size):
        for j in range(size):
            b = reach * (1 - 2 * (i + 0.5) / size)
            a = reach * (2 * (j + 0.5) / size - 1)
            before, entered = 0.0, False
            for s in range(int(2 * reach / step) + 1):
                d = s * step - reach
                z = (volume.shape[0] - 1) / 2 + a * right[0] + b * up[0] + d * away[0]
                y = (volume.shape[1] - 1) / 2 + a * right[1] + b * up[1] + d * away[1]
                x = (volume.shape[2] - 1) / 2 + a * right[2] + b * up[2] + d * away[2]
                if not _inside(volume, z, y, x):
                    if entered:
                        break
                    continue
                value = _value(volume, z, y, x)
                if value >= level:
                    if not entered:
                        picture[i, j] = CAP
                        break
                    back = step * (value - level) / (value - before)
                    z, y, x = z - back * away[0], y - back * away[1], x - back * away[2]
                    picture[i, j] = _brightness(volume, z, y, x, light)
                    break
                before, entered = value, True
