"""Measures of a wake on fields with a known answer."""

import numpy as np
import pytest

from physiglot import wake_metrics

X, Y, DT = np.linspace(-2, 14, 128), np.linspace(-4, 4, 64), 0.5
T = DT * np.arange(200)
PERIOD = 10.3


def street(shift: float = 0.0, growth: float | None = None) -> np.ndarray:
    """A wave that runs downstream; with `growth`, its amplitude is a logistic function of time."""
    size = 1.0 if growth is None else 1 / (1 + np.exp(-(T - 50) * growth))
    wave = np.cos(2 * np.pi * ((T - shift)[:, None] / PERIOD - X / 8)) * np.reshape(size, (-1, 1))
    ux = np.ones((len(T), len(Y), len(X)))
    uy = np.broadcast_to(wave[:, None], ux.shape)
    return np.stack([ux, uy, 0.5 * uy], 1)


def test_the_frequency_of_a_wave():
    signal = wake_metrics.probe(street(), X, Y)
    assert wake_metrics.frequency(signal, DT) == pytest.approx(1 / PERIOD, rel=1e-3)
    assert wake_metrics.frequency(np.ones(50), DT) == 0
    assert np.isnan(wake_metrics.frequency(np.array([0.0, np.nan, 1.0]), DT))


def test_the_onset_of_a_growing_wave():
    assert wake_metrics.onset(wake_metrics.probe(street(growth=0.2), X, Y), DT) == pytest.approx(50, abs=1.5)
    assert wake_metrics.onset(wake_metrics.probe(street(), X, Y), DT) < PERIOD
    assert wake_metrics.onset(np.ones(100), DT) == 49.5
    assert np.isnan(wake_metrics.onset(np.full(100, np.nan), DT))


def test_extrema_are_found_between_the_samples():
    times, sizes = wake_metrics.amplitudes(3 * np.sin(2 * np.pi * T / PERIOD), DT)
    assert np.allclose(np.diff(times), PERIOD / 2, atol=1e-2) and np.allclose(sizes, 3, rtol=1e-3)


def test_the_force_is_the_momentum_and_the_pressure_at_the_edges():
    """A wake that is slower is drag, a pressure that rises with y is negative lift: the integrals by hand."""
    y = Y[:, None]
    u = np.broadcast_to(1 - 0.5 * np.exp(-(y**2)) * (X > 0), (len(T), len(Y), len(X)))
    fields = np.stack([u, 0 * u, 0 * u], 1)
    drag, lift = wake_metrics.force(fields, X, Y, DT, 0.0)
    lost = 2 * 0.5 * np.sqrt(np.pi) - 0.25 * np.sqrt(np.pi / 2)
    assert np.allclose(drag, lost, rtol=1e-3) and np.allclose(lift, 0)
    pressure = np.stack([0 * u + 1, 0 * u, np.broadcast_to(2 * y, u.shape)], 1)
    drag, lift = wake_metrics.force(pressure, X, Y, DT, 0.0)
    box = X[np.searchsorted(X, wake_metrics.CONTOUR)] - X[0]
    assert np.allclose(drag, 0) and np.allclose(lift, -2 * 8 * box)


def test_the_force_follows_the_momentum_in_the_box():
    """A uniform stream a sin ωt that the box does not see coming: F = −A du/dt."""
    u = np.broadcast_to(np.sin(0.3 * T)[:, None, None], (len(T), len(Y), len(X)))
    drag, _ = wake_metrics.force(np.stack([u, 0 * u, 0 * u], 1), X, Y, DT, 0.0)
    box = (X[np.searchsorted(X, wake_metrics.CONTOUR)] - X[0]) * 8
    assert np.allclose(drag[2:-2], -box * 0.3 * np.cos(0.3 * T)[2:-2], atol=2e-4 * box)


def test_divergence_of_linear_flows():
    x, y = np.broadcast_to(X, (64, 128)), np.broadcast_to(Y[:, None], (64, 128))
    strain, spin = (np.stack([f, g, 0 * f])[None] for f, g in ((2 * x, 3 * y), (-y, x)))
    assert wake_metrics.divergence(strain, X, Y) == pytest.approx(5)
    assert wake_metrics.divergence(spin, X, Y) < 1e-12


def test_an_error_of_phase_alone_is_no_error():
    truth, late = street(), street(shift=3.0)
    plain = ((truth - late) ** 2)[100:, 1].sum() / (truth**2)[100:, 1].sum()
    found = wake_metrics.shifted_error(truth, late, X, Y, DT)
    assert plain > 1 and found["uy"] < 1e-3 and found["p"] < 1e-3 and found["shift"] == -3.0
    louder = truth * np.array([1, 1.1, 1])[:, None, None]
    assert wake_metrics.shifted_error(truth, louder, X, Y, DT)["uy"] == pytest.approx(0.01, rel=1e-6)
    assert np.isnan(wake_metrics.shifted_error(truth, np.full_like(truth, np.nan), X, Y, DT)["ux"])


def test_a_wake_in_numbers():
    found = wake_metrics.measure(street(), X, Y, DT, 0.01)
    assert set(found) == {"strouhal", "onset", "drag", "drag_std", "lift_rms", "divergence"}
    assert found["strouhal"] == pytest.approx(2 / PERIOD, rel=1e-3)
    lost = wake_metrics.measure(np.full((40, 3, 64, 128), np.nan), X, Y, DT, 0.01)
    assert all(np.isnan(value) for value in lost.values())
