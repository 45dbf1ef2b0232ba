"""Embeddings of fields: published sizes, the cylinder's mask, periodic convolutions, operators, components."""

import pytest
import torch
from synthetic import MEAN, STD, wakes
from torch import Tensor
from torch.nn import functional

from physiglot import frames, models
from physiglot.models import koopman, koopman_cylinder, koopman_gray_scott, pca

torch.set_num_threads(1)
NU = torch.tensor([0.01, 0.013, 0.02])
SMALL = {"grid": [16, 32], "width": 4}


@pytest.fixture(scope="module")
def data() -> dict[str, Tensor]:
    found = wakes(NU, 24)
    return {**found, "smooth": found["state"], "val": found["state"]}


def cylinder(data: dict[str, Tensor] | None = None, **params) -> koopman_cylinder.Model:
    torch.manual_seed(0)
    model = koopman_cylinder.Model(koopman_cylinder.Params(**params), mean=MEAN, std=STD)
    if data:
        model.fit(data)
    return model


def gray_scott(**params) -> koopman_gray_scott.Model:
    torch.manual_seed(0)
    mean, std = torch.tensor([0.64, 0.11]), torch.tensor([0.25, 0.11])
    return koopman_gray_scott.Model(koopman_gray_scott.Params(**params), mean=mean, std=std)


def components(data: dict[str, Tensor], **params) -> pca.Model:
    model = pca.Model(pca.Params(**{"grid": [16, 32], "modes": 12, **params}), mean=MEAN, std=STD)
    model.fit(data)
    return model


def size(model) -> int:
    return sum(p.numel() for p in model.parameters())


# --- published sizes ----------------------------------------------------------------------------


def test_numbers_of_parameters_are_the_published_ones():
    assert size(cylinder()) == 224_134 and cylinder().channels == 128
    assert size(cylinder(bands=4, skew=False)) == 262_535
    assert size(gray_scott()) == 6_202_837 and gray_scott().channels == 512
    assert pca.Model(pca.Params(), mean=MEAN, std=STD).modes.shape == (128, 24_576)


@pytest.mark.parametrize(
    ("module", "grid", "factor"), [(koopman_cylinder, [64, 100], 16), (koopman_gray_scott, [32, 32, 12], 8)]
)
def test_a_grid_that_cannot_be_halved_is_refused(module, grid, factor):
    with pytest.raises(ValueError, match=f"multiples of {factor}"):
        module.Params(grid=grid)


# --- cylinder -----------------------------------------------------------------------------------


def test_decoder_is_zero_within_the_cylinder_and_learns_nothing_there(data):
    """The public code's mask is no buffer and, in training, does nothing."""
    model = cylinder(data, **SMALL)
    y, x = torch.linspace(-4, 4, 16)[:, None], torch.linspace(-2, 14, 32)
    inside = x**2 + y**2 < 1
    assert torch.equal(model.state_dict()["inside"], inside) and inside.sum() > 4
    z = torch.randn(3, model.channels, requires_grad=True)
    fields = model.decode(z)
    assert (fields[..., inside] == 0).all() and (fields[..., ~inside] != 0).all()
    slopes = torch.autograd.grad(fields[..., inside].sum(), [z, *model.decoder.parameters()], retain_graph=True)
    assert all((s == 0).all() for s in slopes)
    (slope,) = torch.autograd.grad(fields[..., ~inside].sum(), z)
    assert slope.abs().max() > 0


def test_the_loss_does_not_depend_on_what_is_within_the_cylinder(data):
    model = cylinder(data, **SMALL)
    states = data["state"][:, :3]
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.1)
        error = (model.decode(model.embed(states, data["parameters"])) - states)[..., model.inside]
    assert (error == 0).all()


@pytest.mark.parametrize(
    "params", [{}, {"bands": 4, "skew": False}, {"stable": True, "consistency": 0.7}, {"dynamics": 0.0, "decay": 0.0}]
)
def test_loss_is_the_sum_of_its_terms_frame_by_frame(data, params):
    """The equation of the paper walked frame by frame and member by member, against everything in one call."""
    model, x, nu = cylinder(data, **SMALL, **params), data["state"][:, 4:8], data["parameters"]
    p, total = model.params, torch.zeros(())
    for i in range(3):
        k = model.operator.matrix(nu[i : i + 1])[0]
        z = model.embed(x[i, 0], nu[i])
        for j in range(4):
            z = k @ z if j else z
            alone = model.embed(x[i, j], nu[i])
            total = total + p.reconstruction * functional.mse_loss(model.decode(alone), x[i, j]) / 3
            total = total + p.dynamics * functional.mse_loss(model.decode(z), x[i, j]) / 3
            total = total + p.consistency * functional.mse_loss(z, alone) / 3
            total = total + p.decay * k.square().sum() / 3
    batch = {"state": x, "smooth": x, "parameters": nu}
    assert model.loss(batch)["loss"].item() == pytest.approx(total.item(), rel=1e-4)


def test_operator_depends_on_the_viscosity_and_is_skew_off_the_diagonal(data):
    k = cylinder(data, **SMALL).operator.matrix(NU[:, None])
    off = k - torch.diag_embed(k.diagonal(dim1=1, dim2=2))
    assert torch.equal(off, -off.mT) and not torch.equal(k[0], k[1])
    assert (k.triu(3) == 0).all() and (k[0].triu(1) != 0).sum() == 7 + 6
    free = cylinder(data, **SMALL, bands=4, skew=False).operator.matrix(NU[:, None])
    assert (free.triu(1) + free.mT.triu(1)).abs().max() > 1e-3


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_stable_operator_cannot_grow(data, seed):
    operator = cylinder(data, **SMALL, stable=True).double().operator
    torch.manual_seed(seed)
    for parameter in operator.parameters():
        parameter.copy_(2 * torch.randn_like(parameter))
    k = operator.matrix(torch.rand(5, 1, dtype=torch.float64))
    assert torch.linalg.eigvals(k).abs().max() <= 1 + 1e-6


@torch.no_grad()
def test_the_viscosity_reaches_the_embedding(data):
    model, start = cylinder(data, **SMALL), data["state"][:, 0]
    assert (model.embed(start, data["parameters"]) - model.embed(start, data["parameters"].flip(0))).abs().max() > 1e-3
    with pytest.raises(ValueError, match="viscosity"):
        model.embed(start)
    with pytest.raises(ValueError, match="viscosity"):
        model.fit({"state": data["state"]})


@pytest.mark.parametrize("times", [(), (5,)])
@torch.no_grad()
def test_series_are_embedded_as_their_frames(data, times, monkeypatch):
    """With and without a time axis, and in pieces that bound the memory."""
    model, state = cylinder(data, **SMALL), data["state"][:, 5:10] if times else data["state"][:, 5]
    whole = model.embed(state, data["parameters"])
    assert whole.shape == (3, *times, model.channels)
    monkeypatch.setattr(frames, "FRAMES", 2)
    assert (model.embed(state, data["parameters"]) - whole).abs().max() < 1e-5
    fields = model.decode(whole)
    assert fields.shape == state.shape
    one = model.decode(whole[2, -1] if times else whole[2])
    assert ((fields[2, -1] if times else fields[2]) - one).abs().max() < 1e-5


@torch.no_grad()
def test_predict_is_the_decoded_powers_of_the_operator(data):
    model, start, nu = cylinder(data, **SMALL).double(), data["state"][:, 0].double(), data["parameters"].double()
    found, k = model.predict(start, 4, nu), model.operator.matrix(nu)
    assert torch.equal(found[:, 0], start)
    z = torch.einsum("bij,bj->bi", k @ k @ k, model.embed(start, nu))
    assert (found[:, 3] - model.decode(z)).abs().max() < 1e-9


# --- Gray-Scott ---------------------------------------------------------------------------------


@torch.no_grad()
def test_convolutions_are_periodic():
    """A shift by a cell of the coarse grid shifts the features of the encoder and what the decoder makes of them."""
    model = gray_scott(grid=[16, 16, 16], width=4, channels=8).double().eval()
    state = torch.rand(2, 2, 16, 16, 16, dtype=torch.float64)
    features = model._encode(state)
    moved = model._encode(state.roll((8, 0, 8), (2, 3, 4)))
    assert (moved - features.roll((1, 0, 1), (2, 3, 4))).abs().max() < 1e-12
    decoded, shifted = (model._from_coarse(f.flatten(1)) for f in (features, moved))
    assert decoded.shape == state.shape
    assert (shifted - decoded.roll((8, 0, 8), (2, 3, 4))).abs().max() < 1e-12


def test_features_of_encoder_and_decoder_join_the_loss():
    model = gray_scott(grid=[8, 8, 8], width=4, channels=8)
    batch = {"smooth": torch.rand(2, 3, 2, 8, 8, 8)}
    found, p = model.loss(batch), model.params
    wanted = sum(
        (getattr(p, name) * found[name] for name in ("reconstruction", "dynamics", "decay", "features")),
        torch.zeros(()),
    )
    assert found["loss"].item() == pytest.approx(wanted.item(), rel=1e-5) and found["features"] > 0
    found["loss"].backward()
    assert all(q.grad is not None for q in model.parameters())


@pytest.mark.parametrize("module", [koopman_cylinder, koopman_gray_scott])
def test_an_autoencoder_leaves_the_dynamics_out(module, data, monkeypatch):
    monkeypatch.setattr(koopman, "advance", None)
    off = {"dynamics": 0.0, "decay": 0.0}
    if module is koopman_cylinder:
        model, batch = cylinder(data, **SMALL, **off), {**data, "smooth": data["state"][:, :3]}
    else:
        model = gray_scott(grid=[8, 8, 8], width=4, channels=8, **off)
        batch = {"smooth": torch.rand(2, 3, 2, 8, 8, 8)}
    assert torch.isfinite(model.loss(batch)["loss"])


# --- principal components -----------------------------------------------------------------------


def test_components_are_those_of_the_singular_value_decomposition(data):
    model = components(data, modes=6)
    rows = ((data["state"] - model.average) / STD[:, None, None]).flatten(0, 1).flatten(1).double()
    _, values, modes = torch.linalg.svd(rows, full_matrices=False)
    overlap = (model.modes.double() @ modes[:6].T).abs()
    assert (overlap - torch.eye(6)).abs().max() < 1e-3
    lost = 1 - values[:6].square().sum() / values.square().sum()
    assert model.fit(data)["variance_lost"] == pytest.approx(float(lost), abs=1e-6)
    z = model.embed(data["state"])
    assert z.square().mean().item() == pytest.approx(1, rel=1e-4)
    error = (model.decode(z) - data["state"]) / STD[:, None, None]
    assert float(error.square().sum()) == pytest.approx(float(values[6:].square().sum()), rel=1e-2)


@torch.no_grad()
def test_decoding_is_orthogonal_projection_and_zero_in_the_cylinder(data):
    model = components(data).double()
    z = torch.randn(2, 5, 12, dtype=torch.float64)
    assert (model.embed(model.decode(z)) - z).abs().max() < 1e-5
    inside = (data["state"] == 0).all(0).all(0).all(0)
    assert inside.any() and (model.decode(z)[..., inside] == 0).all()


@torch.no_grad()
def test_few_snapshots_give_the_same_space(data):
    """Frames are left out evenly: every series is among them."""
    whole, part = components(data), components(data, frames=36)
    errors = [float((m.decode(m.embed(data["state"])) - data["state"]).square().sum()) for m in (whole, part)]
    assert errors[0] <= errors[1] < 3 * errors[0] + 1e-3


@pytest.mark.parametrize(("params", "names"), [({"modes": 40, "frames": 24}, "up to 24"), ({"grid": [8, 64]}, "grid")])
def test_impossible_components_are_refused(data, params, names):
    with pytest.raises(ValueError, match=names):
        components(data, **params)


def test_a_linear_map_that_depends_on_the_viscosity_is_found():
    """Rotations whose angle is linear in log ν: one map for all fails, the map of degree 2 does not."""
    nu = torch.tensor([0.01, 0.012, 0.014, 0.017, 0.02])
    angle = 0.3 + 0.2 * (nu / 0.014).log()[:, None] * torch.ones(40)
    phase = angle.cumsum(1) - angle
    state = torch.stack([phase.cos(), phase.sin()], 2).double()
    data = {"state": state, "smooth": state, "parameters": nu[:, None].double()}
    errors = {}
    for degree in (0, 2):
        model = pca.Model(
            pca.Params(grid=[], modes=2, degree=degree), mean=torch.zeros(2).double(), std=torch.ones(2).double()
        ).double()
        model.fit(data)
        error = model.predict(state[:, 0], 40, data["parameters"]) - state
        errors[degree] = float(error.square().mean())
    assert errors[0] > 0.1 and errors[2] < 1e-2


# --- all of them --------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["koopman_cylinder", "pca"])
@torch.no_grad()
def test_saved_embeddings_are_what_they_were(data, module, tmp_path):
    params = SMALL if module == "koopman_cylinder" else {"grid": [16, 32], "modes": 5}
    model = models.build({"module": module, "params": params}, MEAN, STD)
    model.fit(data)
    models.save(tmp_path / "w.pt", model)
    state, nu = data["state"][:, 3:5], data["parameters"]
    assert torch.equal(models.load(tmp_path / "w.pt").embed(state, nu), model.eval().embed(state, nu))
