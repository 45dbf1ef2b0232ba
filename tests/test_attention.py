"""Attention: the cache is the training graph, the mask is causal and banded, positions differ, kernels are exact."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from physiglot import attention, fused
from physiglot.models import koopman, transformer

torch.set_num_threads(1)
WINDOW, WIDTH = 6, 16
POSITIONS = ("sinusoidal", "rotary")


def decoder(layers: int = 3, rotary: bool = False, dtype: torch.dtype = torch.float64) -> attention.Decoder:
    torch.manual_seed(0)
    return attention.Decoder(WIDTH, layers, 4, WINDOW, "layer", rotary).to(dtype)


def tokens(time: int, dtype: torch.dtype = torch.float64, batch: int = 2) -> Tensor:
    return torch.randn(batch, time, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(1))


def one_by_one(stack: attention.Decoder, x: Tensor, prefix: Tensor | None = None) -> Tensor:
    caches = stack.caches(prefix)
    return torch.cat([stack(x[:, t : t + 1], t, caches) for t in range(x.shape[1])], 1)


def faithful(**changes) -> transformer.Model:
    """A small Transformer on the next embedding, its weights large enough that attention matters."""
    torch.manual_seed(2)
    mean, std = torch.zeros(3), torch.ones(3)
    embedding = koopman.Model(koopman.Params(channels=WIDTH, width=20), mean=mean, std=std)
    params = transformer.Params(**{"layers": 2, "window": WINDOW, "init": 0.4, **changes})
    return transformer.Model(params, mean=mean, std=std, embedding=embedding.requires_grad_(False))


# --- the cache and the window -------------------------------------------------------------------


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_cache_is_the_banded_forward(dtype, bound, rotary, grad):
    """Over three windows, in place without a gradient and out of place with one."""
    stack, x = decoder(rotary=rotary, dtype=dtype), tokens(3 * WINDOW, dtype)
    with torch.set_grad_enabled(grad):
        assert (one_by_one(stack, x) - stack(x)).abs().max() <= bound


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_generation_with_the_cache_is_the_training_graph_on_its_own_tokens(positions, dtype, bound):
    model, steps = faithful(positions=positions).to(dtype), 3 * WINDOW
    z = model._generate(tokens(1, dtype)[:, 0], steps, "cache")
    assert (model._next(z)[:, :-1] - z[:, 1:]).abs().max() <= bound


@torch.no_grad()
def test_window_equals_cache_until_the_window_is_full_and_markov_differs():
    model = faithful().double()
    cache, window, markov = (
        model._generate(tokens(1)[:, 0], 3 * WINDOW, kind) for kind in ("cache", "window", "markov")
    )
    assert (window - cache)[:, : WINDOW + 1].abs().max() <= 1e-10
    assert (window - cache)[:, -1].abs().max() > 1e-6
    assert (markov - cache)[:, :2].abs().max() <= 1e-10
    assert (markov - cache)[:, 3].abs().max() > 1e-3


@pytest.mark.parametrize("target", ["embedding", "increment"])
@torch.no_grad()
def test_rollouts_are_deterministic(target):
    model, start = faithful(target=target), torch.randn(3, 3)
    assert torch.equal(model.predict(start, 20), model.predict(start, 20))


# --- the mask -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rotary", [False, True])
def test_a_token_changes_no_output_before_it(rotary):
    stack, x = decoder(rotary=rotary), tokens(3 * WINDOW)
    for j in (1, WINDOW, 2 * WINDOW + 3):
        y = x.clone()
        y[:, j, 0] += 1
        change = (stack(y) - stack(x)).abs().amax((0, 2))
        assert (change[:j] == 0).all() and change[j] > 1e-3


@pytest.mark.parametrize("cached", [False, True])
@torch.no_grad()
def test_one_layer_looks_back_exactly_one_window(cached):
    stack, x, t = decoder(layers=1), tokens(3 * WINDOW), 2 * WINDOW
    forward = (lambda x: one_by_one(stack, x)) if cached else stack

    def change(j: int) -> float:
        y = x.clone()
        y[:, j, 0] += 1
        return float((forward(y) - forward(x))[:, t].abs().max())

    assert change(t - WINDOW + 1) > 1e-4
    assert change(t - WINDOW) == 0


# --- a prefix -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("rotary", [False, True])
def test_cache_is_the_banded_forward_after_a_prefix(rotary, count):
    """Over three windows, and with the gradient with respect to the prefix."""
    stack, x, prefix = decoder(rotary=rotary), tokens(3 * WINDOW), tokens(count).flip(2).requires_grad_()
    whole = stack(x, prefix=prefix)
    assert whole.shape == x.shape
    steps = one_by_one(stack, x, prefix)
    assert (steps - whole).abs().max() <= 1e-10
    with torch.no_grad():
        assert (one_by_one(stack, x, prefix) - whole).abs().max() <= 1e-10
    slopes = [torch.autograd.grad((y * x).sum(), prefix)[0] for y in (whole, steps)]
    assert (slopes[0] - slopes[1]).abs().max() <= 1e-10 and slopes[0].abs().max() > 1e-3


@pytest.mark.parametrize("rotary", [False, True])
@torch.no_grad()
def test_a_prefix_is_never_dropped_and_the_window_behind_it_moves(rotary):
    stack, x, prefix = decoder(layers=1, rotary=rotary), tokens(4 * WINDOW), tokens(1, batch=2)
    moved = prefix.clone()
    moved[..., 0] += 1
    assert ((stack(x, prefix=moved) - stack(x, prefix=prefix)).abs().amax((0, 2)) > 1e-4).all()
    last, y = 4 * WINDOW - 1, x.clone()
    y[:, last - WINDOW] += 1
    assert torch.equal(stack(x, prefix=prefix)[:, last], stack(y, prefix=prefix)[:, last])
    y[:, last - WINDOW + 1, 0] += 1
    assert (stack(x, prefix=prefix) - stack(y, prefix=prefix))[:, last].abs().max() > 1e-4


@torch.no_grad()
def test_what_tokens_see_of_a_prefix_does_not_depend_on_their_position():
    """In one layer with rotary positions equal tokens give equal outputs, however far they are from the prefix."""
    stack, prefix = decoder(layers=1, rotary=True), tokens(1)
    found = stack(tokens(1).flip(2).repeat(1, 40, 1), prefix=prefix)
    assert (found[:, WINDOW:] - found[:, WINDOW : WINDOW + 1]).abs().max() < 1e-10


# --- positions ----------------------------------------------------------------------------------


def test_sinusoids_have_no_equal_channels_and_the_values_of_the_formula():
    found = attention.sinusoids(torch.arange(64.0, dtype=torch.float64), 32)
    apart = (found[:, :, None] - found[:, None]).abs().amax(0) + torch.eye(32)
    assert apart.min() > 1e-4  # the slowest cosines stay near 1 for 64 steps
    hand = [(math.sin(a), math.cos(a)) for a in (10000 ** (-2 * j / 32) for j in range(16))]
    assert found[1].tolist() == pytest.approx([value for pair in hand for value in pair], abs=1e-12)
    assert found[1, :4].tolist() == pytest.approx([0.8414709848, 0.5403023059, 0.5331684399, 0.8460091025])


def test_rotary_scores_depend_on_differences_of_positions_alone():
    q, k = tokens(1)[0, 0], tokens(2)[0, 1]

    def score(i: int, j: int) -> float:
        at = [attention.rotation(torch.tensor([float(p)], dtype=q.dtype), WIDTH)[:, 0] for p in (i, j)]
        return float(attention.rotate(q, at[0]) @ attention.rotate(k, at[1]))

    assert score(7, 4) == pytest.approx(score(1003, 1000), abs=1e-12)
    assert score(0, 0) == pytest.approx(float(q @ k), abs=1e-12)
    assert abs(score(7, 4) - score(7, 5)) > 1e-3


# --- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rotary", [False, True])
def test_gradient_through_the_cache_is_that_of_the_parallel_form(rotary):
    stack, x = decoder(rotary=rotary), tokens(2 * WINDOW + 1)
    weight = torch.randn_like(x)
    gradients = []
    for forward in (stack, lambda x: one_by_one(stack, x)):
        given = x.clone().requires_grad_()
        stack.zero_grad()
        (forward(given) * weight).sum().backward()
        gradients.append([given.grad, *(p.grad.clone() for p in stack.parameters())])
    for parallel, cached in zip(*gradients, strict=True):
        assert (parallel - cached).abs().max() <= 1e-10 * (1 + parallel.abs().max())


def test_gradient_of_a_cached_rollout_is_that_of_finite_differences():
    model = faithful(target="increment", positions="rotary").double()
    torch.nn.init.normal_(model.head.weight, std=0.3)
    start, weight = torch.randn(2, 3, dtype=torch.float64), model.decoder.blocks[0].attention.qkv.weight

    def value() -> Tensor:
        return model._roll(start, 2 * WINDOW).square().sum()

    slope = torch.autograd.grad(value(), weight)[0]
    direction = torch.randn_like(weight)
    with torch.no_grad():
        values = []
        for h in (1e-6, -1e-6):
            weight += h * direction
            values.append(value())
            weight -= h * direction
    assert float((values[0] - values[1]) / 2e-6) == pytest.approx(float((slope * direction).sum()), rel=1e-5)


# --- the fused kernels --------------------------------------------------------------------------


def block(width: int, heads: int, window: int, time: int) -> tuple[attention.Block, attention.Where]:
    """A block whose every parameter matters."""
    torch.manual_seed(3)
    made = attention.Block(width, heads, "layer")
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made, attention.Where(None, None, attention.banded(time, window), window)


def run_fused(made: attention.Block, x: Tensor, window: int) -> Tensor:
    return fused.Block.apply(x, made.attention.heads, window, made.norm1.eps, *made.parameters())


@pytest.mark.parametrize(
    ("batch", "time", "width", "heads", "window"),
    [(4, 64, 32, 4, 64), (3, 37, 32, 2, 10), (2, 24, 48, 2, 100), (2, 33, 64, 8, 5), (2, 1, 16, 2, 1)],
)
def test_fused_block_is_the_block_and_its_gradients_those_of_autograd(batch, time, width, heads, window):
    """Against float64; times that fill no whole vector, windows that move."""
    made, where = block(width, heads, window, time)
    exact = copy.deepcopy(made).double()
    x = torch.randn(batch, time, width, requires_grad=True)
    weight, y = torch.randn(batch, time, width), x.detach().double().requires_grad_()
    found, wanted = run_fused(made, x, window), exact(y, where)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    slopes = torch.autograd.grad((found * weight).sum(), [x, *made.parameters()])
    expected = torch.autograd.grad((wanted * weight).sum(), [y, *exact.parameters()])
    for a, b in zip(slopes, expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * expected[0].abs().max() + 1e-5 * b.abs().max()
    again = torch.autograd.grad((run_fused(made, x, window) * weight).sum(), [x, *made.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(slopes, again, strict=True))


def test_fused_block_sees_the_past_window_and_nothing_else():
    made, _ = block(32, 4, WINDOW, 3 * WINDOW)
    x = torch.randn(1, 3 * WINDOW, 32)
    for j in (0, 3, WINDOW + 1):
        y = x.clone()
        y[:, j, 0] += 1
        change = (run_fused(made, y, WINDOW) - run_fused(made, x, WINDOW)).abs().amax((0, 2))
        assert (change[:j] == 0).all() and (change[j + WINDOW :] == 0).all()
        assert (change[j : j + WINDOW] > 0).all()


def test_fused_block_survives_large_scores_and_passes_on_what_is_not_finite():
    made, _ = block(32, 4, 8, 24)
    with torch.no_grad():
        made.attention.qkv.weight.mul_(100)
    x = torch.randn(2, 24, 32, requires_grad=True)
    y = run_fused(made, x, 8)
    assert y.isfinite().all() and torch.autograd.grad(y.sum(), x)[0].isfinite().all()
    for bad in (math.nan, math.inf):
        with torch.no_grad():
            x[1, 5, 3] = bad
        y = run_fused(made, x, 8)
        assert y[1, 5].isnan().all() and y[0].isfinite().all()


def test_fused_gelu_is_the_tanh_gelu():
    x = torch.linspace(-60, 60, 2**15, requires_grad=True)
    y = x.detach().double().requires_grad_()
    found, wanted = fused.Gelu.apply(x), functional.gelu(y, approximate="tanh")
    assert ((found - wanted).abs() / (1 + y.abs())).max() < 1e-6
    slopes = torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(wanted.sum(), y)[0]
    assert (slopes[0] - slopes[1]).abs().max() < 2e-6


def test_training_takes_the_fused_kernels_and_they_change_nothing(monkeypatch):
    torch.manual_seed(0)
    stack, x = attention.Decoder(32, 3, 4, WINDOW, "layer", False), torch.randn(32, 32, 32)
    assert stack.blocks[0]._fusible(x, stack._where(x, 0, False)) and not attention.fusible(x.double())
    weight, fast = torch.randn_like(x), stack(x)
    slopes = torch.autograd.grad((fast * weight).sum(), list(stack.parameters()))
    monkeypatch.setattr(attention, "fusible", lambda x: False)
    slow = stack(x)
    assert (fast - slow).abs().max() < 1e-5 and not torch.equal(fast, slow)
    for a, b in zip(slopes, torch.autograd.grad((slow * weight).sum(), list(stack.parameters())), strict=True):
        assert (a - b).abs().max() <= 1e-5 * (1 + b.abs().max())
