"""Associative memories: energies never rise, recall is what the theory says, the modern network is attention."""

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from physiglot import imports, ingest, store
from physiglot.config import System
from physiglot.exact import retrieval
from physiglot.generative import memory
from physiglot.models import hopfield
from physiglot.systems import patterns


def random(count: int, sites: int, seed: int = 0) -> torch.Tensor:
    data = patterns.simulate(patterns.Params(sites=sites), count, np.random.default_rng(seed))
    return torch.from_numpy(data["state"].values[:, 0]).double()


def recalled(known: torch.Tensor, cues: int, **params) -> dict[str, torch.Tensor]:
    zero = torch.zeros(known.shape[1])
    model = hopfield.Model(hopfield.Params(**params), mean=zero, std=zero + 1)
    model.fit({"state": known[:, None]})
    return model.read(known[:cues, None])


def naive(xi: torch.Tensor, s: torch.Tensor, g) -> torch.Tensor:
    """Σ_μ G(ξ_μi + h_μ) − G(−ξ_μi + h_μ), site by site, as the update rule is written."""
    fields = []
    for i in range(s.shape[1]):
        h = s @ xi.T - s[:, [i]] * xi[:, i]
        fields.append((g(xi[:, i] + h) - g(-xi[:, i] + h)).sum(1))
    return torch.stack(fields, 1)


@pytest.mark.parametrize("rule, power", [("hebb", 2), ("power", 2), ("power", 3), ("power", 6), ("exponential", 2)])
def test_the_gain_is_the_published_update(rule, power):
    xi, s = random(30, 17), random(9, 17, 1)
    g = torch.exp if rule == "exponential" else lambda z: z**power
    field, gain = naive(xi, s, g), memory.gain(xi, s, rule, power)
    assert torch.allclose(gain / gain.abs().amax(1, True), s * field / field.abs().amax(1, True), atol=1e-9)
    moved = memory.step(xi, s, rule, power)
    assert torch.equal(moved, torch.where(field != 0, field.sign(), s))
    turned = s.clone()
    turned[:, 5] *= -1
    change = memory.energy(xi, turned, rule, power) - memory.energy(xi, s, rule, power)
    assert torch.equal(change.sign(), gain[:, 5].sign())


def test_hebbs_couplings_and_the_overlaps_say_the_same():
    xi, s = random(12, 40), random(6, 40, 1)
    couplings = memory.hebb(xi)
    assert torch.equal(couplings.diagonal(), torch.zeros(40).double()) and torch.equal(couplings, couplings.T)
    spin_glass = -0.5 * ((s @ couplings) * s).sum(1)
    assert torch.allclose(spin_glass, memory.energy(xi, s, "hebb") / 80 + 12 / 2)


def test_asynchronous_updates_by_hebbs_rule_end_in_a_minimum():
    """Every spin along its field, and the energy below that of the start, sweep by sweep."""
    xi, s = random(20, 80), random(50, 80, 1)
    couplings, energies = memory.hebb(xi), [memory.energy(xi, s, "hebb")]
    for sweeps in (1, 2, 100):
        found = memory.settle(xi, s, sweeps, torch.Generator().manual_seed(0))
        energies.append(memory.energy(xi, found, "hebb"))
        assert (energies[-1] <= energies[-2] + 1e-9).all()
    assert (energies[1] < energies[0]).any() and ((found @ couplings) * found > -1e-9).all()


@pytest.mark.parametrize("rule", ["power", "exponential"])
def test_asynchronous_updates_of_a_dense_memory_never_raise_the_energy(rule):
    xi, s = random(60, 24), random(10, 24, 1)
    last = memory.energy(xi, s, rule, 3)
    for sweeps in (1, 2, 50):
        found = memory.descend(xi, s, rule, 3, sweeps, torch.Generator().manual_seed(0))
        assert (memory.energy(xi, found, rule, 3) <= last + 1e-12 * last.abs()).all()
        last = memory.energy(xi, found, rule, 3)
    assert (memory.gain(xi, found, rule, 3) > -1e-9).all()


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 30.0])
def test_the_modern_network_is_attention(sharpness):
    torch.manual_seed(0)
    xi, s = torch.randn(50, 16).double(), torch.randn(7, 16).double()
    attention = F.scaled_dot_product_attention(s[None], xi[None], xi[None], scale=sharpness)[0]
    assert (memory.attend(xi, s, sharpness) - attention).abs().max() < 1e-6


def test_a_sharp_modern_memory_recalls():
    found = recalled(random(500, 64), 20, rule="modern", stored=[500], flipped=0.2)
    assert found["overlap"].min() > 0.99 and (found["cue"] * random(500, 64)[:20]).mean() == pytest.approx(
        0.6, abs=0.02
    )


def test_the_capacity_of_hebbs_rule():
    """N = 2000, 12 patterns: the retrieval state below α_c agrees with the theory, above it is gone."""
    found = recalled(random(400, 2000), 12, stored=[200, 400])["overlap"].mean(0)
    assert found[0] > 0.97 and found[1] < 0.5
    assert float(found[0]) == pytest.approx(retrieval.overlap(0.10), abs=2e-3)


def test_an_exponential_memory_of_many_patterns():
    """N = 48, 2¹⁶ patterns, 10 % of the spins wrong, one step: no bit is wrong."""
    found = recalled(random(2**16, 48), 50, rule="exponential", stored=[2**16], flipped=0.1, update="once")
    assert found["right"].shape == (50, 1) and (found["right"] == 1).all()
    assert ((found["cue"] * random(2**16, 48)[:50]).sum(1) == 48 - 2 * 5).all()


def test_a_memory_that_does_not_know_a_pattern_says_so():
    found = recalled(random(8, 30), 8, stored=[4, 8])
    assert found["known"][:, 0].tolist() == [1] * 4 + [0] * 4 and (found["known"][:, 1] == 1).all()


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"patterns \(3, 5\): allowed: entries ±1"):
        memory.checked(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="stored: 9: the training split has 8 patterns"):
        recalled(random(8, 30), 1, stored=[9])
    with pytest.raises(ValidationError, match="growing numbers"):
        hopfield.Params(stored=[8, 4])


def test_patterns_of_ones_own_are_imported(tmp_path):
    """A file of datasets (1, N) becomes a block that the memory stores."""
    (tmp_path / "mine").mkdir()
    own = random(5, 12, 7)
    with h5py.File(tmp_path / "mine/own.hdf5", "w") as file:
        for k, pattern in enumerate(own.numpy()):
            file[f"{k:02}"] = pattern[None].astype(np.float32)
    splits = {"train": {"members": 0}, "val": {"members": 1}}
    system = System(module="patterns", params={"sites": 12}, splits=splits, imports={"train": str(tmp_path / "mine")})
    imports.check("systems.patterns", system)
    spec = {"module": "patterns", **imports.series(system, "train"), "block": 8, "chunk": 4}
    ingest.ingest(spec=spec, file=tmp_path / "mine/own.hdf5", out=tmp_path / "own.zarr/zarr.json")
    state = torch.from_numpy(store.open_group(tmp_path / "own.zarr")["state"].values)
    assert torch.equal(state[:, 0].double(), own)
    assert (recalled(own, 5, rule="exponential", stored=[5])["right"] == 1).all()
