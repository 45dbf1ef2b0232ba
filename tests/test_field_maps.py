"""Maps of periodic fields: symmetric, exact where the truth is a local law, and trained through their own rollouts."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from physiglot import isotropic, models
from physiglot.curriculum import Curriculum
from physiglot.models import field_transformer, local_law
from physiglot.systems import gray_scott

ONE = {"horizons": [1], "shares": [1.0]}
SMALL = {
    "local_law": {"series": 4},
    "stencil_map": {"width": 8},
    "field_transformer": {"width": 16, "features": 4, "heads": 2, "layers": 2, "channels": 2, "hidden": 8},
}


@pytest.fixture(scope="module")
def series():
    """Three series on 12³ cells that one patch of 4 divides."""
    params = gray_scott.Params(grid=12, average=1, dx=1.75, cube=5, steps=24)
    return torch.from_numpy(gray_scott.simulate(params, 3, np.random.default_rng(0)).state.values)


def built(name, series, shake=0.0, **params):
    """A fitted model; `shake` adds noise to its weights, zero at first in the last layer."""
    mean, std = series.mean((0, 1, 3, 4, 5)), series.transpose(0, 2).flatten(1).std(1)
    torch.manual_seed(0)
    model = models.build({"module": name, "params": {**SMALL[name], **params}}, mean, std)
    model.fit({"state": series, "smooth": series, "val": series})
    with torch.no_grad():
        for p in model.parameters():
            p.add_(shake * torch.randn_like(p))
    return model.eval()


# --- stencils and symmetries -------------------------------------------------------------------


def test_neighbours_are_the_isotropic_stencils():
    """Against a convolution with the three kernels, and exact on a plane wave."""
    x = torch.randn(2, 2, 6, 5, 7, dtype=torch.float64)
    distance = sum(torch.arange(-1, 2)[(None,) * i + (...,) + (None,) * (2 - i)].abs() for i in range(3))
    padded = torch.nn.functional.pad(x, (1,) * 6, mode="circular").flatten(0, 1)[:, None]
    found = isotropic.neighbours(x)
    for i, count in enumerate((6, 12, 8)):
        kernel = (distance == i + 1).double() / count
        assert kernel.sum() == pytest.approx(1)
        kernel[1, 1, 1] -= 1
        expected = torch.nn.functional.conv3d(padded, kernel[None, None]).view_as(x)
        torch.testing.assert_close(found[:, 2 * i : 2 * i + 2], expected)


def test_the_augmentation_draws_all_symmetries_and_shifts():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 1, 3, 3, 3).expand(1500, 3, 2, 3, 3, 3)
    moved = isotropic.augmented(x)
    assert torch.equal(moved[:, 0], moved[:, 2]), "one move for all times"
    assert torch.equal(moved.flatten(1).sort()[0][:, 0], x.flatten(1).sort()[0][:, 0])
    every = {
        tuple(isotropic.moved(x[0, 0, 0], order, flips, list(shifts)).flatten().tolist())
        for order in isotropic.PERMUTATIONS
        for n in range(4)
        for flips in itertools.combinations(isotropic.AXES, n)
        for shifts in itertools.product(range(3), repeat=3)
    }
    assert len(every) == 48 * 27
    drawn = {tuple(m[0, 0].flatten().tolist()) for m in moved}
    assert drawn <= every and len(drawn) > 700


@pytest.mark.parametrize("name", SMALL)
def test_shifts_commute(name, series):
    """By any shift for what has no patches, by whole patches for what has."""
    model, start = built(name, series, 0.0 if name == "local_law" else 0.1), series[:, 5]
    shift = (4, 8, 4) if name == "field_transformer" else (1, 2, 3)
    moved = model.predict(start.roll(shift, isotropic.AXES), 4)
    torch.testing.assert_close(moved, model.predict(start, 4).roll(shift, isotropic.AXES), rtol=1e-4, atol=1e-5)


def test_the_law_has_the_symmetries_of_the_cube(series):
    model, start = built("local_law", series).double(), series[:, 5].double()
    end = model.predict(start, 3)
    for order in isotropic.PERMUTATIONS:
        turned = model.predict(isotropic.moved(start, order, [-1], [0, 0, 0]), 3)
        torch.testing.assert_close(turned, isotropic.moved(end, order, [-1], [0, 0, 0]), rtol=1e-9, atol=1e-12)


# --- the law -----------------------------------------------------------------------------------


def test_quadrature_is_exact_to_degree_five():
    for n in range(6):
        assert np.sum(local_law.quadrature() * local_law.NODES.astype(float) ** n) == pytest.approx(1 / (n + 1))


def test_the_law_is_found(series):
    """On unseen series: relative MSE below 1e-5 (u) and 1e-4 (v) over 24 steps, where persistence has 1e-2 and 0.5."""
    params = gray_scott.Params(grid=12, average=1, dx=1.75, cube=5, steps=24)
    truth = torch.from_numpy(gray_scott.simulate(params, 2, np.random.default_rng(9)).state.values)
    predicted, still = built("local_law", series).predict(truth[:, 0], 24), truth[:, :1].expand_as(truth)
    law, persistence = (
        (x - truth).square().sum((0, 1, 3, 4, 5)) / truth.square().sum((0, 1, 3, 4, 5)) for x in (predicted, still)
    )
    assert (law < torch.tensor([1e-5, 1e-4])).all(), law
    assert (persistence > torch.tensor([1e-2, 0.5])).all(), persistence


def test_pieces_do_not_matter(series):
    whole, cut = (built("local_law", series, chunk=c).law for c in (10**6, 12**3 * 8))
    torch.testing.assert_close(whole.coefficients(), cut.coefficients(), rtol=1e-4, atol=1e-5)


def test_the_residual_is_that_of_the_fit(series):
    model = built("local_law", series)
    law, x = model.law, model.standardised(series)
    pieces = list(law._pieces(x, again=False))
    rest = torch.cat([b - a @ law.coefficients() for a, b in pieces]).square().mean().sqrt().item()
    assert law.fit(x) == pytest.approx(rest, rel=1e-3)


def test_short_series_are_refused(series):
    with pytest.raises(ValueError, match="local_law: series of 5 states: 6 or more are needed"):
        built("local_law", series[:, :5])


def test_the_refined_field_has_the_means_and_is_exact_on_waves():
    x = torch.randn(2, 3, 6, 7, 8, dtype=torch.float64)
    for parts in (2, 3):
        torch.testing.assert_close(isotropic.averaged(isotropic.refined(x, parts), parts), x)
    wave = (2 * torch.pi * 3 * (torch.arange(16, dtype=torch.float64) + 0.3) / 16).sin().expand(1, 16, 16, 16)
    torch.testing.assert_close(isotropic.refined(isotropic.averaged(wave, 2), 2), wave)


@pytest.fixture(scope="module")
def means():
    """Series (3, 40, 2, 12, 12, 12) of means over 2³ cells of the discrete Gray-Scott system."""
    params = gray_scott.Params(grid=12, average=2, dx=1.0, cube=9, steps=40)
    return torch.from_numpy(gray_scott.simulate(params, 3, np.random.default_rng(0)).state.values)


HIDDEN = {"refine": 2, "passes": 2, "stencils": 1}


def test_means_obey_a_law_on_the_finer_grid(means):
    """The diffusion of the fine grid comes out, 6 r dt / dx² = 6 and 3, and the forecast is that much better."""
    truth = means[2:]
    coarse, law = built("local_law", means[:2]), built("local_law", means[:2], **HIDDEN)
    diffusion = law.law.coefficients()[-2:].diagonal()
    torch.testing.assert_close(diffusion, torch.tensor([6.0, 3.0]).to(diffusion), rtol=0.03, atol=0)
    errors = [(m.predict(truth[:, 2], 38) - truth[:, 2:]).square().mean((0, 1, 3, 4, 5)) for m in (coarse, law)]
    assert (errors[1] < 0.1 * errors[0]).all(), errors


def test_later_passes_are_better(means):
    """What is above the resolved modes is seen only through the law's own states."""
    once, twice = (built("local_law", means[:2], refine=2, stencils=1, passes=n).law for n in (1, 2))
    off = [(law.coefficients()[-2:].diagonal() - torch.tensor([6.0, 3.0])).abs().max() for law in (once, twice)]
    assert off[1] < 0.5 * off[0], off


def test_the_assimilated_states_have_the_observed_means(means):
    model = built("local_law", means[:2], **HIDDEN)
    x = model.standardised(means[0])
    torch.testing.assert_close(isotropic.averaged(model.law.assimilated(x), 2), x, rtol=1e-4, atol=1e-4)


def test_passes_need_a_finer_grid():
    with pytest.raises(ValueError, match="passes: 2: more than one needs a finer grid, refine: 2 or more"):
        local_law.Params(passes=2)


# --- the Transformer ---------------------------------------------------------------------------


def test_patches_and_cells_are_inverse():
    x = torch.randn(2, 3, 8, 4, 12)
    tokens = field_transformer.patches(x, 4)
    assert tokens.shape == (2, 192, 2, 1, 3) and torch.equal(field_transformer.cells(tokens, 4), x)
    assert torch.equal(tokens[0, :64, 1, 0, 2], x[0, 0, 4:, :, 8:].flatten())


@pytest.mark.parametrize("law", [None, {"series": 4}])
def test_the_untrained_transformer_is_its_path(law, series):
    """Persistence without a law; with one, the law."""
    model = built("field_transformer", series, law=law)
    expected = series[:, 3] if law is None else built("local_law", series).predict(series[:, 3], 2)[:, 1]
    torch.testing.assert_close(model.predict(series[:, 3], 2)[:, 1], expected, rtol=1e-5, atol=1e-5)


def test_what_the_tokens_add_goes_to_the_hidden_cells(means):
    """The state is the mean of the hidden one after each step; untrained, the rollout is that of the law."""
    plain, start = built("field_transformer", means[:2], law=HIDDEN), means[2:, 5]
    expected = built("local_law", means[:2], **HIDDEN).predict(start, 4)
    torch.testing.assert_close(plain.predict(start, 4), expected, rtol=1e-4, atol=1e-4)
    model = built("field_transformer", means[:2], law=HIDDEN)
    nn.init.normal_(model.cell.linear.weight, std=0.3)
    memory, state = model.begin(), start
    for _ in range(3):
        with torch.no_grad():
            state = model.step(state, memory)
        fine = isotropic.averaged(memory.hidden.fine, 2)
        torch.testing.assert_close(fine, model.standardised(state), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(state, expected[:, 3], atol=1e-3)


def test_a_token_sees_its_window_and_no_more(series):
    """One layer: what a state does to the correction through attention ends `window` − 1 steps later."""
    model = built("field_transformer", series, 0.3, layers=1, window=3).double()
    x = model.standardised(series[:1, :6].double())

    def corrections(states):
        memory = model.begin()
        return [model._correction(states[:, t], memory) for t in range(states.shape[1])]

    with torch.no_grad():
        plain, other = corrections(x), corrections(torch.cat([x[:, :1] + 0.5, x[:, 1:]], 1))
    differences = [float((a - b).abs().max()) for a, b in zip(plain, other, strict=True)]
    assert all(d > 1e-6 for d in differences[:3]) and all(d < 1e-12 for d in differences[3:]), differences


def test_the_gradient_passes_through_the_cache(series):
    """A loss over three steps has the derivative that finite differences give."""
    model = built("field_transformer", series, 0.1, augment=False, rollout={"horizons": [3], "shares": [1.0]}).double()
    batch = {"state": series[:2, :4].double()}
    model.loss(batch)["loss"].backward()
    weight = model.blocks[0].attention.qkv.weight
    place = weight.grad.abs().argmax()
    with torch.no_grad():
        values = []
        for h in (1e-4, -1e-4):
            weight.view(-1)[place] += h
            values.append(float(model.loss(batch)["loss"]))
            weight.view(-1)[place] -= h
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(float(weight.grad.view(-1)[place]), rel=1e-4)


def test_training_improves_on_persistence(series):
    """Sixty steps of each network reduce the error of rollouts on their data by more than half."""
    for name in ("stencil_map", "field_transformer"):
        model = built(name, series, rollout=ONE)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        model.train()
        for step in range(60):
            at = step % 20
            loss = model.loss({"state": series[:, at : at + 3]})["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        start, truth = series[:, 8], series[:, 8:14]
        error = (model.predict(start, 6) - truth).square().mean()
        assert error < 0.4 * (start[:, None] - truth).square().mean(), name


def test_what_cannot_be_is_refused(series):
    with pytest.raises(ValueError, match="width 20 must be a multiple of twice the 4 heads"):
        field_transformer.Params(width=20, heads=4)
    with pytest.raises(ValueError, match="patch: 5: does not divide the grid of 12 cells"):
        built("field_transformer", series, patch=5).predict(series[:, 0], 2)
    with pytest.raises(ValueError, match=r"three dimensions is needed; the states are 0-D"):
        models.build({"module": "stencil_map", "params": {}}, torch.zeros(2), torch.ones(2)).fit(
            {"state": torch.zeros(3, 4, 2), "smooth": torch.zeros(3, 4, 2)}
        )
    assert field_transformer.Params().rollout == Curriculum(horizons=[1, 2, 4], shares=[0.4, 0.3, 0.3])
