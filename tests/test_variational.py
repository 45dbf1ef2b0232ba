"""Training from an energy: mean field against its closed forms, resuming, ranks, and what a target depends on."""

import numpy as np
import pytest
import torch
from gas import Paramagnet, states
from scipy.optimize import minimize_scalar
from scipy.stats import entropy

from physiglot import batches, checkpoint, models, targets, train
from physiglot.config import Training
from physiglot.generative import losses
from physiglot.generative.report import draw, report
from physiglot.ranks import Ranks

ISING = {"module": "ising", "params": {"size": 4, "beta": 0.5}}
FIELD = {"module": "gff", "params": {"size": 4, "mass2": 1.0}}


def model_of(target: dict, **params):
    zero = torch.zeros(targets.build(target).shape)
    torch.manual_seed(0)
    return models.build({"module": "product", "params": params}, zero, zero + 1, target=target)


def loop_of(model, folder, **training) -> train.Loop:
    given = Training(source="energy", **training).model_dump()
    snapshots = checkpoint.Snapshots(folder / "ckpt", "key", "lineage")
    return train.Loop(model, batches.Counts(given["batch"]), batches.Counts(256), given, 0, snapshots)


def bound(model, target, n: int = 4000) -> tuple[float, float]:
    """ln Z_q and its error, by the report."""
    found = report(draw(model.double().eval(), target, n, torch.Generator().manual_seed(1)), target)
    return found["lnZ_q"], found["lnZ_q_stderr"]


def test_mean_field_of_the_ising_model(tmp_path):
    """max over m of entropy + 2 beta m² per site, the magnetisation of every site the same."""
    model, target = model_of(ISING, spread=0.3), targets.build(ISING)
    loop = loop_of(model, tmp_path, steps=400, batch=400, lr=0.05, schedule="cosine")
    for _ in range(400):
        loop.advance()
    best = minimize_scalar(
        lambda m: -(entropy([(1 + m) / 2, (1 - m) / 2]) + 1.0 * m * m), bounds=(0.1, 1), method="bounded"
    )
    value, error = bound(model, target)
    assert value == pytest.approx(-16 * best.fun, abs=4 * error + 0.01) and value < target.exact_logZ()


def test_mean_field_of_the_free_field(tmp_path):
    """Independent Gaussians of variance 1/(m² + 4), by the pathwise gradient."""
    model, target = model_of(FIELD), targets.build(FIELD)
    loop = loop_of(model, tmp_path, steps=300, batch=200, lr=0.03, schedule="cosine")
    for _ in range(300):
        loop.advance()
    assert model.log.exp().square().mean().item() == pytest.approx(0.2, rel=0.03)
    value, error = bound(model, target)
    assert value == pytest.approx(8 * np.log(2 * np.pi / 5), abs=4 * error + 0.01)


@pytest.mark.parametrize(("target", "fields"), [(ISING, 2), (FIELD, 1), (FIELD, 16)])
def test_statistics_of_data_are_per_field(target, fields):
    """Spins come as bytes, lattices as one field, particles as many."""
    mean, std = torch.full((fields,), 2.0), torch.full((fields,), 3.0)
    model = models.build({"module": "product", "params": {"spread": 0.0}}, mean, std, target=target)
    assert model.field.shape == (4, 4) and set(model.field.unique().tolist()) == ({0.0} if fields == 2 else {2.0})


def test_both_signs_are_a_normalised_mixture():
    target = Paramagnet(8, h=0.0, beta=1.0)
    model = model_of(ISING, z2=True)
    model.field.data = torch.linspace(-1, 1, 8)
    model.target = target
    x = states(8)
    p = model.double().log_prob(x).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-9) and torch.allclose(p, p.flip(0))
    drawn, log_prob = model.sample(2000, torch.Generator().manual_seed(0))
    assert torch.allclose(log_prob, model.log_prob(drawn))
    assert abs(drawn.mean(0)).max() < 4 / np.sqrt(2000)


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    given = {"steps": 10, "batch": 32, "lr": 0.05}
    whole = loop_of(model_of(ISING), tmp_path / "a", **given)
    for _ in range(10):
        whole.advance()
    first = loop_of(model_of(ISING), tmp_path / "b", **given)
    for _ in range(4):
        first.advance()
    first.save()
    second = loop_of(model_of(ISING), tmp_path / "b", **given)
    second.load(second.snapshots.resume())
    for _ in range(6):
        second.advance()
    assert all(torch.equal(v, second.model.state_dict()[k]) for k, v in whole.model.state_dict().items())


def test_ranks_draw_their_shares_with_streams_of_their_own():
    drawn = []
    for rank in range(2):
        torch.manual_seed(7)
        assert batches.Counts(8, Ranks(rank, 2)).at(0) == {"count": 4}
        drawn.append(torch.rand(4))
    torch.manual_seed(7)
    assert torch.equal(drawn[0], torch.rand(4)) and not torch.equal(*drawn)
    with pytest.raises(ValueError, match="does not divide among 2 ranks"):
        batches.Counts(7, Ranks(0, 2))


def test_a_loss_names_what_the_model_allows():
    class Bound:
        log_prob_kind = "lower_bound"

    with pytest.raises(
        TypeError, match=r"free_energy: needs a model whose log_prob is exact.*allowed for it: elbo, iwae"
    ):
        losses.free_energy(Bound(), None, 1.0, 10)


def test_annealing_ends_near_the_full_temperature():
    assert losses.annealed(0.5, 0.3, None) == 0.5
    values = [losses.annealed(0.5, p, 0.2) for p in (0.0, 0.2, 1.0)]
    assert values == pytest.approx([0.0, 0.5 * (1 - np.exp(-1)), 0.5 * (1 - np.exp(-5))])


def test_the_full_temperature_counts_in_validation(tmp_path):
    """A model at zero fields has F_q = E − N ln 2 at the full beta while the training is still hot."""
    model = model_of(ISING, anneal=1.0, spread=0.0)
    loop = loop_of(model, tmp_path, steps=10, batch=64)
    hot = loop.advance()["loss"].item()
    assert hot == pytest.approx(-16 * np.log(2), abs=1e-3)
    model.field.data[:] = 3.0
    assert loop.validate()["val_loss"] == pytest.approx(-0.5 * 32 * np.tanh(3) ** 2, rel=0.05)


def test_a_target_has_the_parameters_that_it_lists():
    given = {"size": 4, "beta": 0.5, "steps": 50, "dynamics": "wolff"}
    assert targets.described("ising", given) == {"module": "ising", "params": {"size": 4, "beta": 0.5}}
    assert targets.described("lorenz", {}) is None
