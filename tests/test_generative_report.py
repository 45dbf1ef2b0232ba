"""The report of generative models against closed forms, and its statistics against theirs."""

import gas
import numpy as np
import pytest
import torch
from scipy import stats

from physiglot.generative import independence, reweighting
from physiglot.generative.report import Drawn, draw, report

LNZ, LOWER, UPPER, ESS, ACC, GAP = 7.3748795049, 6.9314718056, 7.8054096430, 0.4428441090, 0.5133730379, 0.0775686211


def z(found: dict, name: str, exact: float) -> float:
    return (found[name] - exact) / found[f"{name}_stderr"]


# --- uniform q on ten spins in a field ---------------------------------------------------------


@pytest.fixture(scope="module")
def target() -> gas.Paramagnet:
    return gas.Paramagnet(10, beta=gas.A)


@pytest.fixture(scope="module")
def enumerated(target) -> tuple[np.ndarray, np.ndarray]:
    """Log-weights of uniform q on all states, and the probabilities of the target."""
    lw = (-target.beta * target.energy(gas.states(10))).numpy() + 10 * np.log(2)
    return lw, reweighting.normalised(lw)


def test_the_spec_s_numbers_by_enumeration(target, enumerated):
    lw, pi = enumerated
    assert target.exact_logZ() == pytest.approx(LNZ, abs=1e-10)
    assert reweighting.log_mean(lw) == pytest.approx(LNZ, abs=1e-10)
    assert lw.mean() == pytest.approx(LOWER, abs=1e-10)
    assert pi @ lw == pytest.approx(UPPER, abs=1e-10)
    assert reweighting.ess(lw) == pytest.approx(ESS, abs=1e-10)
    accepted = independence.acceptance(lw[:, None], lw[None, :]).mean(1)
    assert pi @ accepted == pytest.approx(ACC, abs=1e-10)
    p = independence.matrix(np.full(1024, 2.0**-10), lw)
    second = np.sort(np.linalg.eigvalsh(p * np.sqrt(pi[:, None] / pi[None, :])))[-2]
    assert 1 - second == pytest.approx(GAP, abs=1e-9) and pytest.approx(1 / (pi * 1024).max(), abs=1e-9) == GAP


def test_the_report_of_uniform_samples(target):
    found = report(gas.spins(target, 0.0, 20000, 1, reference=20000), target)
    for name, exact in {"lnZ_q": LOWER, "lnZ_rw": LNZ, "lnZ_upper": UPPER, "bar": LNZ}.items():
        assert abs(z(found, name, exact)) < 4
    assert found["F_q"] == pytest.approx(-found["lnZ_q"] / gas.A)
    assert found["ess"] == pytest.approx(ESS, abs=0.02) and found["acc"] == pytest.approx(ACC, abs=0.02)
    assert found["lnZ_exact"] == pytest.approx(LNZ) and found["gap_per_site"] == pytest.approx(
        (LNZ - LOWER) / 10, abs=5e-3
    )
    assert found["bracket_width"] == pytest.approx(UPPER - LOWER, abs=0.05)
    assert found["relaxation"] == pytest.approx(1 / GAP, rel=1e-2), "all up was seen"
    assert found["converged"] == 0.0, "the bracket is wider than 0.05 nats a spin"
    assert report(gas.spins(target, 0.0, 2000, 1, reference=2000), target, width=0.2)["converged"] == 1.0


def test_the_exact_model_has_no_tail(target):
    found = report(gas.spins(target, gas.A, 1000, 2), target)
    assert found["ess"] == pytest.approx(1) and found["acc"] == pytest.approx(1) and found["converged"] == 1.0
    assert found["lnZ_q"] == pytest.approx(LNZ) == pytest.approx(found["lnZ_rw"])


# --- Metropolis with a model's proposals -------------------------------------------------------


def lattice(seed: int, off: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q, π and log-weights of random independent spins as a model of a 3 × 3 Ising lattice at K = 0.4."""
    s = gas.states(9)
    grid = s.reshape(-1, 3, 3)
    log_pi = 0.4 * (grid * grid.roll(1, 1) + grid * grid.roll(1, 2)).sum((1, 2)).numpy()
    fields = np.random.default_rng(seed).normal(0, 0.3, 9)
    log_q = s.numpy() @ fields - np.log(2 * np.cosh(fields)).sum()
    wrong = off * (s[:, 0] * s[:, 4]).numpy()
    return np.exp(log_q), reweighting.normalised(log_pi), log_pi - log_q - wrong


@pytest.mark.parametrize("seed", [0, 1])
def test_detailed_balance_on_all_states_of_a_lattice(seed):
    q, pi, lw = lattice(seed)
    p = independence.matrix(q, lw)
    flow = pi[:, None] * p
    assert np.abs(p.sum(1) - 1).max() < 1e-12 and (p >= -1e-15).all()
    assert np.abs(flow - flow.T).max() < 1e-12
    assert np.abs(pi @ p - pi).max() < 1e-12


def test_detailed_balance_fails_with_a_wrong_log_probability():
    q, pi, lw = lattice(0, off=0.05)
    flow = pi[:, None] * independence.matrix(q, lw)
    assert np.abs(flow - flow.T).max() > 1e-6


def test_the_chain_follows_the_matrix():
    """Visits of a chain whose proposals are drawn from q, against the stationary distribution."""
    q, pi, lw = lattice(1)
    rng = np.random.default_rng(0)
    proposed = rng.choice(512, size=100_000, p=q)
    visited, accepted = independence.chain(lw[proposed], rng)
    energy = np.log(pi)
    mean, error = independence_error(energy[proposed[visited]])
    assert abs(mean - pi @ energy) < 4 * error
    expected = pi @ (independence.acceptance(lw[:, None], lw[None, :]) @ q)
    assert accepted == pytest.approx(expected, abs=0.02)


def independence_error(series: np.ndarray) -> tuple[float, float]:
    from physiglot.montecarlo.autocorrelation import mean_error

    return mean_error(series)


@pytest.mark.parametrize("field", [0.3, 0.2, 0.0, -0.2], ids=["good", "fair", "uniform", "bad"])
def test_neural_metropolis_gives_exact_observables(target, field):
    """From good and from deliberately bad models, whose raw samples are wrong by many standard errors."""
    found = report(gas.spins(target, field, 40000, 5), target)
    for name in ("energy_metropolis", "magnetisation_metropolis", "magnetisation_rw"):
        assert abs(found[f"{name}_z"]) < 4, name
    exact = found["magnetisation_exact"]
    assert exact == pytest.approx(np.tanh(gas.A))
    off = abs(found["magnetisation_raw"] - exact) / found["magnetisation_raw_stderr"]
    assert (off < 4) == (field == 0.3)


def test_metropolis_is_wrong_with_a_wrong_log_probability(target):
    found = report(gas.spins(target, 0.2, 40000, 5, off=0.1), target)
    assert abs(found["magnetisation_metropolis_z"]) > 4


# --- Gaussians ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.2, 0.5])
def test_shifted_gaussians(shift):
    """lnZ − d shift²/2 ≤ lnZ ≤ lnZ + d shift²/2, ESS = e^(−d shift²)."""
    target, half = gas.Oscillator(2, 1.0), shift**2
    found = report(gas.gaussian(target, shift, 40000, 3, reference=40000), target)
    lnz = np.log(2 * np.pi)
    for name, exact in {"lnZ_q": lnz - half, "lnZ_rw": lnz, "lnZ_upper": lnz + half, "bar": lnz}.items():
        assert abs(z(found, name, exact)) < 4, name
    assert found["bar_stderr"] < found["lnZ_rw_stderr"] * 1.1
    assert found["ess"] == pytest.approx(np.exp(-2 * half), abs=0.03)
    assert all(abs(found[f"{name}_{way}_z"]) < 4 for name in ("mean", "square") for way in ("rw", "metropolis"))


def test_a_wrong_log_probability_is_found():
    target = gas.Oscillator(2)
    right, wrong = (report(gas.gaussian(target, 0.2, 40000, 3, off=off), target) for off in (0.0, 0.05))
    assert abs(right["lnZ_rw_z"]) < 4 and right["converged"] == 1.0
    assert abs(wrong["lnZ_rw_z"]) > 4 and wrong["converged"] == 0.0


def test_a_lost_mode_is_found_by_the_exact_value():
    """Half of the states are never drawn: the weights look perfect, and ln Z is too small by ln 2."""
    target = gas.Paramagnet(10, h=0.0, beta=1.0)
    drawn = gas.spins(target, 0.0, 2000, 1)
    x = torch.where(drawn.x.sum(1, keepdim=True) < 0, -drawn.x, drawn.x)
    lost = Drawn(x, drawn.energy, np.full(2000, -9 * np.log(2)), "exact")
    found = report(lost, target)
    assert found["ess"] == pytest.approx(1) and found["lnZ_rw"] == pytest.approx(9 * np.log(2))
    assert found["converged"] == 0.0


# --- the shape of the tail ---------------------------------------------------------------------


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_khat_is_the_shape_of_the_tail(k):
    """w = u^(−k) is a Pareto distribution of shape k; the prior draws the estimate a little towards ½."""
    found = [reweighting.khat(-k * np.log(np.random.default_rng(i).random(20000))) for i in range(8)]
    assert np.mean(found) == pytest.approx(k, abs=0.06)


def test_the_shape_agrees_with_maximum_likelihood():
    x = np.sort(stats.genpareto.rvs(0.4, size=4000, random_state=1))
    assert reweighting.pareto_shape(x) == pytest.approx(stats.genpareto.fit(x, floc=0)[0], abs=0.01)


def test_heavy_tails_are_flagged():
    target = gas.Oscillator(8)
    found = report(gas.gaussian(target, 1.5, 2000, 1), target)
    assert found["khat"] > 0.7 and found["unreliable"] == 1.0 and found["converged"] == 0.0


def test_weights_beyond_the_range_of_floats_are_heavy():
    assert reweighting.khat(np.random.default_rng(0).normal(0, 2000, 2000)) > 0.7


# --- what is not defined -----------------------------------------------------------------------


def test_what_is_undefined_says_why(target):
    drawn = gas.spins(target, 0.0, 200, 1)
    found = report(Drawn(drawn.x, drawn.energy, None, "unnormalised"), target)
    for name in ("lnZ_q", "F_q", "ess", "acc", "converged", "bar"):
        assert np.isnan(found[name]) and "unnormalised, not exact" in found[f"{name}_reason"]
    assert abs(found["magnetisation_raw"]) < 0.2 and "magnetisation_rw" not in found
    assert "no samples of the target" in report(drawn, target)["bar_reason"]


def test_without_a_second_witness_nothing_is_converged(target, monkeypatch):
    monkeypatch.setattr(gas.Paramagnet, "exact_logZ", lambda self, beta=None: None)
    found = report(gas.spins(target, 0.3, 200, 1), target)
    assert np.isnan(found["converged"]) and "neither" in found["converged_reason"] and "lnZ_exact" not in found


def test_configurations_without_weight(target):
    drawn = gas.gaussian(gas.Oscillator(2), 0.1, 500, 1)
    energy = np.where(np.arange(500) < 50, np.inf, drawn.energy)
    found = report(Drawn(drawn.x, energy, drawn.log_prob, "exact"), gas.Oscillator(2))
    assert np.isnan(found["lnZ_q"]) and "+inf" in found["lnZ_q_reason"]
    assert found["lnZ_rw"] == pytest.approx(np.log(2 * np.pi * 0.9), abs=0.05) and np.isfinite(found["energy_rw"])
    nothing = report(Drawn(drawn.x, np.full(500, np.inf), drawn.log_prob, "exact"), gas.Oscillator(2))
    assert nothing["ess_reason"] == "all weights are zero"


def test_a_model_without_density_where_the_target_is(target):
    """The upper bound is infinite, and the model has not converged, whatever its own samples say."""
    drawn = gas.spins(target, gas.A, 500, 1, reference=500)
    lost = np.where(np.arange(500) < 5, -np.inf, drawn.reference_log_prob[:, 0])[:, None]
    found = report(Drawn(drawn.x, drawn.energy, drawn.log_prob, "exact", drawn.reference_energy, lost), target)
    assert np.isnan(found["lnZ_upper"]) and "no density at 5" in found["lnZ_upper_reason"]
    assert found["converged"] == 0.0 and found["bar"] == pytest.approx(LNZ, abs=0.1)


def test_what_cannot_be_reported_is_refused(target):
    with pytest.raises(ValueError, match="of 50 samples: allowed are 100 or more"):
        report(gas.spins(target, 0.0, 50, 1), target)
    drawn = gas.spins(target, 0.0, 200, 1)
    with pytest.raises(ValueError, match="1 of 200 samples have a weight that is not a number"):
        report(Drawn(drawn.x, np.where(np.arange(200) == 3, np.nan, drawn.energy), drawn.log_prob, "exact"), target)


def test_a_report_by_a_model_itself(target):
    """Uniform spins as a model, beside configurations of the target that it is told."""

    class Uniform:
        log_prob_kind = "exact"

        def log_prob(self, x):
            return torch.full((len(x),), -10 * np.log(2))

        def sample(self, n, generator=None):
            x = 2.0 * torch.randint(2, (n, 10), generator=generator) - 1
            return x, self.log_prob(x)

    beside = gas.spins(target, gas.A, 20000, 3).x
    found = report(draw(Uniform(), target, 20000, torch.Generator().manual_seed(2), beside), target)
    for name, exact in {"lnZ_q": LOWER, "lnZ_rw": LNZ, "lnZ_upper": UPPER, "bar": LNZ}.items():
        assert abs(z(found, name, exact)) < 4
