"""Sequence models on fields: published sizes, parameters of the system, rollouts, the token of the viscosity."""

import sys

import pytest
import torch
from synthetic import MEAN, STD, wakes
from torch import Tensor, nn

from physiglot import models
from physiglot.models import conv_lstm, latent, lstm, transformer

torch.set_num_threads(1)
NU = torch.linspace(0.01, 0.02, 6)
SMALL = {"width": 16, "window": 6, "hidden": 32, "depth": 1, "parameters": 1}


class Fields:
    """Wakes at six viscosities, their principal components, and a wake at a viscosity in between."""

    def __init__(self, modes: int = 10, times: int = 60):
        found = wakes(NU, times)
        self.embedding = self.build("pca", None, grid=[16, 32], modes=modes)
        self.train = {**found, "smooth": found["state"], "val": found["state"]}
        self.embedding.fit(self.train)
        self.train["embedded"] = self.embedding.embed(found["state"])
        unseen = wakes(torch.tensor([0.0115, 0.0145]), times)
        self.state, self.nu = unseen["state"].double(), unseen["parameters"].double()

    @staticmethod
    def build(module: str, embedding: nn.Module | None, **params):
        torch.manual_seed(0)
        return models.build({"module": module, "params": params}, MEAN, STD, embedding)

    def model(self, module: str, **params):
        return self.build(module, self.embedding.float().requires_grad_(False), **params)

    def batch(self, begin: int, end: int) -> dict[str, Tensor]:
        series = {k: v[:, begin:end] for k, v in self.train.items() if k != "parameters"}
        return {**series, "parameters": self.train["parameters"]}

    def error(self, model) -> float:
        found = model.double().predict(self.state[:, 0], self.state.shape[1], parameters=self.nu)
        return float((found - self.state).square().sum() / self.state.square().sum())


@pytest.fixture(scope="module")
def fields() -> Fields:
    return Fields()


def taught(model, data: Fields, steps: int, window: int, lr: float = 3e-3):
    learnt = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.Adam(learnt, lr=lr)
    for step in range(steps):
        begin = step * 7 % (data.train["state"].shape[1] - window)
        adam.zero_grad()
        model.loss(data.batch(begin, begin + window), step / steps)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        adam.step()
    return model.eval()


# --- published sizes ----------------------------------------------------------------------------


class Channels(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels


def size(module, channels: int | None = None, **params) -> int:
    embedding = None if channels is None else Channels(channels)
    model = module.Model(module.Params(**params), mean=MEAN, std=STD, embedding=embedding)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("channels", "layers", "heads", "context", "published"),
    [(128, 3, 4, 128, 627_968), (128, 4, 4, 128, 826_240), (128, 6, 4, 16, 1_208_448)],
)
def test_transformer_of_the_cylinder_has_the_published_size(channels, layers, heads, context, published):
    """The public code also has a table of positions, context x channels, that it never uses."""
    found = size(transformer, channels, layers=layers, heads=heads, window=context)
    assert found + context * channels == published


@pytest.mark.parametrize(("layers", "published"), [(2, 6_633_984), (4, 12_938_752), (8, 25_548_288)])
def test_transformers_of_gray_scott_have_the_published_sizes(layers, published):
    with torch.device("meta"):
        assert size(transformer, 512, layers=layers, heads=32, window=128) + 128 * 512 == published


def test_recurrent_baselines_have_about_the_published_sizes():
    assert size(lstm, 128, hidden=153, layers=4) == 758_396
    assert size(conv_lstm, parameters=1) == 933_331


# --- parameters of the system reach the embedding ----------------------------------------------


class Scaled(nn.Module):
    """z is the mean of each field times ν, so that both ways need ν."""

    channels = 3

    def embed(self, state: Tensor, parameters: Tensor | None = None) -> Tensor:
        assert parameters is not None
        return state.mean((-2, -1)) * parameters.view(-1, *[1] * (state.ndim - 3))

    def decode(self, z: Tensor, parameters: Tensor | None = None) -> Tensor:
        assert parameters is not None
        fields = z / parameters.view(-1, *[1] * (z.ndim - 1))
        return fields[..., None, None].expand(*fields.shape, 4, 6)


@pytest.mark.parametrize(
    ("module", "params"), [("transformer", {"heads": 1, "layers": 1}), ("lstm", {"hidden": 8}), ("latent", SMALL)]
)
@pytest.mark.parametrize("steps", [1, 5])
def test_the_viscosity_reaches_embed_and_decode(module, params, steps):
    model = Fields.build(module, Scaled(), **params).double()
    start, nu = torch.rand(3, 3, 4, 6, dtype=torch.float64), torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    found = model.predict(start, steps, parameters=nu)
    assert found.shape == (3, steps, 3, 4, 6) and torch.equal(found[:, 0], start)


@pytest.mark.parametrize("generation", ["cache", "window"])
@torch.no_grad()
def test_faithful_transformer_decodes_what_it_generates(fields, generation):
    model = fields.model("transformer", layers=2, heads=2, window=8, init=0.3).double()
    start, nu = fields.state[:, 0], fields.nu
    found = model.predict(start, 20, generation, nu)
    z = model._generate(model.embedding.embed(start, nu), 20, generation)
    assert torch.equal(found[:, 1:], model.embedding.decode(z[:, 1:], nu)) and found[:, -1].std() > 0


# --- recurrent baselines ------------------------------------------------------------------------


@torch.no_grad()
def test_lstm_on_an_embedding_is_the_teacher_forced_pass_over_its_own_output(fields):
    model = fields.model("lstm", hidden=8, layers=2).double()
    z = model._generate(model.embedding.embed(fields.state[:, 0]), 20)
    forced, _ = model.advance(z[:, :-1])
    assert torch.allclose(forced, z[:, 1:], rtol=1e-10)
    found = model.predict(fields.state[:, 0], 20, fields.nu)
    assert torch.equal(found[:, 1:], model.embedding.decode(z[:, 1:]))


@torch.no_grad()
def test_conv_lstm_carries_its_memory_and_sees_the_viscosity(fields):
    model = fields.model("conv_lstm", width=8, layers=2, parameters=1)
    model.fit(fields.train)
    for cell in model.double().cells:
        nn.init.normal_(cell.peepholes)
    found = (model.predict(fields.state[:, 0], 12, fields.nu) - MEAN[:, None, None]) / STD[:, None, None]
    forced, _ = model.advance(found[:, :-1], fields.nu)
    assert (forced - found[:, 1:]).abs().max() < 1e-9
    other, _ = model.advance(found[:, :-1], fields.nu.flip(0))
    assert (other - forced).abs().max() > 1e-6
    alone, _ = model.advance(found[:, 5:6], fields.nu)
    assert (alone[:, 0] - forced[:, 5]).abs().max() > 1e-6


def test_conv_lstm_learns(fields):
    model = fields.model("conv_lstm", width=16, layers=1, parameters=1)
    model.fit(fields.train)
    with torch.no_grad():
        before = float(model.loss(fields.batch(0, 20))["loss"])
    model = taught(model, fields, 30, 12, lr=1e-2)
    assert float(model.loss(fields.batch(0, 20))["loss"].detach()) < 0.7 * before


# --- ours ---------------------------------------------------------------------------------------


def fitted(data: Fields, **params) -> latent.Model:
    model = data.model("latent", **{**SMALL, **params})
    model.fit(data.train)
    return model


def stirred(model: latent.Model) -> latent.Model:
    """With a network that matters from the start."""
    nn.init.normal_(model.network[-1].weight, std=0.05)
    return model.double()


def test_increments_start_as_least_squares(fields):
    """Before any gradient step the rollout is the linear map of z, 1 and their products with log ν."""
    model, z = fitted(fields), fields.train["embedded"].double()
    logs = fields.train["parameters"].double().log()
    x = ((logs - logs.mean()) / logs.std(correction=0))[:, None].expand(-1, z.shape[1] - 1, 1)
    one = torch.cat([(z[:, :-1] - model.centre) / model.spread, torch.ones_like(x)], -1)
    rows, target = torch.cat([one, x * one], -1).flatten(0, 1), z.diff(dim=1).flatten(0, 1)
    wanted = rows @ torch.linalg.lstsq(rows, target, driver="gelsd").solution
    with torch.no_grad():
        steps = model.double()._roll(z[:, :-1].flatten(0, 1), 1, logs.exp().repeat_interleave(z.shape[1] - 1, 0))
    found = steps[:, 0] - z[:, :-1].flatten(0, 1)
    residuals = [float((f - target).square().sum()) for f in (found, wanted)]
    assert residuals[1] <= residuals[0] < 1.2 * residuals[1]


@torch.no_grad()
def test_the_rollout_is_the_banded_forward_after_the_viscosity_token(fields):
    """What the cache gives over three windows, against all tokens at once behind the prefix."""
    model, nu = stirred(fitted(fields, layers=2)), fields.nu
    z = model.embedding.embed(fields.state[:, 0])
    rolled = torch.cat([z[:, None], model._roll(z, 17, nu)], 1)
    white, features = model._white(rolled[:, :-1]), model.condition(nu)
    context = model.decoder(model.enter(white), prefix=model.prefix(features)[:, None])
    inputs = torch.cat([white, features[:, None].expand(-1, 17, -1), context], -1)
    delta = model.network(inputs) + model._linear(white, nu)
    assert (rolled[:, :-1] + model.step * delta - rolled[:, 1:]).abs().max() < 1e-10


@torch.no_grad()
def test_attention_sees_the_past_and_the_control_does_not(fields):
    z, nu = fields.train["embedded"][:2].double(), fields.nu
    for core, differs in (("transformer", True), ("mlp", False)):
        model = stirred(fitted(fields, core=core))
        rolled = torch.cat([z[:, :1], model._roll(z[:, 0], 8, nu)], 1)
        again = model._roll(rolled[:, 4], 1, nu)[:, 0]
        assert ((again - rolled[:, 5]).abs().max() > 1e-6) == differs


@torch.no_grad()
def test_relative_rollouts_weigh_by_their_motion(fields):
    """A series, and the same with a hundredth of its motion: the error of each counts over what it moves."""
    z, nu = (fields.train[name][:2].double() for name in ("embedded", "parameters"))
    z = torch.cat([z[:1, :5], z[:1, :1] + (z[:1, :5] - z[:1, :1]) / 100])
    model = stirred(fitted(fields, rollout={"horizons": [4], "shares": [1.0]}, relative=1.0))
    error = (model._roll(z[:, 0], 4, nu) - z[:, 1:]).square().mean((1, 2))
    moved = (z[:, 1:] - z[:, :1]).square().mean((1, 2))
    weights = 1 / (moved / moved.mean() + 1e-4)
    assert weights[1] > 100 * weights[0]
    found = model.loss({"embedded": z, "parameters": nu})["loss"]
    assert found.item() == pytest.approx((weights * error).mean().item())


@torch.no_grad()
def test_the_viscosity_matters_after_the_window_is_full(fields):
    """The linear path and the direct input are taken out: what is left reaches the state through the token alone."""
    model = stirred(fitted(fields, degree=-1))
    model.network[0].weight[:, len(model.step) : len(model.step) + model.condition.features] = 0
    z = model.embedding.embed(fields.state[:, 0])
    states = model._roll(z, 20, fields.nu)
    context = [
        model.decoder(model.enter(model._white(states)), prefix=model.prefix(model.condition(nu))[:, None])
        for nu in (fields.nu, fields.nu * 1.1)
    ]
    assert ((context[0] - context[1]).abs().amax((0, 2)) > 1e-6).all()


@torch.no_grad()
def test_loss_is_the_error_of_rollouts(fields):
    model = stirred(fitted(fields, rollout={"horizons": [4], "shares": [1.0]}, flat=0.5))
    batch = {k: v.double() for k, v in fields.batch(3, 13).items()}
    z, errors = batch["embedded"], []
    for begin in (0, 4):
        found = model._roll(z[:, begin], 4, batch["parameters"])
        errors.append((found - z[:, begin + 1 : begin + 5]) / model.spread**0.5)
    loss = model.loss(batch)
    assert loss["loss"].item() == pytest.approx(torch.stack(errors).square().mean().item()) and loss["horizon"] == 4


@pytest.mark.parametrize("core", ["transformer", "mlp"])
def test_the_loss_reaches_every_weight(fields, core):
    model = fitted(fields, core=core, rollout={"horizons": [4], "shares": [1.0]})
    nn.init.normal_(model.network[-1].weight, std=0.05)
    model.loss(fields.batch(0, 9))["loss"].backward()
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert learnt and all(p.grad is not None and p.grad.abs().max() > 0 for p in learnt.values())


@pytest.mark.parametrize(("core", "steps"), [("transformer", 80), ("mlp", 200)])
def test_ours_forecasts_wakes_of_unseen_viscosity(fields, core, steps):
    """Sixty steps from the first frame; persistence is off by much more."""
    model = fitted(fields, core=core, rollout={"horizons": [4, 24], "shares": [0.5, 0.5]})
    linear = fields.error(model)
    error = fields.error(taught(model.float(), fields, steps, 25))
    still = float((fields.state[:, :1] - fields.state).square().sum() / fields.state.square().sum())
    assert error < 0.3 * still and error < linear


def test_features_of_the_viscosity_are_smooth_and_distinct():
    condition = latent.Condition(1, 2)
    condition.fit(NU[:, None])
    x = condition(NU[:, None])
    assert x.shape == (6, 5) and torch.linalg.matrix_rank(x - x.mean(0)) >= 3
    assert (condition(torch.tensor([[0.0141]])) - condition(torch.tensor([[0.0142]]))).abs().max() < 0.1


def test_ours_without_the_viscosity_says_what_is_missing(fields):
    model = fields.model("latent", **SMALL)
    with pytest.raises(ValueError, match="no `parameters`"):
        model.predict(fields.state[:, 0].float(), 3)


# --- Fourier neural operator --------------------------------------------------------------------


def test_a_missing_library_is_named(fields, monkeypatch):
    for name in ("neuralop", "neuralop.models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"physiglot\[operators\]"):
        fields.model("fno")


def test_fourier_operator_learns_and_its_complex_weights_are_kept(fields, tmp_path):
    pytest.importorskip("neuralop", reason="the extra `operators` is not installed")
    model = fields.model("fno", modes=[6, 6], width=8, layers=2, parameters=1)
    model.fit(fields.train)
    assert not any(p.is_complex() for p in model.parameters())
    with torch.no_grad():
        before = float(model.loss(fields.batch(0, 6))["loss"])
    model = taught(model, fields, 30, 6, lr=1e-2)
    assert float(model.loss(fields.batch(0, 6))["loss"].detach()) < 0.7 * before
    models.save(tmp_path / "w.pt", model)
    start, nu = fields.state[:, 0].float(), fields.nu.float()
    assert torch.equal(models.load(tmp_path / "w.pt").predict(start, 4, nu), model.predict(start, 4, nu))


def test_a_periodic_operator_commutes_with_shifts():
    pytest.importorskip("neuralop", reason="the extra `operators` is not installed")
    torch.manual_seed(0)
    part = {"module": "fno", "params": {"modes": [4, 4, 4], "width": 6, "layers": 2, "periodic": True}}
    model = models.build(part, torch.zeros(2), torch.ones(2))
    x = torch.randn(1, 2, 8, 8, 8)
    with torch.no_grad():
        moved = model.advance(x.roll((3, 1), (2, 4)), None)
        assert (moved - model.advance(x, None).roll((3, 1), (2, 4))).abs().max() < 1e-5


# --- what is read -------------------------------------------------------------------------------


def test_models_of_embeddings_read_no_fields(fields):
    """Fit and loss do with what the model says it reads."""
    for module, params in {
        "latent": SMALL,
        "lstm": {"hidden": 8},
        "transformer": {"heads": 2, "layers": 1, "window": 8},
    }.items():
        model = fields.model(module, **params)
        assert "state" not in model.reads
        data = {name: fields.train[name] for name in model.reads}
        if hasattr(model, "fit"):
            model.fit(data)
        window = {name: values[:, :9] if name == "embedded" else values for name, values in data.items()}
        assert torch.isfinite(model.loss(window)["loss"])
