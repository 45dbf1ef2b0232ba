"""Crossings: the fits on known curves, their errors, and what the tasks of phases make of known data."""

import importlib

import numpy as np
import pytest
import readings

from physiglot.phases import crossing, exact
from physiglot.tasks import confusion, critical_temperature

T = np.round(np.arange(51) * 0.1, 10)
ONE = np.ones(51)


def tanh(t: np.ndarray, middle: float, slope: float = 1.5, a: float = 0.5, d: float = 0.5) -> np.ndarray:
    return a * np.tanh(slope * (t - middle)) + d


@pytest.mark.parametrize("middle", [0.5, 2.37, 4.4])
@pytest.mark.parametrize(("a", "d"), [(0.5, 0.5), (0.3, 0.45), (-0.5, 0.5)])
def test_a_tanh_is_found(middle, a, d):
    found = crossing.tanh_fit(T, tanh(T, middle, 1.5, a, d), ONE)
    assert found.temperature == pytest.approx(middle + np.arctanh((0.5 - d) / a) / 1.5, abs=1e-6)
    assert found.status == crossing.CROSSED


def test_the_width_is_from_a_quarter_to_three():
    assert crossing.tanh_fit(T, tanh(T, 2.0), ONE).width == pytest.approx(np.log(3) / 1.5, rel=1e-6)
    assert crossing.logistic_fit(T, tanh(T, 2.0), ONE).width == pytest.approx(np.log(3) / 1.5, rel=1e-4)


@pytest.mark.parametrize("name", crossing.FITS)
def test_all_fits_agree_on_a_clean_curve(name):
    found = crossing.FITS[name](T, tanh(T, 2.37), ONE)
    assert found.temperature == pytest.approx(2.37, abs=1e-2 if name == "isotonic" else 1e-5)
    assert crossing.FITS[name](T, np.full(51, 0.3), ONE).status != crossing.CROSSED
    assert np.isnan(crossing.FITS[name](T, np.full(51, 0.3), ONE).temperature)
    assert crossing.FITS[name](T, tanh(T, 2.37, a=0.1, d=0.2), ONE).status != crossing.CROSSED


def test_fitting_all_values_is_fitting_their_means():
    from scipy.optimize import curve_fit

    temperature = np.tile(T, 30)
    p = (np.random.default_rng(0).random(len(temperature)) < tanh(temperature, 2.4)).astype(float)
    a, b, c, d = curve_fit(lambda t, a, b, c, d: a * np.tanh(b * t + c) + d, temperature, p, p0=[0.5, 1, -2.4, 0.5])[0]
    found = crossing.fit("tanh", temperature, p)
    assert found.temperature == pytest.approx((np.arctanh((0.5 - d) / a) - c) / b, abs=1e-4)


def test_the_isotonic_fit_is_the_nearest_rising_sequence():
    p, w = np.array([0.1, 0.5, 0.3, 0.2, 0.9, 0.8]), np.array([1.0, 1, 2, 1, 1, 3])
    q = crossing.isotonic(p, w)
    assert (np.diff(q) >= 0).all()
    assert q[1] == q[2] == q[3] == pytest.approx((0.5 + 0.6 + 0.2) / 4) and q[4] == pytest.approx(3.3 / 4)


def test_bootstrap_errors_are_those_of_repetitions():
    """The error of one experiment against the scatter of many."""
    temperature = np.tile(T, 20)
    found, errors = [], []
    for seed in range(30):
        p = (np.random.default_rng(seed).random(len(temperature)) < tanh(temperature, 2.4)).astype(float)
        found.append(crossing.fit("logistic", temperature, p).temperature)
        if seed < 3:
            errors.append(crossing.bootstrap(["logistic"], temperature, p[:, None], 100)["logistic"].std())
    assert np.mean(errors) == pytest.approx(np.std(found, ddof=1), rel=0.4)


def test_draws_of_sites_are_resampled_too():
    temperature = np.tile(T, 40)
    same = tanh(temperature, 2.4)[:, None] * np.ones(5)
    moved = np.stack([tanh(temperature, m) for m in (2.2, 2.3, 2.4, 2.5, 2.6)], axis=1)
    one, other = (crossing.bootstrap(["tanh"], temperature, p, 50)["tanh"].std() for p in (same, moved))
    assert one < 1e-6 and other == pytest.approx(np.std([2.2, 2.3, 2.4, 2.5, 2.6]) / 5**0.5, rel=0.35)


@pytest.mark.parametrize("name", crossing.FITS)
def test_a_flat_curve_does_not_cross(name):
    temperature = np.tile(T, 10)
    p = 0.5 + 0.02 * np.random.default_rng(0).standard_normal(len(temperature))
    assert crossing.fit(name, temperature, p).status == crossing.FLAT
    assert np.isnan(crossing.bootstrap([name], temperature, p[:, None], 3)[name]).all()


def test_few_temperatures_are_refused():
    with pytest.raises(ValueError, match="3 distinct temperatures: a fit needs at least 4"):
        crossing.fit("tanh", np.array([1.0, 2, 3]), np.array([0.0, 0.5, 1]))


# --- the tasks on known data -------------------------------------------------------------------


def evaluated(name: str, *given, **params) -> dict[str, float]:
    asked, truth, prediction = readings.READ[name](*given)
    task = importlib.import_module(f"physiglot.tasks.{name}")
    return task.evaluate(truth, prediction, task.Params(**{**asked, **params}))


def test_the_crossing_of_a_study():
    found = evaluated("critical_temperature", 2.4, 60)
    assert found["crossing"] == pytest.approx(2.4, abs=4 * found["crossing_stderr"])
    assert 0.002 < found["crossing_stderr"] < 0.03
    assert found["deviation"] == pytest.approx(found["crossing"] - 2.269185314)
    assert found["order_shift"] > 0.1, "P² crosses later"
    assert found["no_crossing"] == 0 and "false_crossing" not in found


def test_a_crossing_without_a_transition_is_flagged():
    asked, truth, prediction = readings.crossing(1.8)
    truth["test"] = truth["test"].assign_attrs(lattice="chain")
    found = critical_temperature.evaluate(truth, prediction, critical_temperature.Params(**asked))
    assert found["false_crossing"] == 1 and found["crossing"] == pytest.approx(1.8, abs=0.1)
    assert "deviation" not in found and "accuracy" not in found


def test_without_a_crossing_there_is_no_number():
    asked, truth, prediction = readings.crossing(30.0)
    found = critical_temperature.evaluate(truth, prediction, critical_temperature.Params(**asked))
    assert np.isnan(found["crossing"]) and found["no_crossing"] == 1 and found["status"] > 0


def test_the_transition_is_not_in_the_fit(monkeypatch):
    """With another known transition everything but the comparison with it is the same, bit for bit."""
    before = evaluated("critical_temperature")
    monkeypatch.setitem(exact.ISING, "square", 3.1)
    after = evaluated("critical_temperature")
    assert after["deviation"] != before["deviation"]
    told = {"deviation", "accuracy"}
    assert {k: v for k, v in before.items() if k not in told} == {k: v for k, v in after.items() if k not in told}


def test_temperatures_below_the_lowest_are_left_out():
    assert evaluated("critical_temperature", lowest=0.1) != evaluated("critical_temperature")


def test_the_cumulants_of_two_sizes_cross():
    found = evaluated("binder")
    assert found["binder_crossing"] == pytest.approx(readings.TRANSITION, abs=2e-3)
    assert found["updates"] == 240 * 50 * (16**2 + 32**2)
    assert evaluated("binder", budget=1e6)["cost"] == pytest.approx(found["updates"] / 1e6)
    assert np.isnan(evaluated("binder", 2.5)["binder_crossing"])


def test_the_decay_is_flat_at_the_transition():
    found = evaluated("relaxation")
    assert found["relaxation_crossing"] == pytest.approx(readings.TRANSITION, abs=3e-3)
    assert found["exponent"] == pytest.approx(0.0577, abs=3e-3)


def test_confusion_peaks_where_the_data_change():
    found = evaluated("confusion")
    assert found["peak"] == pytest.approx(2.2, abs=0.15) and found["peak_accuracy"] > 0.95
    assert found["valley_accuracy"] < found["peak_accuracy"]


def test_a_curve_without_a_peak_has_none():
    assumed = np.linspace(0, 5, 11)
    assert np.isnan(confusion.central_peak(assumed, (assumed - 2.5) ** 2)[0])
    w = np.abs(np.abs(assumed - 2.5) - 1.25)
    assert confusion.central_peak(assumed, w) == pytest.approx((2.5, 1.25, 0.25))


def test_transitions():
    known = {"square": 2.269185314, "honeycomb": 1.518651435, "triangular": 3.640956907}
    for lattice, value in known.items():
        assert exact.transition({"system": "ising", "lattice": lattice}) == pytest.approx(value, abs=1e-9)
    assert exact.transition({"system": "potts", "lattice": "square", "states": 3}) == pytest.approx(0.994972861)
    assert exact.transition({"system": "ising", "lattice": "chain"}) is None
    assert exact.transition({"system": "hubbard", "lattice": "honeycomb"}) == pytest.approx(3.85, abs=0.02)
    assert exact.transition({"system": "hubbard", "lattice": "square"}) is None
