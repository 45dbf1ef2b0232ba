"""Exact values of spin models against each other and against sums over all states; the targets that offer them."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from physiglot import targets
from physiglot.exact import enumerate as enumeration
from physiglot.exact import patterns, torus
from physiglot.montecarlo import autocorrelation, exact, lattices
from physiglot.systems import ising, sk
from physiglot.targets.spins import Couplings, Lattice

CRITICAL = np.log(1 + np.sqrt(2)) / 2


def brute(target, beta: float) -> tuple[float, float]:
    """ln Z and ⟨E⟩ by the target's own energy on all states."""
    x = torch.from_numpy(enumeration.spins(int(np.prod(target.shape)))).double().unflatten(1, target.shape)
    u = beta * target.energy(x)
    log_z = torch.logsumexp(-u, 0)
    return float(log_z), float((torch.exp(-u - log_z) * u).sum() / beta)


@pytest.mark.parametrize("k", [0.1, 0.3, 0.44, CRITICAL, 0.6, 1.0])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_kaufman_is_the_sum_over_all_states(size, k):
    log_z, slope = torus.solve("square", size, k)
    assert np.allclose((log_z, -slope), brute(Lattice("square", size, k), k), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("k", [-0.7, -0.2, 0.0, 0.5])
@pytest.mark.parametrize(
    "lattice, size",
    [("square", 3), ("square", 4), ("triangular", 3), ("triangular", 4), ("honeycomb", 2), ("chain", 7)],
)
def test_every_lattice_and_sign_is_the_sum_over_all_states(lattice, size, k):
    target = Lattice(lattice, size, 1.0, -1 if k < 0 else 1)
    log_z, slope = torus.solve(lattice, size, k)
    if k == 0:
        assert log_z == pytest.approx(lattices.sites(lattice, size) * np.log(2), abs=1e-10) and abs(slope) < 1e-10
    else:
        assert np.allclose((log_z, -slope * np.sign(k)), brute(target, abs(k)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [8, 10])
def test_kaufman_is_the_transfer_matrix(size):
    for k in (0.3, CRITICAL):
        assert np.allclose(torus.solve("square", size, k), torus.transfer("square", size, k), rtol=1e-12, atol=1e-10)


def test_reference_values_of_large_tori():
    known = {(4, 0.44): 15.5047265387, (8, 0.44): 60.0763075272, (16, 0.44): 238.3872472042}
    for (size, k), log_z in {**known, (16, CRITICAL): 238.6422566351}.items():
        assert torus.solve("square", size, k)[0] == pytest.approx(log_z, abs=1e-9)
    catalan = 0.915965594177219
    infinite = torus.solve("square", 1024, CRITICAL)[0] / 1024**2
    assert infinite == pytest.approx(np.log(2) / 2 + 2 * catalan / np.pi, abs=1e-6)


def test_frustration_without_a_closed_form_has_no_value():
    assert torus.solve("square", 13, -0.3) is None and torus.solve("triangular", 15, 0.3) is None
    assert torus.solve("square", 14, -0.3) == pytest.approx(
        (torus.solve("square", 14, 0.3)[0], -torus.solve("square", 14, 0.3)[1])
    )


def test_the_reference_glass():
    """The free energy of the glass of the reference, and its pair correlations by differentiation."""
    for beta, free in ((0.5, -1.4830417219), (1.0, -0.8905125701)):
        target = targets.build({"module": "sk", "params": {"sites": 20, "beta": beta}})
        assert -target.exact_logZ() / beta / 20 == pytest.approx(free, abs=1e-9)
    found, step = target.enumerated(), 1e-5
    assert found.energy / 20 == pytest.approx(-0.39634251, abs=1e-8)
    J = target.couplings.copy()
    J[3, 15] = J[15, 3] = J[3, 15] + step
    change = (enumeration.pairwise(J, 1.0).log_z - found.log_z) / step
    assert change == pytest.approx(found.correlation[3, 15], abs=1e-4)
    assert -0.5 * (target.couplings * found.correlation).sum() == pytest.approx(found.energy, abs=1e-10)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_patterns_are_the_sum_over_all_states(count):
    target = sk.target(sk.Params(sites=11, beta=0.9, couplings="hebb", patterns=count))
    log_z, energy = brute(target, 0.9)
    found = patterns.hebb(target.patterns, 0.9)
    assert (found.log_z, found.energy) == pytest.approx((log_z, energy), abs=1e-10)
    assert target.exact_logZ() == found.log_z == pytest.approx(target.enumerated().log_z)


def test_many_spins_with_two_patterns_have_an_exact_free_energy():
    """∂ ln Z/∂β = −⟨E⟩; with many more the overlap is the mean field's, m = tanh(βm)."""
    target, step = sk.target(sk.Params(sites=100, beta=1.5, couplings="hebb")), 1e-5
    slope = (target.exact_logZ(1.5 + step) - target.exact_logZ(1.5 - step)) / (2 * step)
    assert slope == pytest.approx(-100 * target.exact_observables()["energy"], rel=1e-7)
    large = sk.target(sk.Params(sites=3000, beta=1.5, couplings="hebb"))
    assert patterns.hebb(large.patterns, 1.5).overlap == pytest.approx(0.8586, abs=0.005)
    many = sk.target(sk.Params(sites=100, couplings="hebb", patterns=12))
    assert many.exact_logZ() is None and many.exact_observables() == {}


def test_a_matrix_of_couplings_is_the_lattice():
    lattice = Lattice("triangular", 3, 0.4)
    dense = Couplings(lattice.matrix, 0.4)
    assert dense.exact_logZ() == pytest.approx(lattice.exact_logZ(), abs=1e-10)
    x = torch.from_numpy(enumeration.spins(9)).double()
    assert torch.allclose(dense.energy(x), lattice.energy(x.unflatten(1, (3, 3))))


@pytest.mark.parametrize("lattice", ["square", "triangular", "honeycomb", "chain"])
@pytest.mark.parametrize("coupling", ["ferromagnetic", "antiferromagnetic"])
def test_symmetries_leave_the_energy(lattice, coupling):
    target = ising.target(ising.Params(lattice=lattice, size=4, beta=0.4, coupling=coupling))
    x = torch.randn(20, *target.shape, dtype=torch.float64).sign()
    for name, move in target.symmetries.items():
        assert not torch.equal(move(x), x), name
        assert torch.allclose(target.energy(move(x)), target.energy(x)), name


def test_observables_of_all_states_have_the_exact_means():
    glasses = [sk.target(sk.Params(sites=12, beta=1.0, couplings=kind)) for kind in ("gaussian", "hebb")]
    for target in (Lattice("square", 4, 0.44), *glasses):
        x = torch.from_numpy(enumeration.spins(int(np.prod(target.shape)))).double().unflatten(1, target.shape)
        p = torch.softmax(-target.beta * target.energy(x), 0)
        known = target.exact_observables()
        assert "energy" in known
        for name, value in known.items():
            assert float((p * target.observables[name](x)).sum()) == pytest.approx(value, abs=1e-10), name


@pytest.mark.parametrize("couplings", ["gaussian", "hebb"])
def test_chains_of_the_glass_have_the_exact_energy(couplings):
    params = sk.Params(sites=12, beta=0.8, couplings=couplings, steps=40, sweeps=4, thermalisation=100)
    data = sk.simulate(params, 64, np.random.default_rng(0))
    known = sk.target(params).exact_observables()["energy"]
    assert abs(autocorrelation.z_score(data["energy"].values, known)) < 4


def test_chains_at_one_temperature_are_configurations_of_the_target():
    """The packed bytes of a data set, as floats, are the ±1 whose energy the chain noted; the mean is exact."""
    params = {"size": 4, "beta": 0.44, "steps": 50, "sweeps": 8, "dynamics": "swendsen_wang", "thermalisation": 50}
    data, target = (f(ising.Params(**params)) for f in (chains_of_sixteen, ising.target))
    assert np.allclose(data["parameters"], 1 / 0.44)
    x = target.configurations(torch.from_numpy(data["state"].values).float())
    assert x.shape == (800, 4, 4) and torch.equal(target.configurations(x.flatten(1)), x)
    assert np.allclose(target.energy(x).numpy() / 16, data["energy"].values.ravel())
    assert abs(autocorrelation.z_score(data["energy"].values, target.exact_observables()["energy"])) < 4
    assert exact.enumerated("square", 4, 1 / 0.44)["absolute"] == pytest.approx(target.exact_observables()["|m|"])
    with pytest.raises(ValueError, match="3 fields"):
        target.configurations(torch.zeros(2, 1, 3))


def chains_of_sixteen(params: ising.Params):
    return ising.simulate(params, 16, np.random.default_rng(1))


def test_bad_input_is_refused():
    target = Lattice("square", 4, 0.44)
    for x, said in ((torch.ones(2, 16), "shape"), (torch.ones(2, 4, 4).int(), "type"), (torch.zeros(2, 4, 4), "spin")):
        with pytest.raises(ValueError, match=f"x.*{said}"):
            target.energy(x)
    for J, said in ((np.eye(3), "diagonal"), (np.triu(np.ones((3, 3)), 1), "symmetric"), (np.ones(3), "square")):
        with pytest.raises(ValueError, match=said):
            Couplings(J, 1.0)
    with pytest.raises(ValueError, match="at most 22"):
        enumeration.spins(23)
    assert sk.target(sk.Params(sites=30)).exact_logZ() is None
    with pytest.raises(ValidationError, match="beta"):
        ising.Params(beta=0.4, temperatures=[2.0])
    with pytest.raises(ValueError, match="beta"):
        ising.target(ising.Params())
    with pytest.raises(ValueError, match="coupling"):
        ising.simulate(ising.Params(coupling="antiferromagnetic"), 1, np.random.default_rng(0))
