"""Every dynamics of Ising and Potts: transition matrices, exact energies, identities, limits; specs/phases.md §12."""

import numpy as np
import pytest
from scipy.stats import chi2

from physiglot.montecarlo import autocorrelation, chains, exact, groups, ising, lattices, multispin, potts, random_site
from physiglot.systems.ising import Params, simulate

SEED = np.uint64(11)
LOCAL = ("metropolis_random_site", "metropolis_sequential", "metropolis_checkerboard", "heat_bath", "multispin")
COPIES = 2048


def evolve(lattice, size, temperatures, steps=1, seed=SEED, **options):
    return ising.evolve(lattice, size, np.asarray(temperatures, float), seed, steps, **options)


# --- one sweep as a transition matrix ----------------------------------------------------------


def boltzmann(lattice: str, size: int, temperature: float) -> np.ndarray:
    """Probability of each state of a lattice of at most 8 sites, the state's number being its packed byte."""
    count = lattices.sites(lattice, size)
    spins = chains.unpack(np.arange(2**count, dtype=np.uint8)[:, None], count)
    energy = -sum(spins[:, a].astype(int) * spins[:, b] for a, b in lattices.bonds(lattice, size))
    weight = np.exp(-energy / temperature)
    return weight / weight.sum()


def one_sweep(lattice: str, size: int, temperature: float, dynamics: str, start: np.ndarray) -> np.ndarray:
    """Counts (state, state after one sweep) of one chain per start."""
    states, heat = 2 ** lattices.sites(lattice, size), np.full(len(start), temperature)
    after = evolve(lattice, size, heat, start=start[:, None], dynamics=dynamics).states[:, 0, 0]
    return np.bincount(start.astype(int) * states + after, minlength=states**2).reshape(states, states)


def equilibrium(weight: np.ndarray, members: int = 2**16) -> np.ndarray:
    return np.random.default_rng(2).choice(len(weight), members, p=weight).astype(np.uint8)


@pytest.mark.parametrize(
    "dynamics, lattice, size",
    [(d, n, s) for d in ising.DYNAMICS for n, s in (("square", 2), ("honeycomb", 2), ("chain", 6))
     if n != "chain" or d not in ("multispin", "metropolis_sequential")],
)  # fmt: skip
def test_a_sweep_leaves_the_boltzmann_distribution(dynamics, lattice, size):
    """Chains that start in equilibrium are in equilibrium after a sweep, by χ² over the states; and they have moved."""
    weight = boltzmann(lattice, size, 2.7)
    start = equilibrium(weight)
    counts, expected = one_sweep(lattice, size, 2.7, dynamics, start).sum(0), weight * len(start)
    many = expected > 5
    score = ((counts - expected) ** 2 / expected)[many].sum()
    assert score < chi2.ppf(1 - 1e-4, many.sum()), (score, many.sum())


@pytest.mark.parametrize("dynamics", ["metropolis_random_site", "swendsen_wang", "wolff"])
def test_detailed_balance(dynamics):
    """In equilibrium, s → s' is as frequent as s' → s, for the dynamics whose sweep is reversible; and not all stay."""
    counts = one_sweep("square", 2, 3.0, dynamics, equilibrium(boltzmann("square", 2, 3.0)))
    i, j = np.triu_indices(16, 1)
    there, back = counts[i, j], counts[j, i]
    seen = there + back > 20
    score = (there - back)[seen] ** 2 / (there + back)[seen]
    assert seen.sum() >= 8 and score.sum() < chi2.ppf(1 - 1e-4, seen.sum())


def test_the_random_site_sweep_is_the_matrix_of_its_attempts():
    """P of one attempt from the acceptance table, to the power of N attempts, against counts by χ²."""
    lattice, size, temperature = "square", 2, 3.0
    table, accept = lattices.neighbours(lattice, size), random_site.thresholds(np.array([temperature]), 4)[0] / 2.0**32
    attempt = np.zeros((16, 16))
    for s in range(16):
        for i in range(4):
            up = sum(s >> j & 1 for j in table[i])
            p = accept[8 * (s >> i & 1) + up] / 4
            attempt[s, s ^ 1 << i] += p
            attempt[s, s] += 0.25 - p
    expected = np.linalg.matrix_power(attempt, 4) * COPIES
    start = np.repeat(np.arange(16, dtype=np.uint8), COPIES)
    counts = one_sweep(lattice, size, temperature, "metropolis_random_site", start)
    assert not counts[expected == 0].any()
    many = expected > 5
    score = ((counts - expected) ** 2 / np.where(many, expected, 1))[many]
    assert score.sum() < chi2.ppf(1 - 1e-4, many.sum() - 16)


# --- exact energies ----------------------------------------------------------------------------


@pytest.mark.parametrize("dynamics", ising.DYNAMICS)
def test_energies_of_enumerated_lattices(dynamics):
    """<e>, <|m|> and <m²> within 4 σ, square 4 × 4 at T = 2, T_c and 3; τ_int-aware."""
    for temperature in (2.0, exact.CRITICAL["square"], 3.0):
        run = evolve("square", 4, np.full(64, temperature), 1000, dynamics=dynamics, thermalisation=100, keep=False)
        every = exact.enumerated("square", 4, temperature)
        measured = {"energy": run.energy, "absolute": abs(run.magnetisation), "square": run.magnetisation**2}
        for name, series in measured.items():
            assert abs(autocorrelation.z_score(series, every[name])) < 4, (temperature, name)
        if dynamics in potts.CLUSTER:
            assert abs(autocorrelation.z_score(run.cluster, every["square"])) < 4


@pytest.mark.parametrize("dynamics", [d for d in ising.DYNAMICS if d != "multispin"])
def test_energies_of_other_lattices(dynamics):
    rings = () if dynamics == "metropolis_sequential" else (("chain", 12, 1.5),)
    for lattice, size, temperature in (("triangular", 3, 4.0), ("honeycomb", 3, 2.0), *rings):
        run = evolve(lattice, size, np.full(32, temperature), 1000, dynamics=dynamics, thermalisation=100, keep=False)
        expected = exact.enumerated(lattice, size, temperature)["energy"]
        assert abs(autocorrelation.z_score(run.energy, expected)) < 4, lattice


@pytest.mark.parametrize("planes", [8, 10])
@pytest.mark.parametrize("lattice, size", [("square", 16), ("triangular", 6), ("honeycomb", 4)])
def test_multispin_is_exact_at_any_number_of_planes(lattice, size, planes):
    """512 independent chains at each of five temperatures: 3.5 σ of the exact torus; every chain ends elsewhere."""
    count, steps = lattices.sites(lattice, size), 200
    for temperature in np.array([0.8, 0.95, 1.0, 1.1, 1.6]) * exact.CRITICAL[lattice]:
        states, seen = np.empty((512, 1, -(-count // 8)), np.uint8), np.empty((512, steps, 3))
        start = ising.begun("hot", 512, count, SEED, 0)
        options = {"sweeps": 2, "thermalisation": 200, "first": 0, "threads": 1, "planes": planes}
        groups.evolve(lattice, size, np.full(512, temperature), SEED, start, states, seen, **options)
        kaufman = exact.kaufman(size, size, 1 / temperature)[1]
        known = kaufman if lattice == "square" else exact.torus(lattice, size, temperature)
        mean = seen[..., 0].mean(1)
        assert abs(mean.mean() - known) < 3.5 * mean.std() / np.sqrt(512), (temperature, mean.mean(), known)


@pytest.mark.parametrize("lattice, size", [("square", 8), ("triangular", 6), ("honeycomb", 4)])
def test_chains_in_torch(lattice, size):
    """On the CPU: exact energies at three temperatures, observables of the stored bits, the seed decides."""
    for temperature in np.array([0.8, 1.0, 1.6]) * exact.CRITICAL[lattice]:
        options = {"dynamics": "metropolis_checkerboard", "device": "cpu", "thermalisation": 150}
        run = evolve(lattice, size, np.full(256, temperature), 100, **options)
        kaufman = exact.kaufman(size, size, 1 / temperature)[1]
        known = kaufman if lattice == "square" else exact.torus(lattice, size, temperature)
        mean = run.energy.mean(1)
        assert abs(mean.mean() - known) < 3.5 * mean.std() / 16, temperature
    table = lattices.neighbours(lattice, size)
    spins = chains.unpack(run.states, len(table)).astype(int)
    assert run.energy == pytest.approx(-(spins[..., None] * spins[..., table]).sum(-1).mean(-1) / 2, abs=1e-5)
    assert run.flips[:, 1:] == pytest.approx((spins[:, 1:] != spins[:, :-1]).mean(-1), abs=1e-6)
    again = evolve(lattice, size, np.full(256, temperature), 100, **options)
    assert np.array_equal(again.states, run.states)
    with pytest.raises(ValueError, match="dynamics 'wolff'"):
        evolve(lattice, size, [1.0], dynamics="wolff", device="cpu")


def test_multispin_acceptance_is_exact():
    """Planes and rare events together give e^(−ΔE/T) to 2⁻⁵¹, from T = 0 to ∞."""
    temperatures = np.resize([0.0, 0.05, 1.0, 2.269, 5.0, 100.0, 5e3, 1e9, np.inf], 512)
    for planes in (6, 8, 10):
        for degree in (3, 4, 6):
            bits, again, _ = multispin.acceptance(temperatures, degree, planes)
            digits = np.unpackbits(bits.view(np.uint8), bitorder="little").reshape(11, 3, 512).astype(float)
            p = digits[0]
            for j in range(1, 11):
                p = p / 2 + digits[j] / 2  # u < m decided by the last bit that differs
            rare = 0.5**planes
            with np.errstate(divide="ignore", invalid="ignore"):
                change = 2.0 * (degree - 2 * np.arange(3))[:, None]
                expected = np.where(change > 0, np.exp(-change / temperatures), 1)
            assert (1 - rare) * p + rare * again / 2.0**51 == pytest.approx(expected, abs=1e-14)


def test_multispin_events_are_binomial():
    """The number of events in a block of 8192 spins has mean and variance of a binomial, and all places are used."""
    _, again, events = multispin.acceptance(np.full(512, 2.0), 4)
    state, mask = np.array([3, 1, 4, 1], np.uint64), np.zeros((4, 128), np.uint64)
    for _ in range(100):
        multispin._scalar(state)
    counts, used = [], np.zeros(128, np.uint64)
    for _ in range(20000):
        mask[:] = 0
        multispin._draw_events(mask, again, events, state)
        counts.append(np.bitwise_count(mask[0]).sum())
        used |= mask[0]
    assert abs(np.mean(counts) - 8) < 4 * np.sqrt(8 / 20000) and np.var(counts) == pytest.approx(8, rel=0.05)
    assert np.bitwise_count(used).sum() == 8192


@pytest.mark.parametrize("dynamics", ising.DYNAMICS)
@pytest.mark.parametrize("lattice, size", [("square", 6), ("triangular", 6), ("honeycomb", 5)])
def test_observables_and_reproducibility(dynamics, lattice, size):
    """Observables of the bits; one chain alone, or in two threads, is the chain of the batch."""
    temperatures = np.linspace(0, 5, 5)
    run = evolve(lattice, size, temperatures, 3, dynamics=dynamics, sweeps=2, thermalisation=1, threads=1)
    table = lattices.neighbours(lattice, size)
    spins = chains.unpack(run.states, len(table)).astype(int)
    assert run.energy == pytest.approx(-(spins[..., None] * spins[..., table]).sum(-1).mean(-1) / 2, abs=1e-12)
    assert run.magnetisation == pytest.approx(spins.mean(-1), abs=1e-12)
    assert run.flips[:, 1:] == pytest.approx((spins[:, 1:] != spins[:, :-1]).mean(-1), abs=1e-12)
    two = evolve(lattice, size, temperatures, 3, dynamics=dynamics, sweeps=2, thermalisation=1, threads=2)
    assert all(np.array_equal(a, b) for a, b in zip(run, two, strict=True))
    one = evolve(lattice, size, temperatures[3:4], 3, dynamics=dynamics, sweeps=2, thermalisation=1, first=3)
    assert np.array_equal(one.states[0], run.states[3])
    last = evolve(lattice, size, temperatures, 3, dynamics=dynamics, sweeps=2, thermalisation=1, keep=False)
    assert np.array_equal(last.states[:, 0], run.states[:, -1]) and np.array_equal(last.energy, run.energy)


def test_chains_across_groups():
    """Chains 500 … 529 lie in two groups of multispin."""
    temperatures = np.linspace(1, 4, 1030)
    whole = evolve("square", 4, temperatures, 2, dynamics="multispin", threads=2)
    part = evolve("square", 4, temperatures[500:530], 2, dynamics="multispin", first=500)
    assert np.array_equal(part.states, whole.states[500:530]) and np.array_equal(part.energy, whole.energy[500:530])


@pytest.mark.parametrize("dynamics", LOCAL)
def test_limits_of_temperature(dynamics):
    """T = 0 never climbs and freezes towards −2; T = ∞ has e = 0, and no two chains meet within 60 sweeps."""
    cold = evolve("square", 16, np.zeros(64), 60, dynamics=dynamics)
    assert (np.diff(cold.energy) <= 0).all() and cold.energy[:, -1].mean() < -1.8
    hot = evolve("square", 16, np.full(64, np.inf), 60, dynamics=dynamics, keep=False, start="hot")
    assert abs(hot.energy[:, -1].mean()) < 4 * np.sqrt(2 / 256 / 64)
    spins = chains.unpack(hot.states[:, 0], 256).astype(float)
    overlap = (spins @ spins.T / 256)[np.triu_indices(64, 1)]
    assert len(np.unique(hot.states[:, 0], axis=0)) == 64 and overlap.std() == pytest.approx(1 / 16, rel=0.1)


# --- Potts -------------------------------------------------------------------------------------


def potts_exact(q: int, temperature: float) -> tuple[float, float]:
    """Energy per site and <(q n_max/N − 1)/(q − 1)> of the square 3 × 3 torus, by enumeration."""
    colours = np.arange(q**9)[:, None] // q ** np.arange(9) % q
    energy = -sum((colours[:, a] == colours[:, b]).astype(int) for a, b in lattices.bonds("square", 3))
    most = np.stack([(colours == c).sum(1) for c in range(q)]).max(0)
    weight = np.exp(-(energy - energy.min()) / temperature)
    return weight @ energy / weight.sum() / 9, weight @ ((q * most / 9 - 1) / (q - 1)) / weight.sum()


@pytest.mark.parametrize("q", [3, 4])
@pytest.mark.parametrize("dynamics", ["metropolis_random_site", "metropolis_sequential", *potts.CLUSTER])
def test_potts_energies(dynamics, q):
    """Dynamics without colours of sites, which the torus of 3 × 3 has not; the others are tested below."""
    temperature = exact.potts_critical(q)
    run = potts.evolve("square", 3, np.full(64, temperature), SEED, 1000, q=q, dynamics=dynamics, thermalisation=100)
    energy, order = potts_exact(q, temperature)
    assert abs(autocorrelation.z_score(run.energy, energy)) < 4
    assert abs(autocorrelation.z_score(run.magnetisation, order)) < 4


@pytest.mark.parametrize("dynamics", potts.DYNAMICS)
def test_a_potts_sweep_leaves_the_distribution(dynamics):
    """q = 3 on the honeycomb of 2 × 2 cells, all 6561 states, weighted by their counts as starts."""
    q, lattice, temperature, members = 3, "honeycomb", 0.7, 40000
    colours = (np.arange(q**8)[:, None] // q ** np.arange(8) % q).astype(np.uint8)
    energy = -sum((colours[:, a] == colours[:, b]).astype(int) for a, b in lattices.bonds(lattice, 2))
    weight = np.exp(-energy / temperature)
    weight /= weight.sum()
    start = np.random.default_rng(1).choice(len(weight), members, p=weight)
    after = potts.evolve(
        lattice, 2, np.full(members, temperature), SEED, 1, q=q, dynamics=dynamics, start=colours[start]
    )
    assert abs(autocorrelation.z_score(after.energy, weight @ energy / 8)) < 4
    number = (after.states[:, 0].astype(int) * q ** np.arange(8)).sum(1)
    counts, many = np.bincount(number, minlength=len(weight)), weight * members > 5
    score = ((counts - weight * members) ** 2 / (weight * members))[many].sum()
    assert score < chi2.ppf(1 - 1e-4, many.sum())
    assert (after.flips > 0).mean() > 0.2


def test_potts_with_two_colours_is_ising():
    """The energy −J Σ δ at T is the Ising energy at 2 T, shifted."""
    run = potts.evolve("square", 4, np.full(64, 1.25), SEED, 500, q=2, dynamics="heat_bath", thermalisation=50)
    expected = (exact.enumerated("square", 4, 2.5)["energy"] - 2) / 2
    assert abs(autocorrelation.z_score(run.energy, expected)) < 4


# --- what is refused ---------------------------------------------------------------------------


def test_impossible_dynamics_are_refused():
    for options, words in (
        ({"dynamics": "glauber"}, "dynamics 'glauber'"),
        ({"dynamics": "multispin", "lattice": "chain"}, "multispin"),
        ({"dynamics": "metropolis_sequential", "lattice": "chain"}, "metropolis_sequential"),
        ({"dynamics": "heat_bath", "size": 5}, "size 5.*even"),
        ({"dynamics": "multispin", "lattice": "triangular", "size": 8}, "size 8.*multiple of 3"),
    ):
        with pytest.raises(ValueError, match=words):
            evolve(**{"lattice": "square", "size": 6, "temperatures": [1.0], **options})
    with pytest.raises(ValueError, match="q 1"):
        potts.evolve("square", 4, np.ones(1), SEED, 1, q=1)


def test_cluster_sizes_are_in_the_data_set():
    params = Params(size=8, dynamics="wolff", steps=3, store="none", temperatures=[2.0, 3.0])
    data = simulate(params, 4, np.random.default_rng(0))
    assert data.cluster.dims == ("member", "time") and (data.cluster > 0).all()
    assert "cluster" not in simulate(Params(size=8, steps=2), 2, np.random.default_rng(0))
