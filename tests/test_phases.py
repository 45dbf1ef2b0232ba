"""Classifiers of phases: the published networks in detail, what they are told, and what the controls find."""

import numpy as np
import pytest
import torch
from torch import nn

from physiglot import models, sites
from physiglot.models.phase_transformer import Block
from physiglot.models.phase_transformer import Params as TransformerParams
from physiglot.montecarlo import chains
from physiglot.phases import classifier, crossing
from physiglot.phases.labels import Labelled
from physiglot.strict import ConfigError, check
from physiglot.systems import ising

LARGE = {"width": 32, "heads": 4, "size": 32}


def built(name: str, fields: int = 20, **params):
    torch.manual_seed(0)
    return models.build({"module": name, "params": params}, torch.zeros(fields), torch.ones(fields))


def spins(samples: int, fields: int = 20, steps: int = 10) -> torch.Tensor:
    return torch.randint(2, (samples, steps, fields), generator=torch.Generator().manual_seed(1)) * 2.0 - 1


# --- the published networks --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "count"),
    [
        ("phase_transformer", {"variant": "faithful"}, 107_921),
        ("phase_transformer", {"variant": "faithful", "quantity": "angle", "tokens": 100, **LARGE}, 436_129),
        ("phase_transformer", {"variant": "faithful", "quantity": "real", **LARGE}, 434_209),
        ("phase_bilstm", {"variant": "faithful"}, 49_089),
        ("phase_bilstm", {"variant": "faithful", "quantity": "real", "units": 16}, 91_329),
        ("phase_cnn", {"variant": "faithful"}, 211_697),
        ("phase_fcn", {"variant": "faithful"}, 75_393),
    ],
)
def test_the_networks_have_the_published_number_of_weights(name, params, count):
    model = built(name, **params)
    running = [b for n, b in model.named_buffers() if "running" in n]
    assert sum(t.numel() for t in [*model.parameters(), *running]) == count


def naive(block: Block, x: torch.Tensor) -> torch.Tensor:
    """Attention over the steps of one series (step, width), head by head."""
    heads = []
    for h in range(block.heads):
        part = slice(h * block.size, (h + 1) * block.size)
        q, k, v = (layer(x)[:, part] for layer in (block.query, block.key, block.value))
        heads.append((q @ k.T / block.size**0.5).softmax(-1) @ v)
    return block.out(torch.cat(heads, dim=-1))


def test_attention_over_kinds_is_attention_over_steps():
    """Without positions a token receives the same from its series whichever way it is computed."""
    torch.manual_seed(0)
    block = Block(TransformerParams()).double()
    kinds, tokens = torch.randn(3, 8, dtype=torch.float64), torch.randint(3, (40, 12))
    counts = nn.functional.one_hot(tokens, 3).sum(1).double()
    found = block.attend_kinds(kinds, counts).gather(1, tokens.unsqueeze(-1).expand(-1, -1, 8))
    assert torch.allclose(found, block.attend(kinds[tokens]), atol=1e-12)
    assert torch.allclose(found[7], naive(block, kinds[tokens[7]]), atol=1e-12)


@pytest.mark.parametrize("variant", ["faithful", "sound"])
def test_a_spin_down_is_the_zero_vector_only_as_published(variant):
    model = built("phase_transformer", variant=variant).eval()
    before = model.logit(spins(8))
    with torch.no_grad():
        model.table.weight[0] += 1.0
    assert torch.equal(model.logit(spins(8)), before) == (variant == "faithful")
    assert torch.equal(model.rows()[0], torch.zeros(8)) == (variant == "faithful")


def test_training_and_reading_compute_the_same_transformer():
    """In training the block runs on every token, since dropout is drawn for each; else on the kinds of a series."""
    model = built("phase_transformer", dropout=0.0)
    for layer in model.head:
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    read = model.eval().logit(spins(16))
    assert torch.allclose(model.train().logit(spins(16)), read, atol=1e-6)
    model.params = model.params.model_copy(update={"dropout": 1e-12})
    assert torch.allclose(model.train().logit(spins(16)), read, atol=1e-6)


def test_the_batched_lstms_are_lstms():
    """Each series and direction against torch's own, whose second bias is zero and whose gates are i, f, g, o."""
    model = built("phase_bilstm", fields=3, series=3, steps=7)
    x, size = torch.randn(5, 7, 3), model.params.units
    found = model.last(x).unflatten(1, (3, 2, size))
    for series in range(3):
        for direction in range(2):
            unit, own = 2 * series + direction, nn.LSTM(1, size, batch_first=True)
            with torch.no_grad():
                own.weight_ih_l0.copy_(model.enter[unit].T)
                own.weight_hh_l0.copy_(model.recur[unit].T)
                own.bias_ih_l0.copy_(model.bias[unit, 0])
                own.bias_hh_l0.zero_()
            given = x[..., series : series + 1]
            _, (last, _) = own(given.flip(1) if direction else given)
            assert torch.allclose(found[:, series, direction], last[0], atol=1e-6)


def test_the_networks_begin_as_keras_begins():
    lstm, cnn = built("phase_bilstm"), built("phase_cnn")
    assert (lstm.bias[..., 10:20] == 1).all() and (lstm.bias[..., :10] == 0).all() and (lstm.bias[..., 20:] == 0).all()
    eye = lstm.recur @ lstm.recur.transpose(1, 2)
    assert torch.allclose(eye, torch.eye(10).expand_as(eye), atol=1e-5)
    norm = [m for m in cnn.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norm} == {(1e-3, 0.01)}
    assert {m.negative_slope for m in cnn.modules() if isinstance(m, nn.LeakyReLU)} == {0.3}
    assert {m.eps for m in built("phase_transformer").modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    weight = torch.empty(4000, 50)
    classifier.truncated(weight, 50)
    assert weight.std().item() == pytest.approx(0.2, rel=0.01) and weight.abs().max() < 2 * 0.2 / 0.879


def test_the_penalty_of_the_xy_head():
    model = built("phase_bilstm", l2=0.01).train()
    hidden = [layer.weight for layer in model.head if isinstance(layer, nn.Linear)][:2]
    assert model.penalty().item() == pytest.approx(0.01 * sum(w.square().sum().item() for w in hidden), rel=1e-6)
    assert model.eval().penalty() == 0.0


# --- what they see -----------------------------------------------------------------------------


def test_angles():
    angle = torch.tensor([[[0.0, 0.99, 3.7, 6.28]]])
    faithful, sound = (Labelled(quantity="angle", variant=v) for v in ("faithful", "sound"))
    assert classifier.encode(angle, faithful, True).tolist() == [[[0, 0, 3, 6]]]
    pairs = classifier.encode(angle, sound, False).unflatten(-1, (4, 2))
    assert torch.allclose(pairs[..., 0], angle.cos()) and torch.allclose(pairs[..., 1], angle.sin())
    turned = classifier.encode(angle.expand(6, -1, -1), sound, True).unflatten(-1, (4, 2))
    assert not torch.allclose(turned[0], turned[1])
    gram = [p @ p.transpose(-1, -2) for p in (turned, pairs.expand(6, -1, -1, -1))]
    assert torch.allclose(*gram, atol=1e-5), "turned and reflected as a whole"


def test_a_faithful_training_has_its_own_sites_and_a_sound_one_all():
    faithful, sound = (built("phase_fcn", fields=60, variant=v) for v in ("faithful", "sound"))
    state = spins(30, fields=60)
    assert torch.equal(faithful.drawn(state), state[..., faithful.sites])
    assert len(set(faithful.sites.tolist())) == 20
    draws = state.unflatten(-1, (3, 20))
    which = [[torch.equal(x, draws[i, :, d]) for d in range(3)] for i, x in enumerate(sound.train().drawn(state))]
    assert all(sum(row) == 1 for row in which) and {row.index(True) for row in which} == {0, 1, 2}
    assert faithful.eval().read(state)["probability"].shape == (30, 1)
    assert sound.eval().read(state)["probability"].shape == (30, 3)


def test_shuffled_steps_are_another_order_of_the_same():
    class Memory(classifier.Classifier):
        def logit(self, x):
            self.seen = x
            return x.sum((1, 2)) * 0.01

    model = Memory(Labelled(series=2, steps=5), torch.zeros(2), torch.ones(2))
    state = spins(50, fields=2, steps=8)
    read = model.read(state)
    assert torch.allclose(*(r[:, 0] for r in read.values()), atol=1e-6)
    assert not torch.equal(model.seen, state[:, :5])
    assert torch.equal(model.seen.sum(1), state[:, :5].sum(1))


def test_only_members_within_the_windows_count():
    model, state = built("phase_fcn").eval(), spins(4)
    inside = {"state": state[:2], "parameters": torch.tensor([[0.5], [4.5]])}
    more = {"state": state, "parameters": torch.tensor([[0.5], [4.5], [2.0], [3.99]])}
    assert torch.allclose(model.loss(inside)["loss"], model.loss(more)["loss"])
    label, weight = classifier.label_of(torch.tensor([0.0, 1.0, 1.1, 4.0, 5.0]), [[0.0, 1.0], [4.0, 5.0]])
    assert label.tolist() == [0, 0, 0, 1, 1] and weight.tolist() == [1, 1, 0, 1, 1]


def test_both_labels_count_alike_where_it_is_sound():
    """Three members of one window and one of the other; the published loss takes them as they come."""
    label, weight = torch.tensor([0.0, 0, 0, 1, 1]), torch.tensor([1.0, 1, 1, 1, 0])
    assert torch.allclose(classifier.balanced(label, weight), torch.tensor([2 / 3, 2 / 3, 2 / 3, 2, 0]))
    temperature = torch.tensor([0.1, 0.2, 0.3, 4.5, 2.0])
    faithful, sound = (built("phase_fcn", variant=v) for v in ("faithful", "sound"))
    assert faithful.labelled(temperature)[1].tolist() == [1, 1, 1, 1, 0]
    assert torch.allclose(sound.labelled(temperature)[1], classifier.balanced(label, weight))


def test_random_labels_know_nothing():
    temperature = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) * 5
    label = classifier.scrambled(temperature)
    assert abs(label.mean() - 0.5) < 0.02
    assert abs(torch.corrcoef(torch.stack([label, temperature]))[0, 1]) < 0.03
    assert torch.equal(label, classifier.scrambled(temperature))


def test_the_score_that_chooses_the_epoch_is_told_the_answer_only_as_published():
    batch = {"state": spins(3), "parameters": torch.tensor([[2.0], [2.3], [5.0]])}
    leaked, sound = built("phase_fcn", variant="faithful", reference=2.27), built("phase_fcn")
    assert leaked.train().labelled(batch["parameters"][:, 0])[1].tolist() == [0, 0, 1]
    label, weight = leaked.eval().labelled(batch["parameters"][:, 0])
    assert label.tolist() == [0, 1, 1] and weight.tolist() == [1, 1, 1]
    assert "score" in leaked.loss(batch) and "score" not in leaked.train().loss(batch)
    assert "score" not in sound.eval().loss(batch)


# --- sites -------------------------------------------------------------------------------------


def test_sites_are_values_of_the_lattice():
    data = ising.simulate(ising.Params(size=10, steps=4), 6, np.random.default_rng(0))
    state, lattice = data["state"].values, chains.unpack(data["state"].values, 100)
    options = {"count": 20, "draws": 3, "per": "chain", "seed": 5}
    where = sites.chosen(options, "train", [("", i) for i in range(6)], sites.count(state, data.attrs))
    drawn = sites.draw(state, where, data.attrs)
    assert drawn.shape == (6, 4, 60) and drawn.dtype == np.int8
    for member in range(6):
        assert np.array_equal(drawn[member], lattice[member][:, where[member]])


def test_sites_depend_on_the_chain_alone():
    options = {"count": 20, "draws": 2, "per": "chain", "seed": 5}
    every = sites.chosen(options, "train", [("", i) for i in range(40)], 4096)
    assert np.array_equal(sites.chosen(options, "train", [("", i) for i in range(17, 23)], 4096), every[17:23])
    assert len(np.unique(every, axis=0)) == 40
    run = sites.chosen({**options, "per": "run"}, "train", [("", i) for i in range(40)], 4096)
    assert run.shape == (1, 40) and np.array_equal(run, sites.chosen({**options, "per": "run"}, "test", [], 4096))
    assert 0.45 < every.mean() / 4096 < 0.55 and every.max() < 4096


def test_angles_become_radians():
    state = np.array([[[0, 16384, 65535]]], np.uint16)
    drawn = sites.draw(state, np.array([[1, 2]]), {"sites": 3})
    assert drawn.dtype == np.float32 and drawn[0, 0] == pytest.approx([np.pi / 2, 2 * np.pi * 65535 / 65536])


# --- the controls, on real chains --------------------------------------------------------------


def lattice_series(lattice: str, size: int, members: int, seed: int, **asked) -> dict[str, torch.Tensor]:
    params = ising.Params(lattice=lattice, size=size, **asked)
    data = ising.simulate(params, members, np.random.default_rng(seed))
    options, state = {"count": 20, "draws": 5, "per": "chain", "seed": seed}, data["state"].values
    where = sites.chosen(options, "", [("", i) for i in range(members)], sites.count(state, data.attrs))
    drawn = torch.as_tensor(sites.draw(state, where, data.attrs)).float()
    return {"state": drawn, "parameters": torch.as_tensor(data["parameters"].values).float()}


@pytest.fixture(scope="module", params=[("square", 32), ("chain", 1024)], ids=["square", "chain"])
def trained_on(request):
    lattice, size = request.param
    train = lattice_series(lattice, size, 6000, 1, windows=[[0.0, 5.0]])
    test = lattice_series(lattice, size, 1020, 2, temperatures={"first": 0.0, "last": 5.0, "step": 0.1})
    return lattice, train, test


def flip_crossing(train, test, **params) -> crossing.Crossing:
    model = built("flip_logistic", fields=100, **params)
    model.fit(train)
    with torch.inference_mode():
        p = model.eval().read(test["state"])["probability"].numpy()
    return crossing.fit("tanh", test["parameters"][:, 0].double().numpy().round(6), p)


def test_the_crossing_of_a_flip_count_follows_the_windows(trained_on):
    """On the square lattice as the pilot found; a ring has no transition, and a crossing all the same."""
    lattice, train, test = trained_on
    paper, low = (flip_crossing(train, test, windows=w) for w in ([[0.0, 1.0], [4.0, 5.0]], [[0.0, 0.5], [3.0, 5.0]]))
    if lattice == "square":
        assert paper.temperature == pytest.approx(2.40, abs=0.05)
        assert low.temperature < paper.temperature - 0.1
    else:
        assert 1.5 < paper.temperature < 2.1 and 1.4 < low.temperature < 2.1
    assert flip_crossing(train, test, labels="random").status != crossing.CROSSED


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"windows": [[4.0, 5.0], [0.0, 1.0]]}, "ordered and must not overlap"),
        ({"windows": [[0.0, 2.0], [1.0, 3.0]]}, "ordered and must not overlap"),
        ({"windows": [[0.0, 2.0]]}, "give two"),
        ({"windows": [[-1.0, 2.0], [3.0, 4.0]]}, "not negative"),
        ({"steps": 1}, "greater than or equal to 2"),
        ({"reference": 2.27}, "a sound model is never told"),
    ],
)
def test_wrong_parameters_are_told(params, message):
    with pytest.raises(ConfigError, match=message):
        check(Labelled, params, "models.x.params")


def test_wrong_data_are_told():
    with pytest.raises(ValueError, match=r"series: 20: the data have 30 series"):
        built("phase_fcn", fields=30)
    model = built("phase_fcn").eval()
    with pytest.raises(ValueError, match="steps: 10: more than the 6 steps that are stored"):
        model.read(spins(2, steps=6))
    with pytest.raises(ValueError, match=r"0\.5: an Ising spin is \+1 or −1"):
        model.read(spins(2) / 2)
    with pytest.raises(ValueError, match="no `parameters`"):
        model.loss({"state": spins(2)})
    with pytest.raises(ValueError, match="no member of the training split lies in one of them"):
        built("flip_logistic").fit({"state": spins(2), "parameters": torch.tensor([[0.5], [0.6]])})
    with pytest.raises(ValueError, match=r"sites\.count: 20: must be below the 16 sites"):
        sites.check({"count": 20}, 16, "sites.count")
