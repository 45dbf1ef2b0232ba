"""The forecast of fields: its metrics against values computed by hand and known spectra, and its failures."""

import numpy as np
import pytest
import synthetic
import torch
import xarray as xr
from pydantic import ValidationError

from physiglot import fields, symbols, table
from physiglot.rollout import Rollout
from physiglot.tasks import field_forecast

STEPS, MEMBERS = 12, 3


def dataset(name, values, names="uv", dt=0.5, **more):
    """(member, time, field, [z,] y, x) as a dataset on a grid of unit spacing."""
    axes = ("z", "y", "x")[-(values.ndim - 3) :]
    coordinates = {"time": dt * np.arange(values.shape[1]), "field": list(names)}
    coordinates |= {a: np.arange(float(n)) for a, n in zip(axes, values.shape[3:], strict=True)}
    return xr.Dataset({name: (("member", "time", "field", *axes), values, {"units": "1"}), **more}, coordinates)


def configured(**params):
    return field_forecast.Params(rollouts={"test": Rollout()}, **params)


def evaluate(truth, prediction, **params):
    pair = {"test": dataset("state", truth)}, {"test": dataset("prediction", prediction)}
    return field_forecast.evaluate(*pair, configured(**params))


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(0).normal(1, 1, (MEMBERS, STEPS, 2, 8, 6))


def test_relative_mse_by_hand(truth):
    """Σ(x̂−x)²/Σx² over series and cells at each time, then the mean over the steps of the bin."""
    prediction = truth + np.random.default_rng(1).normal(0, 0.1, truth.shape)
    metrics = evaluate(truth, prediction, bins=[[0, 4], [4, 12]])
    error, power = (((prediction - truth) ** 2).sum((3, 4)), (truth**2).sum((3, 4)))
    for i, name in enumerate("uv"):
        pooled = error[..., i].sum(0) / power[..., i].sum(0)
        assert metrics[f"relative_mse_{name}_0_4"] == pytest.approx(pooled[:4].mean())
        assert metrics[f"relative_mse_{name}_4_12"] == pytest.approx(pooled[4:].mean())
        assert metrics[f"last_frame_mse_{name}"] == pytest.approx(pooled[-1])
        single = (error / power)[:, 4:, i].mean(1)
        assert metrics[f"per_series_relative_mse_{name}_4_12"] == pytest.approx(single.mean())
        assert 0 < metrics[f"relative_mse_{name}_4_12_stderr"] < metrics[f"relative_mse_{name}_4_12"]
        pair = dataset("state", truth), dataset("prediction", prediction)
        assert fields.growth(*pair, 10.0)[:, i] == pytest.approx(pooled)
        vrmse = np.sqrt(((prediction - truth) ** 2).mean((3, 4)) / (truth.var((3, 4)) + 1e-7))
        assert metrics[f"vrmse_{name}"] == pytest.approx(vrmse[..., i].mean())


def test_the_epsilon_of_vrmse_is_passed(truth):
    """A constant truth has no variance: the error is in units of √ε."""
    constant = np.ones_like(truth)
    for epsilon in (1e-7, 1e-2):
        metrics = evaluate(constant, constant + 0.3, epsilon=epsilon)
        assert metrics["vrmse_u"] == pytest.approx(0.3 / np.sqrt(epsilon))
    mean = np.broadcast_to(truth.mean((3, 4), keepdims=True), truth.shape)
    assert evaluate(truth, mean)["vrmse_v"] == pytest.approx(1, abs=1e-6), "predicting the mean of a frame"


def test_masked_cells_count_in_no_sum(truth):
    """Zero in all of the truth: whatever is predicted there changes nothing. Zero at some time: it counts."""
    masked = truth.copy()
    masked[..., 2:4, 1:3] = 0
    masked[0, 0, :, 0, 0] = 0
    prediction = masked * 1.1
    expected = evaluate(masked, prediction)
    prediction[..., 2:4, 1:3] = 5
    assert evaluate(masked, prediction) == pytest.approx({**expected, **spectra_of(masked, prediction)})
    prediction[0, 0, :, 0, 0] = 5
    assert evaluate(masked, prediction)["relative_mse_u_0_12"] > expected["relative_mse_u_0_12"]
    assert fields.mask(dataset("state", masked)["state"]).sum() == 4


def spectra_of(truth, prediction):
    return {k: v for k, v in evaluate(truth, prediction).items() if k.startswith("spectrum")}


def test_correlation_time(truth):
    """From step 5 of one field of one series on the prediction has nothing to do with the truth."""
    prediction = 3 * truth + 2
    metrics = evaluate(truth, prediction)
    assert metrics["correlation_time"] == pytest.approx(0.5 * 11) and metrics["saturated"] == 1
    prediction[1, 5:, 0] = truth[1, 5:, 0, ::-1]
    metrics = evaluate(truth, prediction)
    assert metrics["correlation_time_of_u"] == pytest.approx(0.5 * (11 + 5 + 11) / 3)
    assert metrics["correlation_time_of_v"] == pytest.approx(0.5 * 11)
    assert metrics["saturated"] == pytest.approx(5 / 6)
    still = np.ones_like(truth)
    assert evaluate(still, still)["correlation_time"] == 5.5 and evaluate(still, 2 * still)["correlation_time"] == 0


def wave(shape, k):
    """cos(2π k·x) on a grid of the unit box."""
    axes = np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij")
    return np.cos(2 * np.pi * sum(a * b for a, b in zip(k, axes, strict=True)))


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 16)])
def test_isotropic_spectrum(shape):
    """A wave has its power, the mean of its square, in the octave of |k|."""
    for k, octave in (((1,), 0), ((3,), 1), ((2, 3), 1), ((3, 3), 2), ((8,), 3), ((5, 5), 2)):
        vector = (*[0] * (len(shape) - len(k)), *k)
        found = fields.isotropic(np.stack([wave(shape, vector), 0 * wave(shape, vector)])[None])
        power = np.zeros((2, 4))
        power[0, octave] = (wave(shape, vector) ** 2).mean()
        assert found == pytest.approx(power, abs=1e-12), k


def test_spectrum_along_the_wake():
    """A line behind the cylinder; a Hann window leaves a wave in its octave."""
    x, y = np.linspace(-2, 14, 128), np.linspace(-4, 4, 64)
    line = fields.wake_line(np.broadcast_to(np.exp(-np.abs(y))[:, None] * x, (2, 3, 64, 128)), x, y)
    assert line.shape == (2, 3, (x > 1.5).sum()) and line[0, 0] == pytest.approx(x[x > 1.5] * np.exp(-y[32]))
    waves = np.cos(2 * np.pi * 6 * np.arange(64) / 64)[None, None]
    found = fields.along(waves)
    assert found[0].argmax() == 2 and found[0, 2] > 0.99 * found.sum()


def test_spectra_of_a_wrong_amplitude(truth):
    found = spectra_of(truth, 2 * truth)
    assert set(found) == {f"spectrum_ratio_{n}_{k}" for n in "uv" for k in (1, 2)}
    assert list(found.values()) == pytest.approx([4] * 4)


def test_vorticity_of_a_solid_rotation():
    x, y = np.linspace(-2, 14, 33), np.linspace(-4, 4, 17)
    grid = np.meshgrid(x, y)
    assert fields.vorticity(np.stack([-3 * grid[1], 3 * grid[0]]), x, y) == pytest.approx(np.full((17, 33), 6.0))


def test_failures_are_measured_and_counted(truth):
    prediction = truth * 1.01
    good = evaluate(truth, prediction)
    assert good["blow_ups"] == 0
    prediction[1, 3:] = np.nan
    prediction[2, 8, 0, 0, 0] = np.inf
    bad = evaluate(truth, prediction)
    assert bad["blow_ups"] == pytest.approx(2 / 3)
    assert np.isfinite(list(bad.values())).all()
    assert bad["relative_mse_u_0_12"] > 10 > 1 > good["relative_mse_u_0_12"]
    assert bad["correlation_time"] < good["correlation_time"]


def test_a_longer_or_shorter_prediction_is_measured_over_the_common_time(truth):
    longer = np.concatenate([truth, truth], axis=1)
    assert evaluate(truth, longer)["relative_mse_u_0_12"] == 0
    assert evaluate(truth, truth[:, :7])["relative_mse_u_0_7"] == 0
    with pytest.raises(ValueError, match=r"bins: \[0, 12\) ends beyond the 7 steps"):
        evaluate(truth, truth[:, :7], bins=[[0, 12]])
    with pytest.raises(ValueError, match=r"the truth is .* the prediction"):
        evaluate(truth, truth[..., :5])


def test_memory_holds_one_series(truth, monkeypatch):
    """Nothing but single members is ever read."""
    read = []
    values = xr.DataArray.values.fget
    monkeypatch.setattr(xr.DataArray, "values", property(lambda a: read.append(a.size) or values(a)))
    evaluate(truth, truth)
    assert max(read) <= truth[0].size


def wake(times=120, ahead=0.0):
    """A wake by formula, with the coordinates of the window; `ahead` is a shift in time."""
    data = synthetic.wakes(torch.tensor([0.02, 0.01]), times + 20, grid=(32, 64))["state"].numpy().astype(float)
    start = 10 + round(ahead / 0.5)
    nu = (("member", "parameter"), np.array([[0.02], [0.01]]))
    found = dataset("state", data[:, start : start + times], ["ux", "uy", "p"], parameters=nu)
    return found.assign_coords(parameter=["nu"], x=np.linspace(-2, 14, 64), y=np.linspace(-4, 4, 32))


def test_the_wake_of_predicted_fields():
    """A wake of the right frequency that runs ahead: a large error, none of it in the physics."""
    truth, params = wake(), configured(wake=True)
    ahead = wake(ahead=1.5).rename(state="prediction")
    metrics = field_forecast.evaluate({"test": truth}, {"test": ahead}, params)
    assert metrics["relative_mse_uy_0_120"] > 0.2 > 1e-3 > metrics["phase_free_mse_uy"]
    assert metrics["strouhal"] == pytest.approx(metrics["strouhal_truth"], rel=0.01)
    assert metrics["strouhal_error"] < 0.01 and metrics["onset_error"] == pytest.approx(1.5, abs=0.8)
    for re, frequency in ((100, 0.8), (200, 1.0)):
        assert metrics[f"strouhal_re{re}_truth"] == pytest.approx(frequency / np.pi, rel=0.01)
        assert {f"onset_re{re}", f"drag_re{re}_truth", f"lift_rms_re{re}"} <= set(metrics)
    shown = table.columns([m for m in metrics if not m.endswith("_stderr")], field_forecast.METRICS)
    assert list(shown)[-3:] == ["strouhal_error", "onset_error", "drag_error"]
    lost = ahead.where(ahead["time"] < 30)
    bad = field_forecast.evaluate({"test": truth}, {"test": lost}, params)
    assert np.isfinite(list(bad.values())).all() and bad["strouhal_error"] > 0.5 and bad["blow_ups"] == 1


def test_states_without_a_grid_are_refused(truth):
    flat = xr.Dataset(
        {"state": (("member", "time", "field"), truth[..., 0, 0])}, {"time": np.arange(12), "field": ["u", "v"]}
    )
    for use in (field_forecast.evaluate, lambda a, b, p: field_forecast.plot(a, b, {}, p)):
        with pytest.raises(
            ValueError, match=r"the states have the dimensions member, time, field; expected \[z,\] y, x"
        ):
            use({"test": flat}, {"test": flat.rename(state="prediction")}, configured())


def test_a_wake_needs_its_fields(truth):
    with pytest.raises(ValueError, match="wake: the fields must be ux, uy, p"):
        evaluate(truth, truth, wake=True)


def test_the_table_has_the_published_columns(truth):
    metrics = [m for m in evaluate(truth, truth, bins=[[0, 10]]) if not m.endswith("_stderr")]
    shown = table.columns(metrics, field_forecast.METRICS)
    assert shown["relative_mse_u_0_10"] == "relative MSE u 0–10"
    assert shown["last_frame_mse_v"] == "last frame, relative MSE v" and "correlation_time" in shown
    assert not [name for name in shown if name.startswith(("per_series", "spectrum", "correlation_time_of"))]


def test_impossible_parameters_are_refused():
    for wrong in ({"rollouts": {"free": {}}}, {"rollouts": {}, "bins": [[4, 4]]}, {"rollouts": {}, "epsilon": 0.0}):
        with pytest.raises(ValidationError):
            field_forecast.Params.model_validate(wrong)
    light = symbols.load("tasks.field_forecast", "Params").model_validate({"rollouts": {"test": {}}})
    assert light.epsilon == 1e-7
    assert field_forecast.evaluate({}, {}, field_forecast.Params(rollouts={})) == {}
