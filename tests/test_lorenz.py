"""Lorenz-63 against exact properties and independent methods: specs/koopman.md §1.1, acceptance 1–6."""

import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import solve_ivp

from physiglot.systems import lorenz
from physiglot.systems.lorenz import Params, simulate, trajectories

SIGMA, RHO, BETA = 10.0, 28.0, 8 / 3
LYAPUNOV = 0.9056
MIRROR = np.array([-1.0, -1.0, 1.0])

# <z>, <x²>, <xy>, <z²> and their standard errors by `attractor_moments`: h = 0.0025, 20480 × 500 time units.
RECORDED = np.array([23.54967, 62.7991, 62.7990, 628.939])
RECORDED_ERROR = np.array([0.00028, 0.0008, 0.0008, 0.0083])


def starts(members, seed=0):
    return np.random.default_rng(seed).uniform(lorenz.LOWER, lorenz.UPPER, (members, 3))


def slope(state):
    """The right-hand side written once more, for states (3, …)."""
    x, y, z = state
    return np.array([SIGMA * (y - x), x * (RHO - z) - y, x * y - BETA * z])


def dop853(start, times):
    """Reference states (member, time, 3); the members are one big system with a common step."""

    def flat(_, state):
        return slope(state.reshape(3, -1)).ravel()

    first = np.asarray(start).T.ravel()
    solution = solve_ivp(flat, (0, times[-1]), first, "DOP853", times, rtol=3e-14, atol=1e-13)
    return solution.y.reshape(3, -1, len(times)).transpose(1, 2, 0)


def euler(start, steps, dt):
    states = [np.asarray(start).T]
    for _ in range(steps - 1):
        states.append(states[-1] + dt * slope(states[-1]))
    return np.array(states).transpose(2, 0, 1)


def valid_times(states, truth, dt):
    """Lyapunov times until the error first exceeds 0.4 standard deviations; the length if it never does."""
    spread = np.sqrt(((truth - truth.mean((0, 1))) ** 2).sum(-1).mean())
    wrong = np.sqrt(((states - truth) ** 2).sum(-1)) / spread > 0.4
    first = np.where(wrong.any(1), wrong.argmax(1), wrong.shape[1])
    return LYAPUNOV * dt * first


def relative_errors(states, truth):
    """Relative mean square error in the steps [0, 64), [64, 128), [128, 192)."""
    error = ((states - truth) ** 2).sum((0, 2)) / (truth**2).sum((0, 2))
    return error[:192].reshape(3, 64).mean(1)


def lyapunov_exponents(members=512, renormalisations=1600, h=0.005):
    """Exponents (3,) and the standard error of the first: tangent vectors carried by RK4, QR every 10 steps.

    The tangent steps take their midpoints from `trajectories`, saved every h/2. A member has 20 + 10 time
    units of spin-up and 80 of measurement.
    """
    state = trajectories(starts(members), 2, dt=20.0, substeps=4000)[:, -1]
    frame, sums = np.broadcast_to(np.eye(3), (members, 3, 3)), np.zeros((members, 3))
    for round_ in range(-200, renormalisations):
        path = trajectories(state, 21, dt=h / 2, substeps=1)
        for i in range(0, 20, 2):
            frame = tangent_step(frame, *(jacobian(path[:, i + j]) for j in range(3)), h)
        frame, triangle = np.linalg.qr(frame)
        sums += (round_ >= 0) * np.log(np.abs(np.diagonal(triangle, axis1=1, axis2=2)))
        state = path[:, -1]
    exponents = sums / (renormalisations * 10 * h)
    return exponents.mean(0), exponents[:, 0].std(ddof=1) / np.sqrt(members)


def jacobian(state):
    """Derivative (member, 3, 3) of the right-hand side at states (member, 3)."""
    x, y, z = state.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = [[-SIGMA * one, SIGMA * one, zero], [RHO - z, -one, -x], [y, x, -BETA * one]]
    return np.array(rows).transpose(2, 0, 1)


def tangent_step(frame, first, middle, last, h):
    k1 = first @ frame
    k2 = middle @ (frame + h / 2 * k1)
    k3 = middle @ (frame + h / 2 * k2)
    k4 = last @ (frame + h * k3)
    return frame + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def attractor_moments(h, seed, members=2048, time=200):
    """Means (member, 4) of z, x², xy, z² over `time` after 50 time units of spin-up: a block per member."""
    state = trajectories(starts(members, seed), 2, dt=50.0, substeps=round(50 / h))[:, -1]
    x, y, z = trajectories(state, 10 * time, dt=0.1, substeps=round(0.1 / h)).transpose(2, 0, 1)
    return np.stack([z, x * x, x * y, z * z], axis=-1).mean(1)


def bootstrap_error(blocks, draws=400):
    """Standard error of the mean over independent blocks (block, quantity), by resampling whole blocks."""
    rng = np.random.default_rng(0)
    means = [blocks[rng.integers(len(blocks), size=len(blocks))].mean(0) for _ in range(draws)]
    return np.std(means, axis=0, ddof=1)


def test_observed_order_is_four():
    """Largest component of the error at t = 1; the Euclidean norm has not settled (3.88, 3.67, 3.83)."""
    start = np.ones((1, 3))
    truth = dop853(start, [0, 1])[0, -1]
    errors = [np.abs(trajectories(start, 2, 1.0, n)[0, -1] - truth).max() for n in (200, 400, 800)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all((orders >= 3.7) & (orders <= 4.2)), orders


def test_valid_time_of_the_ground_truth():
    """Until when RK4 of dt/10 and dt/40 may be called the truth, against DOP853, in Lyapunov times."""
    start, times = starts(32, seed=1), 0.01 * np.arange(4001)
    truth = dop853(start, times)
    coarse = valid_times(trajectories(start, 4001, substeps=10), truth, 0.01)
    fine = valid_times(trajectories(start, 4001, substeps=40), truth, 0.01)
    assert coarse.min() >= 15 and coarse.mean() >= 19, (coarse.min(), coarse.mean())
    assert fine.mean() >= 24, fine.mean()


def test_largest_lyapunov_exponent():
    """0.9056 and, exactly, the constant contraction of volume −(σ + 1 + β); 4·10⁴ time units."""
    exponents, error = lyapunov_exponents()
    assert error < 0.002
    assert exponents[0] == pytest.approx(LYAPUNOV, abs=0.008)
    assert exponents.sum() == pytest.approx(-(SIGMA + 1 + BETA), abs=1e-4)


def test_attractor_means():
    """Two step sizes agree; the exact identities <x²> = <xy> = β<z> hold; the recorded values come back."""
    runs = [attractor_moments(h, seed) for h, seed in ((0.005, 1), (0.0025, 2))]
    means, errors = [run.mean(0) for run in runs], [bootstrap_error(run) for run in runs]
    assert np.all(np.abs(means[0] - means[1]) < 3 * np.hypot(*errors)), (means, errors)
    for run, mean, error in zip(runs, means, errors, strict=True):
        z, xx, xy, _ = run.T
        balances = np.stack([xx - xy, xy - BETA * z], axis=1)
        assert np.all(np.abs(balances.mean(0)) < 3 * bootstrap_error(balances)), balances.mean(0)
        assert np.all(np.abs(mean - RECORDED) < 4 * np.hypot(error, RECORDED_ERROR)), (mean, error)


def test_fixed_points_stay():
    c = np.sqrt(BETA * (RHO - 1))
    points = np.array([[c, c, RHO - 1], [-c, -c, RHO - 1], [0, 0, 0]])
    assert np.abs(trajectories(points, 2)[:, 1] - points).max() < 1e-12


def test_mirror_symmetry_is_bitwise():
    start = starts(50)
    assert np.array_equal(trajectories(start * MIRROR, 2000), trajectories(start, 2000) * MIRROR)


def test_one_step_of_rk4_and_of_euler_per_saved_step():
    """The self-consistency row. Rare members dominate a sum: the geometric mean of 16 sets of 256 members."""
    rows = []
    for seed in range(16):
        start = starts(256, seed)
        truth = trajectories(start, 192, substeps=40)
        rows.append(
            [relative_errors(s, truth) for s in (trajectories(start, 192, substeps=1), euler(start, 192, 0.01))]
        )
    rk4_row, euler_row = np.exp(np.log(rows).mean(0))
    assert np.all(np.abs(np.log10(rk4_row / [1.3e-9, 4.1e-9, 1.0e-8])) < 1), rk4_row
    assert euler_row == pytest.approx([0.0225, 0.317, 0.511], rel=0.1)


def test_one_step_is_classical_rk4():
    """Against the textbook formula, to rounding."""
    start, h = starts(100), 0.01
    u = start.T
    k1 = slope(u)
    k2 = slope(u + h / 2 * k1)
    k3 = slope(u + h / 2 * k2)
    k4 = slope(u + h * k3)
    expected = (u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)).T
    assert trajectories(start, 2, h, 1)[:, 1] == pytest.approx(expected, rel=1e-14, abs=1e-13)


def test_members_do_not_depend_on_their_companions():
    """Bitwise, in blocks that are full, short and of one member, and when continued from a saved state."""
    start = starts(2 * lorenz.LANES + 5)
    whole = trajectories(start, 100)
    for members in (1, lorenz.LANES - 1, lorenz.LANES, lorenz.LANES + 1):
        assert np.array_equal(trajectories(start[-members:], 100), whole[-members:])
    assert np.array_equal(trajectories(whole[:, 40], 60), whole[:, 40:])


def test_simulate_gives_the_contract():
    data = simulate(Params(steps=20, dt=0.02, substeps=3), 5, np.random.default_rng(1))
    assert data.state.dims == ("member", "time", "field") and data.state.shape == (5, 20, 3)
    assert data.state.dtype == np.float64 and list(data.field.values) == ["x", "y", "z"]
    assert data.time.values == pytest.approx(0.02 * np.arange(20))
    assert data.state.attrs["units"] == "1"
    assert {
        "sigma": 10.0,
        "rho": 28.0,
        "beta": 8 / 3,
        "dt": 0.02,
        "substeps": 3,
    }.items() <= data.attrs.items()
    first = np.random.default_rng(1).uniform((-20, -20, 10), (20, 20, 40), (5, 3))
    assert np.array_equal(data.state[:, 0], first)
    assert np.array_equal(data.state, trajectories(first, 20, 0.02, 3))


def test_parameters_reach_the_solver():
    """ρ < 1: every trajectory decays to the origin; σ and β change the paths."""
    rng = np.random.default_rng
    decayed = simulate(Params(rho=0.5, steps=2, dt=50.0, substeps=5000), 40, rng(0)).state[:, -1]
    assert np.abs(decayed).max() < 1e-8
    paths = [simulate(p, 4, rng(0)).state.values for p in (Params(), Params(sigma=9.0), Params(beta=2.5))]
    assert not np.allclose(paths[0], paths[1]) and not np.allclose(paths[0], paths[2])


def test_the_seed_decides():
    one, same, other = (simulate(Params(steps=50), 40, np.random.default_rng(s)).state for s in (7, 7, 8))
    assert one.values.tobytes() == same.values.tobytes()
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "bad",
    [
        {"dt": 0.0},
        {"dt": float("inf")},
        {"dt": "0.01"},
        {"sigma": -1.0},
        {"beta": 0.0},
        {"rho": float("nan")},
        {"steps": 0},
        {"steps": 2.5},
        {"substeps": 0},
        {"substep": 10},
    ],
)
def test_impossible_parameters_are_refused(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Params(**bad)


def test_a_diverging_run_says_so():
    with pytest.raises(FloatingPointError, match=r"lorenz: 3 of 3 trajectories are not finite .* smaller dt"):
        simulate(Params(dt=1.0, substeps=1), 3, np.random.default_rng(0))
    with pytest.raises(FloatingPointError, match="1 of 2"):
        trajectories(np.array([[1.0, 1.0, 1.0], [np.nan, 1.0, 1.0]]), 2)


def test_a_new_process_takes_the_kernel_from_the_cache():
    trajectories(np.ones((1, 3)), 2)
    code = (
        "import numpy; from physiglot.systems import lorenz; lorenz.trajectories(numpy.ones((1, 3)), 2);"
        "print(sum(lorenz._integrate.stats.cache_misses.values()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
