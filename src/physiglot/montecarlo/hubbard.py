"""Determinant quantum Monte Carlo of the half-filled repulsive Hubbard model on bipartite lattices, t = 1.

H = −t Σ_<ij>σ (c†_iσ c_jσ + h.c.) + U Σ_i (n_i↑ − ½)(n_i↓ − ½) (R. Blankenbecler, D. J. Scalapino, R. L. Sugar 1981).
The interaction becomes a field of ±1 at every site and slice of imaginary time, cosh λ = e^{ΔτU/2} (J. E. Hirsch
1983), with the symmetric splitting e^{−ΔτK/2} e^{−ΔτV} e^{−ΔτK/2}. At half filling G_↓ = 1 − ε G_↑ᵀ ε, ε = ±1 on the
two sublattices: one species is enough, and there is no sign problem. Finite temperature (`beta`), or the ground state
(`projection`, Θ): e^{−ΘH} on both sides of a Slater determinant, the Green's function taken in the middle.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numba import njit

from . import chains, lattices
from .green import advance, green, log_determinant, suffixes, update, wrap
from .philox import JIT, START, SWEEP, TWO, fill

LATTICES = ("honeycomb", "square", "chain")
TOGETHER = 8  # slices between two stable rebuilds, at most
WRAPPING = 14.0  # most that one group may amplify, as a logarithm
TOLERANCE = 1e-6
DIMERISATION = 1e-4


@dataclass
class Trajectory:
    """(chain, step, …) after each pass, G_↑ at the middle slice; errors are the largest of a chain, (chain)."""

    green: np.ndarray
    double_occupancy: np.ndarray
    kinetic: np.ndarray
    staggered: np.ndarray
    wrap_error: np.ndarray
    particle_hole_error: np.ndarray


@dataclass
class Setting:
    """What the chains of one lattice share: e^{∓ΔτK}, e^{∓ΔτK/2}, trial states or identities, growth of G in a wrap."""

    kinetic: np.ndarray
    inverse: np.ndarray
    half: np.ndarray
    half_inverse: np.ndarray
    right: np.ndarray
    left: np.ndarray
    growth: float
    trial: str


def hopping(lattice: str, size: int) -> np.ndarray:
    """K (site, site): −1 for each bond; two bonds between a pair of sites count twice."""
    table = lattices.neighbours(lattice, size)
    found = np.zeros((len(table), len(table)))
    np.add.at(found, (np.arange(len(table))[:, None], table), -1.0)
    return found


def sublattices(lattice: str, size: int) -> np.ndarray:
    """ε = ±1 (site)."""
    if lattice not in LATTICES:
        raise ValueError(f"lattice {lattice!r}: allowed, being bipartite: {', '.join(LATTICES)}.")
    return 1.0 - 2.0 * lattices.colouring(lattice, size)


def trial(lattice: str, size: int) -> tuple[np.ndarray, str]:
    """Occupied orbitals at U = 0, (site, N/2), and their name.

    Where the Fermi level is degenerate (honeycomb: size a multiple of 3), every bond from an even column to the right
    is stronger by 1e-4.
    """
    matrix, name = hopping(lattice, size), "free fermions"
    energies, orbitals = np.linalg.eigh(matrix)
    half = len(energies) // 2
    if energies[half] - energies[half - 1] < 1e-8:
        name = f"free fermions, dimerisation {DIMERISATION:g}"
        width = lattices.shape(lattice, size)[1]
        even = np.flatnonzero(np.arange(len(energies)) % width % 2 == 0)
        right = lattices.neighbours(lattice, size)[even, 1]
        for i, j in ((even, right), (right, even)):
            np.add.at(matrix, (i, j), -DIMERISATION)
        energies, orbitals = np.linalg.eigh(matrix)
        if energies[half] - energies[half - 1] < 1e-6:
            raise ValueError(f"size {size}: the trial state on the {lattice} lattice is degenerate; use another size.")
    return orbitals[:, :half].copy(), name


def slices_of(beta: float | None, projection: float | None, dtau: float) -> int:
    """Number of slices; `beta` or 2 · `projection` must be a multiple of Δτ."""
    if (beta is None) == (projection is None):
        raise ValueError(f"beta {beta} and projection {projection}: give one of them.")
    name, length = ("beta", beta) if beta is not None else ("projection", projection)
    assert length is not None
    slices = length * (1 if beta is not None else 2) / dtau
    if not (np.isfinite(slices) and round(slices) >= 2 and abs(slices - round(slices)) < 1e-6):
        raise ValueError(f"{name} {length}: with dtau {dtau} it makes {slices:g} slices; allowed: 2, 3, 4, …")
    return round(slices)


def prepare(lattice: str, size: int, dtau: float, projector: bool) -> Setting:
    sublattices(lattice, size)
    energies, orbitals = np.linalg.eigh(hopping(lattice, size))
    kinetic, inverse, half, half_inverse = (
        np.ascontiguousarray((orbitals * np.exp(-x * dtau * energies)) @ orbitals.T) for x in (1.0, -1.0, 0.5, -0.5)
    )
    left = right = np.eye(len(energies))
    name = "none"
    if projector:
        occupied, name = trial(lattice, size)
        left, right = (np.ascontiguousarray(np.linalg.qr(m @ occupied)[0]) for m in (half, half_inverse))
    return Setting(kinetic, inverse, half, half_inverse, right, left, 2 * dtau * float(energies[-1]), name)


def groups(slices: int, growth: float) -> np.ndarray:
    """Ends of the groups of slices between two rebuilds, the middle slice among them.

    At most 8 slices, and so few that wrapping by `growth` per slice amplifies rounding to 1e-9 at most.
    """
    together, middle = int(np.clip(WRAPPING / growth, 1, TOGETHER)), slices // 2
    parts = [np.linspace(a, b, -(-(b - a) // together) + 1).round() for a, b in ((0, middle), (middle, slices))]
    return np.unique(np.concatenate(parts)).astype(np.int64)


@njit(**JIT)
def flip_site(field, w, e, z, kinetic, right, left, ends, coupling, seed, number, sweep, attempt):
    """Metropolis of the field of a random site in all slices at once, in place; gives the suffixes of the field."""
    words = np.empty((4, 1), np.uint32)
    fill(words, attempt, sweep, number, TWO, seed)
    site = int(words[0, 0]) * field.shape[1] >> 32
    before, total = log_determinant(right, w[0], e[0], z[0]), field[:, site].sum()
    field[:, site] *= -1.0
    found = suffixes(left, field, kinetic, coupling, ends)
    change = 2.0 * (log_determinant(right, found[0][0], found[1][0], found[2][0]) - before + coupling * total)
    if np.log((words[1, 0] + 0.5) / 4294967296.0) < change:
        return found
    field[:, site] *= -1.0
    return w, e, z


@njit(**JIT)
def run(field, kinetic, inverse, right, left, ends, coupling, seed, number, unsaved, site_flips, out):
    """Passes over all slices of one chain, `field` (slice, site) in place; fills `out` (step, site, site).

    Returns the largest |G wrapped − G rebuilt|. A pass goes from the first slice to the last; G of the middle slice is
    taken after it, all slices being new.
    """
    slices, sites = field.shape
    columns, middle = right.shape[1], slices // 2
    words = np.empty((4, (slices * sites + 3) // 4), np.uint32)
    worst, centre = 0.0, 0
    w, e, z = suffixes(left, field, kinetic, coupling, ends)
    for sweep in range(unsaved + len(out)):
        for attempt in range(site_flips):
            w, e, z = flip_site(field, w, e, z, kinetic, right, left, ends, coupling, seed, number, sweep, attempt)
        fill(words, 0, sweep, number, SWEEP, seed)
        u, d, t = right, np.ones(columns), np.eye(columns)
        u_middle, d_middle, t_middle = u, d, t
        g = green(u, d, t, w[0], e[0], z[0])
        for k in range(len(ends) - 1):
            for slice_ in range(ends[k], ends[k + 1]):
                g = wrap(g, field[slice_], kinetic, inverse, coupling)
                update(g, field[slice_], coupling, words, slice_ * sites)
            u, d, t = advance(u, d, t, field[ends[k] : ends[k + 1]], kinetic, coupling, False)
            fresh = green(u, d, t, w[k + 1], e[k + 1], z[k + 1])
            error = np.abs(g - fresh).max()
            if not error <= worst:
                worst = error
            g = fresh
            if ends[k + 1] == middle:
                centre = k + 1
                u_middle, d_middle, t_middle = u, d, t
        w, e, z = suffixes(left, field, kinetic, coupling, ends)
        if sweep >= unsaved:
            out[sweep - unsaved] = green(u_middle, d_middle, t_middle, w[centre], e[centre], z[centre])
    return worst


@njit(**JIT)
def rebuilt(field, kinetic, right, left, ends, coupling):
    """G of the middle slice from the field alone, (site, site)."""
    w, e, z = suffixes(left, field, kinetic, coupling, ends)
    u, d, t = right, np.ones(right.shape[1]), np.eye(right.shape[1])
    k = 0
    while ends[k] < len(field) // 2:
        u, d, t = advance(u, d, t, field[ends[k] : ends[k + 1]], kinetic, coupling, False)
        k += 1
    return green(u, d, t, w[k], e[k], z[k])


def hot(slices: int, sites: int, seed: np.uint64, number: int) -> np.ndarray:
    """A random field ±1 (slice, site) of a chain."""
    words = np.empty((4, (slices * sites + 3) // 4), np.uint32)
    fill(words, 0, 0, number, START, seed)
    return (1.0 - 2.0 * (words.ravel()[: slices * sites] & 1)).reshape(slices, sites)


def checked(interactions: np.ndarray, dtau: float) -> np.ndarray:
    """U of the chains; U < 0 or Δτ U > 1 are a ValueError."""
    found = np.asarray(interactions, dtype=np.float64)
    wrong = found[~((found >= 0) & np.isfinite(found))]
    if len(wrong):
        raise ValueError(f"interaction {wrong[0]}: it must be finite and 0 or more (repulsive).")
    largest = found.max(initial=0.0)
    if dtau * largest > 1:
        raise ValueError(
            f"dtau {dtau}: times the interaction {largest:g} it is above 1; allowed: up to {1 / largest:.3g}."
        )
    if dtau * largest > 0.5:
        warnings.warn(
            f"dtau {dtau}: times the interaction {largest:g} it is above 0.5, and the Trotter error large", stacklevel=3
        )
    return found


def evolve(
    lattice: str,
    size: int,
    interactions: np.ndarray,
    seed: np.uint64,
    steps: int,
    *,
    beta: float | None = None,
    projection: float | None = None,
    dtau: float = 0.1,
    thermalisation: int = 0,
    site_flips: int = 0,
    entries: np.ndarray | None = None,
    threads: int | None = None,
) -> Trajectory:
    """One chain for each of `interactions`, from a random field; a step is a pass over all slices.

    Before each pass, `site_flips` random sites are tried with their field reversed in all slices: single flips are slow
    to reverse a moment at low temperature (R. T. Scalettar, R. M. Noack, R. R. P. Singh 1991).

    `entries` are those of the flattened G_↑ that are kept (all). Double occupancy, kinetic energy and
    S = Σ ε_i ε_j ⟨S^z_i S^z_j⟩ / N² are per site. Raises a RuntimeError if wrapped and rebuilt G differ by more than
    1e-6, or G_↓ from its own determinant and from particle–hole symmetry.
    """
    values = checked(interactions, dtau)
    setting, slices = prepare(lattice, size, dtau, projection is not None), slices_of(beta, projection, dtau)
    signs, matrix = sublattices(lattice, size), hopping(lattice, size)
    sites, shape = len(signs), (len(values), steps)
    kept = np.arange(sites**2) if entries is None else entries
    found = Trajectory(np.empty((*shape, len(kept))), *np.empty((3, *shape)), *np.empty((2, len(values))))

    def work(first: int, last: int) -> None:
        for k in range(first, last):
            field, coupling = hot(slices, sites, seed, k), float(np.arccosh(np.exp(0.5 * dtau * values[k])))
            out = np.empty((steps, sites, sites))
            shared = (setting.right, setting.left, groups(slices, setting.growth + 2 * coupling))
            found.wrap_error[k] = run(
                field, setting.kinetic, setting.inverse, *shared, coupling, seed, k, thermalisation, site_flips, out
            )
            down = rebuilt(field, setting.kinetic, *shared, -coupling)
            partner = np.eye(sites) - signs[:, None] * out[-1].T * signs
            found.particle_hole_error[k] = np.abs(down - partner).max()
            out = setting.half @ out @ setting.half_inverse
            found.green[k] = out.reshape(steps, -1)[:, kept]
            found.double_occupancy[k], found.kinetic[k], found.staggered[k] = measure(out, matrix, signs)

    chains.over_chains(work, len(values), threads=threads)
    _check(found)
    return found


def measure(g: np.ndarray, matrix: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Double occupancy, kinetic energy and staggered structure factor per site of G_↑ (step, site, site)."""
    sites = len(signs)
    diagonal = np.diagonal(g, axis1=1, axis2=2)
    double = (diagonal * (1 - diagonal)).mean(1)
    kinetic = -2 * (g * matrix).sum((1, 2)) / sites
    exchange = 2 * (np.eye(sites) - g.transpose(0, 2, 1)) * g * np.outer(signs, signs)
    staggered = (((1 - 2 * diagonal) @ signs) ** 2 + exchange.sum((1, 2))) / (4 * sites**2)
    return double, kinetic, staggered


def _check(found: Trajectory) -> None:
    for name, errors in (
        ("wrapped and rebuilt G", found.wrap_error),
        ("G↓ and its mirror image", found.particle_hole_error),
    ):
        if not np.all(errors <= TOLERANCE):
            worst = errors[~(errors <= TOLERANCE)][0]
            raise RuntimeError(f"{name} differ by {worst:.1e}, more than {TOLERANCE:g}: use a smaller dtau.")
