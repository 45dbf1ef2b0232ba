"""The cylinder wake: the discrete scheme, the published forces and frequencies, and what its window shows."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from physiglot import wake_metrics
from physiglot.systems import cylinder
from physiglot.wake import frames, scheme, stepper, tensors

SMALL = {"radial": 64, "angles": 64, "r_out": 40.0, "symmetric": 5.0, "steps": 6}
DEMO = scheme.Grid(96, 96, 60.0)


@pytest.fixture(scope="module")
def wake():
    """Re 200 from the strong kick until the wake is periodic: frames, wall forces, x, y."""
    state, forces, axes = cylinder.film(cylinder.Params(steps=320), np.array([2 / 200]))
    return state[0], forces[0], *axes


# --- the discrete equations --------------------------------------------------------------------


def test_modes_and_columns_are_inverse():
    series = np.random.default_rng(0).normal(size=(2, 5, DEMO.highest + 1)) + 0j
    series[..., 1:] += 1j
    assert np.array_equal(DEMO.natural(DEMO.columns(series)), series)
    assert np.allclose(frames.modes(frames.physical(series, 96), DEMO.highest + 1), series)


def test_the_poisson_equation_is_solved_with_its_exact_exterior():
    """ω = cos 2θ (r² − 1) e^−r² against the integral over Green's function; half the step, a quarter of the error."""
    errors = []
    fine = np.exp(np.linspace(0, np.log(60), 20001))
    weight = (fine**2 - 1) * np.exp(-(fine**2)) * fine**2
    for radial in (96, 191):
        grid = scheme.Grid(radial, 32, 60.0)
        source = (grid.r**2 - 1) * np.exp(-(grid.r**2))
        right = np.zeros((radial, len(grid.m)))
        right[1:-1] = (grid.r[1:-1, None] * grid.h) ** 2 * source[1:-1, None]
        found = scheme.solve(scheme.pivots(scheme.stream_diagonal(grid)), right)[:, grid.m == 2][:, 0]
        at = [20, 40, 60] if radial == 96 else [40, 80, 120]
        near, far = (f(grid.r[at, None], fine) for f in (np.minimum, np.maximum))
        exact = np.trapezoid(np.sinh(2 * np.log(near)) * far**-2.0 / 2 * weight, np.log(fine))
        errors.append(np.abs(found[at] - exact).max())
    assert errors[0] < 1e-3 and errors[0] / errors[1] == pytest.approx(4, rel=0.15)


def test_there_is_no_slip_after_any_step():
    flow = stepper.Flow(DEMO, np.array([2 / 100]), 0.01)
    for steps in (1, 1, 30):
        flow.advance(np.full(steps, 0.2))
        slope = np.tensordot(scheme.WALL_SLOPE / DEMO.h, flow.stream[0, :5], 1)
        slope[1, DEMO.half] += 2.0
        slope[0, 0] = 0.0  # the mean stream function has no slope by the way it is summed
        assert np.abs(slope).max() < 1e-11


def test_an_impulsive_start_is_rayleighs_layer():
    """Before anything is carried along the drag is Stokes's: transformed in time 4πν K₁(s)/(s K₀(s)), s = √(p/ν).

    Its first terms are 4√(πν/t) + 2πν; the second is the curvature of the wall.
    """
    nu, time, step = 0.01, 0.05, 0.0005
    flow = stepper.Flow(scheme.Grid(512, 32, 40.0), np.array([nu]), step)
    flow.advance(np.zeros(round(time / step)))
    drag = frames.Camera(flow.grid, 16, 8).frame(flow.vorticity, flow.stream, flow.nu)[1][0, 0]
    assert drag == pytest.approx(4 * np.sqrt(np.pi * nu / time) + 2 * np.pi * nu, rel=0.008)


def test_a_flow_without_a_kick_stays_symmetric():
    flow = stepper.Flow(scheme.Grid(64, 64, 40.0), np.array([2 / 200]), 0.01)
    flow.advance(np.zeros(500))
    assert np.all(flow.vorticity[:, :, 0] == 0) and np.all(flow.stream[:, :, 0] == 0)
    fields, forces = frames.Camera(flow.grid, 64, 32).frame(flow.vorticity, flow.stream, flow.nu)
    even = np.array([1, -1, 1])[:, None, None]
    assert np.abs(fields[0] - even * fields[0, :, ::-1]).max() < 1e-10 and abs(forces[0, 1]) < 1e-12


def test_numba_and_torch_give_the_same_fields():
    nu = 2 / np.array([60.0, 250.0])
    ours, theirs = (cylinder.film(cylinder.Params(**SMALL, backend=b), nu) for b in ("numba", "torch"))
    assert np.abs(ours[0] - theirs[0]).max() < 1e-6
    assert np.abs(ours[1] - theirs[1]).max() < 1e-11


def test_the_reduction_solves_a_tridiagonal_system():
    rng = np.random.default_rng(0)
    diagonal, b = 2 + rng.uniform(size=(3, 37, 1, 4)), rng.normal(size=(3, 37, 2, 4))
    found = tensors.Flow._solved(tensors._reduction(diagonal, "cpu"), torch.as_tensor(b)).numpy()
    expected = np.stack([scheme.solve(scheme.pivots(d)[:, [0, 0]], c) for d, c in zip(diagonal, b, strict=True)])
    assert np.abs(found - expected).max() < 1e-12


# --- the physics -------------------------------------------------------------------------------


def test_the_steady_wake_at_reynolds_40():
    """Dennis and Chang 1970: drag 1.52."""
    forces = cylinder.film(cylinder.Params(steps=60, kick=0.0), np.array([2 / 40]))[1][0]
    assert forces[-1, 0] == pytest.approx(1.53, abs=0.03) and np.abs(forces[:, 1]).max() < 1e-12
    assert abs(forces[-1, 0] - forces[-11, 0]) < 1e-2


def test_the_vortex_street_at_reynolds_200(wake):
    """Frequency and drag within the tolerances of the demo grid; docs/cylinder.md has those of the paper's grid."""
    _, forces, *_ = wake
    late = forces[160:]
    assert 2 * wake_metrics.frequency(late[:, 1], 0.5) == pytest.approx(0.195, rel=0.04)
    assert -0.06 < late[:, 0].mean() / 1.355 - 1 < 0.02
    assert 0.65 < wake_metrics.amplitudes(late[:, 1], 0.5)[1].mean() < 0.75


def test_the_window_is_free_of_divergence_and_of_the_cylinder(wake):
    fields, _, x, y = wake
    assert wake_metrics.divergence(fields[::20], x, y) < 0.02
    assert np.all(fields[:, :, np.hypot(x, y[:, None]) < 1] == 0)
    assert np.abs(fields[:, 2, :, 0]).max() < 0.4 and np.abs(fields[:, 0]).max() < 2


def test_the_force_on_the_wall_is_the_momentum_lost(wake):
    fields, forces, x, y = wake
    drag, lift = wake_metrics.force(fields, x, y, 0.5, 2 / 200)
    late = slice(160, -2)
    assert drag[late].mean() == pytest.approx(forces[late, 0].mean(), rel=0.05)
    assert (lift - forces[:, 1])[late].std() < 0.08 * forces[late, 1].std()


def test_what_the_window_tells_is_what_the_wall_tells(wake):
    fields, forces, x, y = wake
    found = wake_metrics.measure(fields, x, y, 0.5, 2 / 200)
    assert found["strouhal"] == pytest.approx(2 * wake_metrics.frequency(forces[160:, 1], 0.5), rel=2e-3)
    assert found["drag"] == pytest.approx(forces[160:, 0].mean(), rel=0.05)


# --- the system --------------------------------------------------------------------------------


def test_reynolds_numbers_are_drawn_listed_or_spread():
    rng = np.random.default_rng(0)
    drawn = cylinder.reynolds(cylinder.Params(reynolds_min=100.0, reynolds_max=750.0), 4000, rng)
    assert (
        drawn.min() > 100 and drawn.max() < 750 and drawn.mean() == pytest.approx(425, abs=4 * 650 / np.sqrt(12 * 4000))
    )
    spread = cylinder.reynolds(cylinder.Params(stratified=True), 4, rng)
    assert np.array_equal(np.floor((spread - 100) / 50), np.arange(4))
    assert list(cylinder.reynolds(cylinder.Params(reynolds=[40.0, 60.0]), 2, rng)) == [40, 60]
    with pytest.raises(ValueError, match="reynolds has 2 values, but a block has 3 members"):
        cylinder.reynolds(cylinder.Params(reynolds=[40.0, 60.0]), 3, rng)


def test_a_member_does_not_depend_on_its_companions():
    params = cylinder.Params(**{**SMALL, "steps": 2})
    both, one = (cylinder.film(params, 2 / np.array(re))[0] for re in ([60.0, 250.0], [250.0]))
    assert np.array_equal(both[1], one[0])


def test_what_cannot_be_run_is_refused():
    for bad in ({"substeps": 20}, {"angles": 100}, {"reynolds": [0.5]}, {"reynolds_min": 400.0}, {"r_out": 10.0}):
        with pytest.raises(ValidationError, match=next(iter(bad))):
            cylinder.Params(**bad)


def test_a_flow_that_diverges_is_named():
    with pytest.raises(FloatingPointError, match=r"Re = 2000 is not finite at time .* choose more substeps"):
        cylinder.film(cylinder.Params(**{**SMALL, "substeps": 26, "kick": 10.0, "steps": 40}), np.array([2 / 2000]))
