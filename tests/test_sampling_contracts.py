"""Every model that draws samples, found by its file, keeps the contract of docs/design.md.

A model is tried on the targets and with the parameters of `TRIED`; all others on two small ones, with their defaults.
"""

import numpy as np
import pytest
import torch
from test_contracts import found, predicts

from physiglot import batches, checkpoint, models, targets, train
from physiglot.config import Training

ISING = {"module": "ising", "params": {"size": 3, "beta": 0.4}}
DUAL = {"module": "ising_dual", "params": {"size": 4}}
FIELD = {"module": "phi4", "params": {"size": 4}}
GAS = {"module": "coulomb_trap", "params": {"count": 3}}
FREE = {"module": "particles", "params": {}}
CHAINS = [{"module": "tfi_chain", "params": {"sites": 4}}, {"module": "heisenberg_chain", "params": {"sites": 4}}]
# Model -> (parameters, target, source of its training), as often as it is to be tried.
TRIED = {
    "rbm": [({"hidden": 4}, ISING, "data")],
    "boltzmann": [({}, ISING, "data")],
    "product": [({}, ISING, "energy"), ({"z2": True}, ISING, "energy")],
    "coupling": [({}, DUAL, "energy"), ({"univariate": "spline", "z2": False}, DUAL, "energy")],
    "velocity": [({"width": 0.5}, FIELD, "energy"), ({}, GAS, "energy"), ({"width": 3.0}, FREE, "energy")],
    "nnrg": [({}, DUAL, "energy")],
    "rbm_state": [({"chains": 16}, CHAINS[0], "energy"), ({"numbers": "complex", "chains": 16}, CHAINS[1], "energy")],
    "vae": [({}, ISING, "data")],
}
CASES = [
    (name, *case)
    for name in found("models")
    if not predicts(name)
    for case in TRIED.get(name, [({}, ISING, "energy")])
    if targets.described(case[1]["module"], {}) is not None
]


class Trained:
    """A model after two steps."""

    def __init__(self, name: str, params: dict, target: dict, source: str, folder):
        training = Training(source=source, batch=16, steps=2, window=1).model_dump()
        self.target, part = targets.build(target), {"module": name, "params": params}
        torch.manual_seed(0)
        zero = torch.zeros(self.target.shape)
        self.model = models.build(part, zero, zero + 1, target=target).train()
        snapshots = checkpoint.Snapshots(folder / "ckpt", "", "")
        loop = train.Loop(self.model, batches.Counts(16), batches.Counts(16), training, 0, snapshots)
        self.losses = [loop.advance() for _ in range(2)]
        self.validation = loop.validate()
        loop.finish()
        self.model.eval()


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]} {case[1] or ''} on {case[2]['module']}")
def case(request):
    return request.param


@pytest.fixture(scope="module")
def trained(case, tmp_path_factory) -> Trained:
    if case[3] != "energy":
        pytest.skip("it learns from data: its own tests train it")
    return Trained(*case, tmp_path_factory.mktemp("sampling"))


def drawn(model, target, count: int = 20, seed: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return model.draw(count, generator) if hasattr(model, "draw") else models.draw(model, target, count, generator)


def test_a_model_learns_from_an_energy(trained):
    for losses in trained.losses:
        assert all(torch.isfinite(value).all() and value.numel() == 1 for value in losses.values())
    assert np.isfinite(trained.validation["val_loss"])


def test_a_training_is_reproducible(case, trained, tmp_path):
    again = Trained(*case, tmp_path).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in trained.model.state_dict().items())


def test_samples_are_configurations_of_the_target(trained):
    found, target = drawn(trained.model, trained.target), trained.target
    assert found["x"].shape == (20, *target.shape)
    assert all(len(values) == 20 for values in found.values())
    if hasattr(target, "connected"):
        assert set(found["x"].unique().tolist()) <= {-1, 1} and torch.isfinite(found["energy"]).all()
        return
    if target.support == "spin":
        assert found["x"].dtype == torch.int8 and set(found["x"].unique().tolist()) <= {-1, 1}
    assert found["energy"].dtype == torch.float64
    assert torch.allclose(found["energy"], target.energy(found["x"].double()))


def test_the_log_probability_of_samples_is_that_of_log_prob(trained):
    if trained.model.log_prob_kind != "exact":
        pytest.skip("it has none")
    found, model = drawn(trained.model.double(), trained.target), trained.model
    assert found["log_prob"].dtype == torch.float64
    with torch.no_grad():
        assert torch.allclose(model.log_prob(found["x"].double()), found["log_prob"], atol=1e-5)


def test_draws_are_reproducible_and_survive_saving(trained, tmp_path):
    models.save(tmp_path / "weights.pt", trained.model)
    loaded = models.load(tmp_path / "weights.pt")
    ours, theirs = (drawn(m.float(), trained.target) for m in (trained.model, loaded))
    assert all(torch.equal(values, theirs[name]) for name, values in ours.items())
    other = drawn(loaded, trained.target, seed=4)
    assert not torch.equal(other["x"], theirs["x"])
