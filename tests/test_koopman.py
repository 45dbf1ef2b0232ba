"""The Koopman embedding: its sizes, its loss frame by frame, a stable operator, an exact decoder."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from physiglot.models import koopman

torch.set_num_threads(1)
MEAN, STD = torch.tensor([0.1, -0.2, 23.0]), torch.tensor([8.0, 9.0, 8.5])
OURS = {"channels": 8, "width": 16, "activation": "silu", "normalise": False, "state": True, "dictionary": 4}


def model(seed: int = 0, **params) -> koopman.Model:
    torch.manual_seed(seed)
    return koopman.Model(koopman.Params(**params), mean=MEAN, std=STD)


def states(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return MEAN + STD * torch.randn(*shape, 3, dtype=dtype, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(("params", "size"), [({}, 36_192), ({"width": 1500}, 108_192)])
def test_number_of_parameters_is_the_published_one(params, size):
    assert sum(p.numel() for p in model(**params).parameters()) == size


def test_operator_is_banded_and_skew_off_the_diagonal():
    k = model(channels=6).operator.matrix()
    off = k - torch.diag(k.diagonal())
    assert torch.equal(off, -off.T)
    assert torch.equal(k.diagonal(), torch.linspace(1, 0, 6))
    assert (k.triu(3) == 0).all() and (k.triu(1).tril(2) != 0).sum() == 5 + 4


@pytest.mark.parametrize("params", [{}, {**OURS, "operator": "stable", "consistency": 0.7}])
def test_loss_is_the_sum_of_its_terms_frame_by_frame(params):
    """The equation of the paper walked frame by frame, against all frames in one call."""
    m, x = model(**params), states(7, 5)
    p, k = m.params, m.operator.matrix()
    z = m.embed(x[:, 0])
    total = torch.zeros(())
    for j in range(x.shape[1]):
        z = z @ k.T if j else z
        total = total + p.reconstruction * functional.mse_loss(m.decode(m.embed(x[:, j])), x[:, j])
        total = total + p.dynamics * functional.mse_loss(m.decode(z), x[:, j])
        total = total + p.consistency * functional.mse_loss(z, m.embed(x[:, j]))
        total = total + p.decay * k.square().sum()
    found = m.loss({"smooth": x, "state": x})
    assert found["loss"].item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_stable_operator_cannot_grow(seed):
    operator = model(seed, channels=24, operator="stable", bands=4).double().operator
    for parameter in operator.parameters():
        parameter.copy_(5 * torch.randn_like(parameter))
    assert torch.linalg.eigvals(operator.matrix()).abs().max() <= 1 + 1e-6
    z = torch.randn(3, 24, dtype=torch.float64)
    assert koopman.advance(operator.matrix(), z, 500)[:, -1].norm() <= z.norm() * (1 + 1e-6)


@torch.no_grad()
def test_decoder_is_exact_where_the_state_is_among_the_channels():
    m, x = model(**OURS).double(), states(50, dtype=torch.float64)
    z = m.embed(x)
    assert z.shape[-1] == m.channels == 34 + 8
    assert (m.decode(z) - x).abs().max() < 1e-12
    assert m.loss({"smooth": x[None], "state": x[None]})["reconstruction"] < 1e-24


@torch.no_grad()
def test_error_of_a_known_identity_model_is_zero():
    """The public code's test compares frame i with frame i+1: a model that is the identity has an error there."""
    m, still = model(**OURS).double(), states(4, 1, dtype=torch.float64).repeat(1, 6, 1)
    m.operator = koopman.Operator(m.channels, 0, stable=False).double()
    m.operator.diagonal.fill_(1)
    for x in (still, states(4, 6, dtype=torch.float64)):
        assert m.loss({"smooth": x, "state": x})["reconstruction"] < 1e-24
    losses = m.loss({"smooth": still, "state": still})
    assert losses["dynamics"] < 1e-24 and losses["consistency"] < 1e-24
    assert (m.predict(still[:, 0], 6) - still).abs().max() < 1e-12


@torch.no_grad()
def test_predict_is_the_decoded_powers_of_the_operator():
    m, x = model(channels=6, width=10).double(), states(3, dtype=torch.float64)
    found, k = m.predict(x, 4), m.operator.matrix()
    assert torch.equal(found[:, 0], x)
    assert (found[:, 3] - m.decode(m.embed(x) @ (k @ k @ k).T)).abs().max() < 1e-9


@pytest.mark.parametrize("act", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("slopes_of_states", [False, True])
def test_pieces_are_the_network_and_its_gradient(act, slopes_of_states, monkeypatch):
    monkeypatch.setattr(koopman, "ROWS", 5)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 7), act(), nn.Linear(7, 4)).double()
    x = torch.randn(2, 32, 3, dtype=torch.float64, requires_grad=slopes_of_states)
    weight, wanted = torch.randn(2, 32, 4, dtype=torch.float64), [*network.parameters(), *[x] * slopes_of_states]
    values, slopes = [], []
    for y in (koopman.in_pieces(network, x), network(x)):
        values.append(y)
        slopes.append(torch.autograd.grad((y * weight).sum(), wanted))
    assert (values[0] - values[1]).abs().max() < 1e-12
    for a, b in zip(*slopes, strict=True):
        assert (a - b).abs().max() < 1e-12


def test_pieces_are_left_out_where_nothing_is_learnt(monkeypatch):
    monkeypatch.setattr(koopman, "ROWS", 1)
    monkeypatch.setattr(koopman.Pieces, "apply", None)
    m = model(channels=6, width=10).requires_grad_(False)
    assert m.embed(states(3, 20)).shape == (3, 20, 6)
