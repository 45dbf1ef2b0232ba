"""The Transformer: its size, its two targets, its closed-form start, its loss, and the vector that trains it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from physiglot import checkpoint, config, fingerprint, models, train
from physiglot.models import transformer
from physiglot.systems import lorenz

torch.set_num_threads(1)
DICTIONARY = {
    "module": "koopman",
    "params": {"channels": 2, "width": 8, "activation": "silu", "normalise": False, "state": True, "dictionary": 3},
}
FAITHFUL = {"module": "koopman", "params": {"channels": 32, "width": 20}}
SMALL = {"layers": 2, "heads": 2, "width": 8, "window": 6, "positions": "rotary", "norm": "rms"}
OURS = {**SMALL, "target": "increment", "linear": True, "rollout": {"horizons": [5], "shares": [1.0]}}
TRAINING = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "clip": 0.1, "ema": 0.9, "schedule": "constant"}
TRAINING |= {"eps": 1e-8, "validation": {"split": "val", "windows": 256, "times": None}}


@pytest.fixture(scope="module")
def series() -> Tensor:
    start = np.random.default_rng(0).uniform(lorenz.LOWER, lorenz.UPPER, (64, 3))
    return torch.tensor(lorenz.trajectories(start, 64, 0.01, 10))


def statistics(series: Tensor) -> tuple[Tensor, Tensor]:
    return series.mean((0, 1)).float(), series.std((0, 1)).float()


def build(series: Tensor, part: dict, **params) -> transformer.Model:
    torch.manual_seed(1)
    mean, std = statistics(series)
    embedding = models.build(part, mean, std).requires_grad_(False)
    return models.build({"module": "transformer", "params": params}, mean, std, embedding)


def data_of(model: transformer.Model, series: Tensor) -> dict[str, Tensor]:
    state = series.float()
    return {"state": state, "smooth": state, "embedded": model.embedding.embed(state), "val": state[:2]}


def fitted(series: Tensor, **params) -> transformer.Model:
    model = build(series, DICTIONARY, **{**OURS, **params})
    model.fit(data_of(model, series))
    return model


def test_number_of_parameters_is_the_published_one(series):
    model = build(series, FAITHFUL)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 51_936


# --- the embedding it was trained on ------------------------------------------------------------


def test_training_refuses_embeddings_of_other_weights(series, tmp_path):
    mean, std = statistics(series)
    for seed in range(2):
        torch.manual_seed(seed)
        models.save(tmp_path / f"{seed}.pt", models.build(FAITHFUL, mean, std))
    made_by = {"embedding": fingerprint.of(tmp_path / "0.pt"), "fingerprint": "", "groups": [], "files": {}}
    (tmp_path / "zarr.json").write_text(json.dumps({"attributes": made_by}))
    found = train._embedding(tmp_path / "0.pt", tmp_path)
    assert found.channels == 32 and not any(p.requires_grad for p in found.parameters())
    with pytest.raises(ValueError, match="run embed again"):
        train._embedding(tmp_path / "1.pt", tmp_path)


# --- the closed-form start ----------------------------------------------------------------------


def test_increment_starts_as_the_linear_fit(series):
    """Before any gradient step the model is least squares of the increments on the embedding, whatever the decoder."""
    model, state = fitted(series), series.float()
    z = model.embedding.embed(state[:, :-1])
    inputs = torch.cat([z, torch.ones_like(z[..., :1])], -1).flatten(0, 1).double()
    delta = series.diff(dim=1).flatten(0, 1)
    wanted = inputs @ torch.linalg.lstsq(inputs, delta, driver="gelsd").solution
    with torch.no_grad():
        found = model._increment(z, 0, None).flatten(0, 1)
        torch.nn.init.normal_(model.decoder.blocks[0].attention.qkv.weight)
        again = model._increment(z, 0, None).flatten(0, 1)
    assert ((found - wanted) / delta.std(0)).abs().max() < 2e-3
    assert (found - delta).square().mean() < 1.01 * (wanted - delta).square().mean() + 1e-9
    assert torch.equal(found, again)


def test_linear_path_predicts_clean_lorenz(series):
    """A dictionary of degree 3 is the polynomial map of degree 3."""
    model = fitted(series).double()
    found = model.predict(series[:, 0], 40)
    assert ((found - series[:, :40]).square().sum() / series[:, :40].square().sum()) < 1e-6


# --- the loss -----------------------------------------------------------------------------------


@torch.no_grad()
def test_unrolled_loss_is_the_error_of_predict(series):
    model, state = fitted(series), series.float()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    batch = {"state": state[:, :11], "smooth": state[:, :11] + 0.01}
    loss = model.loss(batch)["loss"]
    errors = []
    for begin in (0, 5):
        found = model.predict(batch["smooth"][:, begin], 6)[:, 1:]
        errors.append((found - state[:, begin + 1 : begin + 6]) / model.std)
    assert loss.item() == pytest.approx(torch.stack(errors).square().mean().item(), rel=1e-5)


@torch.no_grad()
def test_one_step_loss_is_the_first_step_of_predict_of_every_token(series):
    model, state = fitted(series, rollout={"horizons": [1], "shares": [1.0]}), series.float()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    batch = {"state": state[:, :2], "smooth": state[:, :2], "embedded": model.embedding.embed(state[:, :2])}
    error = (model.predict(state[:, 0], 2)[:, 1] - state[:, 1]) / model.std
    assert model.loss(batch)["loss"].item() == pytest.approx(error.square().mean().item(), rel=1e-5)


@torch.no_grad()
def test_teacher_forcing_compares_the_next_embedding(series):
    model = build(series, FAITHFUL, window=8)
    z = data_of(model, series)["embedded"][:4, :8]
    found = model._next(z[:, :-1])
    assert model.loss({"embedded": z})["loss"].item() == pytest.approx((found - z[:, 1:]).square().mean().item())


def test_the_loss_reaches_every_weight(series):
    model = fitted(series)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    model.loss(data_of(model, series))["loss"].backward()
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert learnt and all(p.grad is not None and p.grad.abs().max() > 0 for p in learnt.values())


@pytest.mark.parametrize("generation", ["cache", "markov"])
@torch.no_grad()
def test_rollouts_are_deterministic_and_start_where_they_are_told(series, generation):
    model = fitted(series).double()
    first, second = (model.predict(series[:3, 0], 30, generation) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(first[:, 0], series[:3, 0])


@pytest.mark.parametrize(
    ("options", "names"), [({"generation": "windw"}, "windw"), ({"generation": "window"}, "cache")]
)
def test_wrong_generation_is_refused_by_name(series, options, names):
    with pytest.raises(ValueError, match=names):
        fitted(series).predict(series[:1, 0].float(), 4, **options)


# --- the vector of weights that the training loop steps -----------------------------------------


class Batches:
    """Batches that depend on nothing but the step."""

    class sampler:
        per_epoch = 4

    def __init__(self, model: transformer.Model, series: Tensor):
        self.all = data_of(model, series[:, :11])

    def at(self, step: int) -> dict[str, Tensor]:
        return {k: v[step % 4 :: 4] for k, v in self.all.items()}


def loop_of(series: Tensor, tmp_path, **changes) -> train.Loop:
    model = fitted(series)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    settings = {**TRAINING, "warmup": 0.0, "steps": 12, "epochs": None, "select": "last", **changes}
    data = Batches(model, series)
    return train.Loop(model, data, data, settings, 3, checkpoint.Snapshots(tmp_path, "key", "lineage"))


@pytest.mark.parametrize("clip", [None, 1e-2])
def test_steps_are_those_of_ordinary_adam(series, tmp_path, clip):
    """One vector for all parameters, against clip_grad_norm_ and Adam over the parameters one by one."""
    loop, reference = loop_of(series, tmp_path, clip=clip), loop_of(series, tmp_path).model
    learnt = [p.detach().clone() for p in reference.parameters() if p.requires_grad]
    wanted = fitted(series)
    wanted.load_state_dict(reference.state_dict())
    parameters = [p for p in wanted.parameters() if p.requires_grad]
    adam = torch.optim.Adam(parameters, lr=TRAINING["lr"])
    for step in range(4):
        loop.advance()
        adam.zero_grad()
        wanted.loss(loop.data.at(step))["loss"].backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        adam.step()
    for found, p, start in zip(loop.weights.parts, parameters, learnt, strict=True):
        assert (found - p).abs().max() < 1e-5
        assert found.shape == start.shape and not torch.equal(found, start)


def test_resumed_training_is_the_uninterrupted_one(series, tmp_path):
    whole, part, rest = (loop_of(series, tmp_path) for _ in range(3))
    for _ in range(6):
        whole.advance()
    for _ in range(3):
        part.advance()
    part.validate()
    part.save()
    rest.load(part.snapshots.resume())
    assert rest.step == 3 and rest.best["loss"] == part.best["loss"]
    for _ in range(3):
        rest.advance()
    assert torch.equal(whole.weights.live, rest.weights.live)
    assert torch.equal(whole.weights.mean, rest.weights.mean)


def test_averaged_weights_are_kept_or_the_best_ones(series, tmp_path):
    loop = loop_of(series, tmp_path, select="best")
    before = loop.weights.live.detach().clone()
    first = loop.validate()["val_loss"]
    for _ in range(3):
        loop.advance()
    assert not torch.equal(loop.weights.mean, loop.weights.live)
    loop.best["loss"] = -1.0  # nothing may be better: the first weights stay
    loop.validate()
    loop.finish()
    assert torch.equal(loop.weights.live, before)
    assert loop.model.loss(loop.data.at(0))["loss"].item() == pytest.approx(first)


def test_the_published_recipe_trains_every_position_that_generation_uses():
    """A window of n states trains n − 1 positions: with as many states as context, the last one stays as it began."""
    home = Path(__file__).parents[1]
    faithful = config.expand({"base": "config.yaml"}, home)["models"]["faithful"]
    assert faithful["predict"]["generation"] == "window"
    assert faithful["training"]["window"] == faithful["params"]["window"] + 1
