"""Equal-time Green's functions of fermions in a field, from long products of matrices whose scales never mix.

A product of slices is kept as U diag(d) T with U orthogonal, the scales in d alone and T of order one (E. Y. Loh Jr.
and J. E. Gubernatis 1992). A slice is B = e^{λ diag(s)} e^{−ΔτK}. `prefix` is B_l … B_1, `suffix` the transpose of
B_M … B_{l+1}; with a trial state of n < N columns both are N × n, and G sees their U alone.
"""

import numpy as np
from numba import njit

from .philox import JIT


@njit(**JIT)
def multiply(a, b):
    """a b, summed in one order whatever the number of threads of BLAS."""
    out = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            factor = a[i, k]
            for j in range(b.shape[1]):
                out[i, j] += factor * b[k, j]
    return out


@njit(**JIT)
def separate(a, t):
    """U, d, T with U diag(d) T = a t, by a QR decomposition of `a` with its columns ordered by norm."""
    columns = a.shape[1]
    norms = np.zeros(columns)
    for i in range(a.shape[0]):
        for k in range(columns):
            norms[k] -= a[i, k] * a[i, k]
    order = np.argsort(norms)
    u, r = np.linalg.qr(np.ascontiguousarray(a[:, order]))
    u = np.ascontiguousarray(u)
    d = np.empty(columns)
    out = np.zeros_like(t)
    for i in range(columns):
        d[i] = abs(r[i, i])
        for k in range(i, columns):
            factor = r[i, k] / d[i]
            for j in range(columns):
                out[i, j] += factor * t[order[k], j]
    return u, d, out


@njit(**JIT)
def advance(u, d, t, field, kinetic, coupling, transposed):
    """U diag(d) T times the slices of `field` (slice, site), or times their transposes from the last to the first."""
    slices = len(field)
    for step in range(slices):
        spins = field[slices - 1 - step] if transposed else field[step]
        scale = np.exp(coupling * spins)
        if not transposed:
            u = multiply(kinetic, u) * scale.reshape(-1, 1)
        else:
            u = multiply(kinetic, u * scale.reshape(-1, 1))
    return separate(u * d, t)


@njit(**JIT)
def green(u, d, t, w, e, z):
    """G = (1 + prefix · suffixᵀ)⁻¹ at finite temperature, 1 − R (L R)⁻¹ L with a trial state, (site, site)."""
    sites, columns = u.shape
    overlap = multiply(np.ascontiguousarray(u.T), w)
    if columns < sites:
        inner = np.ascontiguousarray(overlap.T)
        return np.eye(sites) - multiply(u, np.linalg.solve(inner, np.ascontiguousarray(w.T)))
    inner = multiply(t, np.ascontiguousarray(z.T))
    right = np.ascontiguousarray(u.T)
    for i in range(sites):
        for j in range(sites):
            large, small = max(d[i], 1.0), min(d[i], 1.0)
            inner[i, j] = overlap[i, j] / (large * max(e[j], 1.0)) + small * inner[i, j] * min(e[j], 1.0)
            right[i, j] /= large
    return multiply(w / np.maximum(e, 1.0), np.linalg.solve(inner, right))


@njit(**JIT)
def log_determinant(u, w, e, z):
    """ln |det (1 + suffixᵀ)|, or ln |det (L R)| of trial states `u` and suffix; the prefix is empty."""
    overlap = multiply(np.ascontiguousarray(u.T), w)
    found, columns = 0.0, len(e)
    for j in range(columns):
        found += np.log(e[j])
        if columns == len(u):
            for i in range(columns):
                overlap[i, j] = (overlap[i, j] / e[j] if e[j] > 1.0 else overlap[i, j]) + z[j, i] * min(e[j], 1.0)
            found -= min(np.log(e[j]), 0.0)
    return found + np.linalg.slogdet(overlap)[1]


@njit(**JIT)
def suffixes(first, field, kinetic, coupling, ends):
    """U, d, T of every suffix, the k-th from slice ends[k] on; `first` is the left trial state, or the identity."""
    sites, columns = first.shape
    groups = len(ends) - 1
    w, e, z = (
        np.empty((groups + 1, sites, columns)),
        np.empty((groups + 1, columns)),
        np.empty((groups + 1, columns, columns)),
    )
    w[groups], e[groups], z[groups] = first, np.ones(columns), np.eye(columns)
    for k in range(groups - 1, -1, -1):
        part = field[ends[k] : ends[k + 1]]
        w[k], e[k], z[k] = advance(w[k + 1], e[k + 1], z[k + 1], part, kinetic, coupling, True)
    return w, e, z


@njit(**JIT)
def wrap(g, spins, kinetic, inverse, coupling):
    """B G B⁻¹: the Green's function one slice later."""
    scale = np.exp(coupling * spins)
    return multiply(multiply(kinetic, g), inverse) * scale.reshape(-1, 1) / scale


@njit(**JIT)
def update(g, spins, coupling, words, first):
    """Metropolis over the field of one slice; G and `spins` in place, by a rank-1 update for each flip.

    Particle–hole symmetry makes the determinant of ↓ that of ↑ times e^{−λ Σ s}: the ratio is a square, never negative.
    """
    sites = len(spins)
    for i in range(sites):
        k = first + i
        uniform = (words[k & 3, k >> 2] + 0.5) / 4294967296.0
        gamma = np.exp(-2.0 * coupling * spins[i]) - 1.0
        ratio = 1.0 + gamma * (1.0 - g[i, i])
        if uniform * (gamma + 1.0) >= ratio * ratio:
            continue
        spins[i] = -spins[i]
        row = -g[i].copy()
        row[i] += 1.0
        row *= gamma / ratio
        for j in range(sites):
            factor = g[j, i]
            for m in range(sites):
                g[j, m] -= factor * row[m]
