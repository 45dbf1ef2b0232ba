"""The forecast task: its metrics against hand-computed and exact values, its failures, its figures."""

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from physiglot import climate, drawing, symbols, table
from physiglot.rollout import Rollout
from physiglot.tasks import forecast

STD, MEAN = [7.92, 9.01, 8.61], [0.0, 0.0, 23.55]
DT = 0.01


def flow(state, rho):
    x, y, z = np.moveaxis(state, -1, 0)
    return np.stack([10 * (y - x), x * (rho - z) - y, x * y - 8 / 3 * z], -1)


def solve(start, steps, rho=28.0):
    """Lorenz-63 by Runge–Kutta 4 at the saved step: (member, 3) -> (member, steps, 3)."""
    states, state = np.empty((len(start), steps, 3)), start
    for step in range(steps):
        states[:, step] = state
        a = flow(state, rho)
        b = flow(state + DT / 2 * a, rho)
        c = flow(state + DT / 2 * b, rho)
        d = flow(state + DT * c, rho)
        state = state + DT / 6 * (a + 2 * b + 2 * c + d)
    return states


def starts(members, seed):
    rng = np.random.default_rng(seed)
    return rng.uniform([-20, -20, 10], [20, 20, 40], (members, 3))


def dataset(name, values, fields="xyz"):
    coordinates = {"time": DT * np.arange(values.shape[1]), "field": list(fields)}
    attributes = {"std": STD[: len(fields)], "mean": MEAN[: len(fields)]}
    return xr.Dataset({name: (("member", "time", "field"), values, {"units": "1"})}, coordinates, attributes)


def configured(**rollouts):
    return forecast.Params(rollouts={role: Rollout(nudge=nudge) for role, nudge in rollouts.items()})


def evaluate(truth, prediction, params):
    """`forecast.evaluate` of arrays by role."""
    truth = {role: dataset("state", values) for role, values in truth.items()}
    prediction = {role: dataset("prediction", values) for role, values in prediction.items()}
    return forecast.evaluate(truth, prediction, params)


@pytest.fixture(scope="module")
def lorenz():
    """The truth of every role, and what a perfect model would predict."""
    first = starts(64, 1)
    truth = {
        "test": solve(starts(16, 0), 400),
        "long": solve(starts(48, 2), 3000),
        "free": solve(starts(8, 3), 1024),
        "pair": solve(first, 400),
        "twin": solve(first, 400),
    }
    prediction = {
        "test": truth["test"],
        "long": truth["long"],
        "free": solve(starts(8, 3), 8000),
        "pair": solve(first, 3500),
        "twin": solve(first + 1e-7, 3500),
    }
    return truth, prediction


@pytest.fixture(scope="module")
def full():
    return configured(test=0.0, long=0.0, free=0.0, pair=0.0, twin=1e-7)


@pytest.fixture(scope="module")
def perfect(lorenz, full):
    return evaluate(*lorenz, full)


def test_relative_mse_by_hand():
    truth, prediction = np.ones((2, 2, 3)), np.ones((2, 2, 3))
    truth[1] = prediction[1] = 2.0
    prediction[0, 1] = [2.0, 1.0, 1.0]
    params = forecast.Params(rollouts={"test": Rollout()}, bins=[[0, 2], [1, 2]])
    metrics = evaluate({"test": truth}, {"test": prediction}, params)
    assert metrics["relative_mse_1_2"] == pytest.approx(1 / 15)
    assert metrics["relative_mse_0_2"] == pytest.approx(1 / 30)
    assert metrics["relative_mse_per_series_1_2"] == pytest.approx(1 / 6)
    assert metrics["relative_mse_1_2_stderr"] > 0


def test_bootstrap_is_the_error_of_a_mean():
    error = np.random.default_rng(1).exponential(size=(400, 1))
    estimate = climate.bootstrap(error, np.ones_like(error), 2000)
    assert estimate == pytest.approx(error.std() / 20, rel=0.1)


def test_perfect_prediction_is_valid_to_the_end(perfect):
    assert perfect["relative_mse_0_64"] == perfect["relative_mse_128_192"] == 0
    assert [perfect["vpt_mean"], perfect["vpt_median"]] == pytest.approx([29.99 * 0.9056] * 2)
    assert perfect["vpt_saturated"] == 1 and perfect["blow_ups"] == 0
    assert perfect["vpt_limit"] == 24


def test_known_valid_time():
    """An error of t in units of std in every field passes 0.4 after 0.4 and 0.3 after 0.3 time units."""
    truth = np.broadcast_to(MEAN, (5, 100, 3)) + np.arange(5.0)[:, None, None]
    prediction = truth + (DT * np.arange(100) + 1e-9)[None, :, None] * STD
    metrics = evaluate({"long": truth}, {"long": prediction}, configured(long=0.0))
    assert metrics["vpt_mean"] == pytest.approx(0.40 * 0.9056)
    assert metrics["vpt_median_0.3"] == pytest.approx(0.30 * 0.9056)
    assert metrics["vpt_mean_stderr"] == pytest.approx(0) and metrics["vpt_saturated"] == 0


def test_lyapunov_exponent_of_lorenz(perfect):
    assert perfect["lyapunov_exponent"] == pytest.approx(0.9056, abs=0.05)
    assert 0.005 < perfect["lyapunov_exponent_stderr"] < 0.04
    assert perfect["lyapunov_exponent_truth"] == pytest.approx(0.9056)


def test_lyapunov_exponents_that_are_known():
    rng = np.random.default_rng(0)
    orbit, direction = rng.normal(size=(8, 4000, 3)), rng.normal(size=(8, 1, 3))
    for rate in (0.02, -0.004):
        growth = np.exp(rate * np.arange(4000))[None, :, None]
        twin = orbit + 1e-7 * direction * np.minimum(growth, 1e9)
        assert climate.lyapunov(orbit, twin, np.ones(3))[0] == pytest.approx(rate, rel=0.02)


def test_lyapunov_exponent_survives_failures(lorenz):
    _, prediction = lorenz
    pair, twin = prediction["pair"], prediction["twin"].copy()
    twin[:3, 2000:] = np.nan
    assert climate.lyapunov(pair, twin, np.array(STD))[0] / DT == pytest.approx(0.9056, abs=0.06)
    assert climate.lyapunov(pair, np.full_like(pair, np.inf), np.array(STD)) is None


def test_perfect_climate_is_at_its_floor(perfect):
    for name in ("wasserstein", "hellinger"):
        assert 0 < perfect[name] < 2 * perfect[f"{name}_floor"] < 0.3
    assert max(perfect["lorenz_map_distance"], perfect["lorenz_map_distance_floor"]) < 0.003
    assert perfect["lorenz_map_outside"] < 0.01
    assert perfect["correlation_dimension"] == pytest.approx(2.05, abs=0.06)
    for name in ("moment_z", "moment_x_x", "moment_x_y", "moment_z_z"):
        error = np.hypot(perfect[f"{name}_stderr"], perfect[f"{name}_truth_stderr"])
        assert abs(perfect[name] - perfect[f"{name}_truth"]) < 4 * error
    assert perfect["moment_x_x"] == pytest.approx(perfect["moment_x_y"], rel=0.005)


def test_identical_runs_have_no_distance(lorenz):
    run = lorenz[0]["long"]
    found = climate.distances(run, run, np.array(STD), 2048, 2)
    assert found["wasserstein"] == 0 and found["lorenz_map_outside"] == 0
    assert found["hellinger"] < 1e-6 and found["lorenz_map_distance"] < 1e-3


def test_another_rho_is_seen(lorenz, perfect, full):
    truth, prediction = lorenz
    other = evaluate(truth, prediction | {"free": solve(starts(8, 3), 8000, rho=30.0)}, full)
    assert other["lorenz_map_distance"] > 50 * perfect["lorenz_map_distance"]
    assert other["wasserstein"] > 3 * perfect["wasserstein"]


def test_distances_against_exact_values():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(4, 50_000, 1))
    assert climate.wasserstein(normal, 2 * normal + 3, np.array([2.0])) == pytest.approx(1.5, abs=0.01)
    wave = np.sin(2 * np.pi * np.arange(4096) / np.array([[16.0], [64.0]]))[..., None]
    assert climate.hellinger(wave[:1], wave[1:], 512) == pytest.approx(1, abs=1e-3)
    still = np.zeros((1, 4096, 1))
    assert climate.hellinger(still, wave, 512) == 1
    assert climate.lorenz_map(still[..., 0]).tolist() == [[0, 0]]


def test_maximum_by_parabola():
    """Maxima of a cosine between its samples: 1 to fourth order in the step of 0.1."""
    wave = np.cos(np.arange(0, 30, 0.1) - 1.234)
    assert climate.lorenz_map(wave[None]) == pytest.approx(np.ones((4, 2)), abs=1e-5)


def test_blow_ups_are_counted_and_stay_finite(lorenz, perfect, full):
    truth, prediction = lorenz
    failing = {role: values.copy() for role, values in prediction.items()}
    failing["long"][:3, 100:] = np.nan
    failing["free"][0, 5000:] = np.inf
    failing["free"][1, 6000] = 1e200
    failing["test"][0, 50:] = -np.inf
    metrics = evaluate(truth, failing, full)
    assert metrics["blow_ups"] == pytest.approx(5 / 56)
    assert np.isfinite(list(metrics.values())).all()
    assert metrics["wasserstein"] > 5 * perfect["wasserstein"]
    assert metrics["relative_mse_128_192"] > 1 and metrics["relative_mse_0_64"] > 0.1
    assert metrics["vpt_mean"] < perfect["vpt_mean"]


def test_only_configured_roles_and_known_fields():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 1200, 2)).cumsum(1)
    truth = {"free": dataset("state", values, "uv")}
    prediction = {"free": dataset("prediction", values[:, :, ::-1].copy(), "uv")}
    params = configured(free=0.0)
    metrics = forecast.evaluate(truth, prediction, params)
    assert {"wasserstein", "hellinger", "correlation_dimension", "blow_ups"} <= set(metrics)
    assert not [name for name in metrics if name.startswith(("lorenz", "moment", "vpt", "relative", "lyap"))]
    assert set(forecast.plot(truth, prediction, metrics, params)) == set(forecast.FIGURES)


def test_the_table_has_a_column_for_every_bin_and_headline(perfect):
    shown = table.columns([m for m in perfect if not m.endswith("_stderr")], forecast.METRICS)
    assert list(shown)[:3] == ["relative_mse_0_64", "relative_mse_64_128", "relative_mse_128_192"]
    assert shown["relative_mse_0_64"] == "relative MSE, steps 0–64"
    assert set(forecast.METRICS) - {"relative_mse_[0-9]*"} < set(shown)


def test_impossible_parameters_are_refused():
    for wrong in (
        {"rollouts": {"lnog": {}}},
        {"rollouts": {}, "bins": [[64, 0]]},
        {"rollouts": {"pair": {}}},
        {"rollouts": {"pair": {}, "twin": {}}},
        {"rollouts": {}, "vpt_treshold": 0.4},
    ):
        with pytest.raises(ValidationError):
            forecast.Params.model_validate(wrong)
    with pytest.raises(ValueError, match="beyond the 100 steps"):
        evaluate({"test": np.ones((2, 100, 3))}, {"test": np.ones((2, 100, 3))}, configured(test=0.0))


def test_params_load_without_the_module():
    params = symbols.load("tasks.forecast", "Params").model_validate({"rollouts": {"test": {}}})
    assert params.vpt_threshold == 0.4


@pytest.fixture(scope="module")
def figures(lorenz, perfect, full):
    """Every figure, of a study and of a comparison, drawn twice."""
    truth = {role: dataset("state", values) for role, values in lorenz[0].items()}
    prediction = {role: dataset("prediction", values) for role, values in lorenz[1].items()}
    worse = prediction | {"test": dataset("prediction", lorenz[1]["test"] * 1.01)}
    published = {"relative_mse_0_64": 1e-4, "vpt_mean": 3.0}
    studies = [
        forecast.Study(label, variant, name, truth, [worse, prediction], [perfect, perfect], published, label, full)
        for label, variant in (("transformer", "ours"), ("map", "baseline"))
        for name in ("clean", "noisy")
    ]

    def draw():
        return forecast.plot(truth, prediction, perfect, full) | forecast.compare(studies)

    return draw(), draw()


@pytest.mark.parametrize("name", forecast.FIGURES + forecast.COMPARISONS)
def test_figures_are_drawn_and_deterministic(name, figures, tmp_path):
    for copy, drawn in enumerate(figures):
        drawing.save(drawn[name], tmp_path / str(copy))
    assert getattr(figures[0][name], "figure", figures[0][name]).axes
    for suffix in ("svg", "png"):
        first, second = ((tmp_path / f"{copy}.{suffix}").read_bytes() for copy in (0, 1))
        assert first == second and len(first) > 10_000


def test_comparison_without_anything_to_compare(full):
    study = forecast.Study("s", "ours", "clean", {}, [{}], [{}], {}, "model", full)
    for figure in forecast.compare([study]).values():
        assert "no rollout" in figure.axes[0].texts[0].get_text()
