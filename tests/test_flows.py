"""Coupling flows and the renormalisation wiring: densities that are normalised, maps that invert, tails, masks."""

import pytest
import torch

from physiglot.generative.flows import Couplings, checkerboard
from physiglot.generative.hierarchy import Hierarchy, blocks, scales
from physiglot.models import coupling, nnrg
from physiglot.targets import Target


class Shaped(Target):
    """Nothing but a shape: the tests are about the model."""

    support = "real"
    beta = 1.0

    def __init__(self, *shape: int):
        self.shape = shape


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(5)


def made(module, target: Target, **params):
    """A model in double precision with random weights, wider than those that a training starts from."""
    zero = torch.zeros(target.shape)
    model = module.Model(module.Params(**params), mean=zero + 0.3, std=zero + 1.5, target=target).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p)) if p.ndim < 2 else p.mul_(1.3)
    return model


LATTICE = Shaped(4, 4)
MODELS = [
    (coupling, LATTICE, {"univariate": "affine"}),
    (coupling, LATTICE, {"univariate": "spline", "z2": False}),
    (nnrg, LATTICE, {"univariate": "affine", "couplings": 2}),
    (nnrg, LATTICE, {"univariate": "spline", "couplings": 2, "repeat": 2}),
]


@pytest.mark.parametrize("univariate", ["affine", "spline"])
@pytest.mark.parametrize("z2", [False, True])
@pytest.mark.parametrize("shape", [(1,), (2,)])
@torch.no_grad()
def test_densities_of_one_and_two_variables_are_normalised(shape, z2, univariate):
    model = made(coupling, Shaped(*shape), couplings=4, hidden=[8], univariate=univariate, z2=z2, shift=0.5)
    reach = float(model.sample(4000)[0].abs().max()) + 4.0
    line = torch.linspace(-reach, reach, 20001 if shape == (1,) else 501, dtype=torch.float64)
    grid = torch.cartesian_prod(*[line] * shape[0]).view(-1, *shape)
    total = model.log_prob(grid).exp().sum() * (line[1] - line[0]) ** shape[0]
    assert abs(float(total) - 1) < 1e-3


@pytest.mark.parametrize("module, target, params", MODELS)
@torch.no_grad()
def test_the_inverse_undoes_the_map_and_both_know_the_density(module, target, params):
    model = made(module, target, **params)
    z = model.density.noise(64)
    x, logs = model.density.push(z)
    back, again = model.density.pull(x)
    assert (back - z).abs().max() < 1e-4 and (again - logs).abs().max() < 1e-3
    x, logs = model.float().sample(64)
    assert x.dtype == torch.float32 and logs.dtype == torch.float64
    assert (model.log_prob(x) - logs).abs().max() < 1e-3


@pytest.mark.parametrize("module, target, params", MODELS[:3])
def test_the_log_determinant_is_that_of_the_jacobian(module, target, params):
    flow = made(module, target, **params).density.flow
    z = torch.randn(16, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], z)
    assert torch.linalg.slogdet(jacobian)[1] == pytest.approx(flow(z[None])[1].item(), abs=1e-8)


def test_the_mixture_knows_both_signs():
    model = made(coupling, LATTICE, z2=True, shift=3.0)
    with torch.no_grad():
        x, logs = model.sample(400)
        assert torch.allclose(model.log_prob(-x), logs)
    one = made(coupling, LATTICE, z2=False, shift=3.0)
    one.load_state_dict(model.state_dict())
    with torch.no_grad():
        both = torch.logaddexp(one.log_prob(x), one.log_prob(-x)) - torch.log(torch.tensor(2.0))
    assert torch.allclose(both.to(logs), logs, atol=1e-5)


@torch.no_grad()
def test_outside_of_its_interval_a_spline_is_the_identity():
    flow = Couplings(checkerboard((2,)), 4, [8], univariate="spline", bound=2.0).double()
    far = torch.tensor([[7.0, -9.0], [-7.0, 30.0]], dtype=torch.float64)
    x, change = flow(far)
    assert torch.equal(x, far) and torch.equal(change, torch.zeros(2, dtype=torch.float64))
    near = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    assert not torch.allclose(flow(near)[0], near)
    model = made(coupling, Shaped(2), univariate="spline", bound=2.0, z2=False)
    tails = model.log_prob(torch.tensor([[60.0, 0.0], [0.0, -60.0]], dtype=torch.float64))
    assert torch.isfinite(tails).all() and (tails < -100).all()


def test_masks_are_checkerboards_and_not_stripes():
    mask = checkerboard((4, 4)).view(4, 4)
    assert torch.equal(mask, ~mask.roll(1, 0)) and torch.equal(mask, ~mask.roll(1, 1))
    model = made(coupling, LATTICE, couplings=2)
    kept = [part.mask.view(4, 4) for part in model.density.flow.parts]
    assert torch.equal(kept[0], mask) and torch.equal(kept[1], ~mask)


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_the_blocks_of_a_layer_tile_the_sites_of_its_scale(size):
    for scale in range(size.bit_length() - 1):
        step = 2**scale
        sites = torch.arange(size * size).view(size, size)[::step, ::step].flatten()
        for offset in (0, step):
            found = blocks(size, scale, offset)
            assert torch.equal(found.flatten().sort().values, sites)
            assert (found // size % step == 0).all() and found.shape == (len(sites) // 4, 4)
    counts = torch.bincount(scales(size))
    assert counts.tolist() == [3 * 4 ** (size.bit_length() - 2 - j) for j in range(size.bit_length() - 2)] + [4]


def test_the_published_wiring_has_eight_layers_at_sixteen():
    assert len(Hierarchy(16, 10, [10, 10, 10]).layers) == 8
    assert sum(p.numel() for p in Hierarchy(4, 6, [16, 16]).parameters()) == 9312


@torch.no_grad()
def test_noise_goes_from_coarse_to_fine():
    """Noise of the finest scale moves a block of the first layer, and the blocks around it; that of others, all."""
    flow = made(nnrg, Shaped(8, 8), z2=False).density.flow
    z = torch.randn(1, 64, dtype=torch.float64)
    moved = []
    for scale in range(3):
        changed = torch.where(scales(8) == scale, z + 0.1 * (torch.arange(64) == (scales(8) == scale).nonzero()[0]), z)
        moved.append(int(((flow(changed)[0] - flow(z)[0]).abs() > 1e-12).sum()))
    assert moved == [16, 64, 64]


@torch.no_grad()
def test_the_last_stage_is_the_sample():
    model = made(nnrg, Shaped(8, 8))
    stages = model.stages(3, torch.Generator().manual_seed(1))
    assert list(stages) == ["noise of 4 sites", "noise of 16 sites", "noise of 64 sites"]
    whole = model.sample(3, torch.Generator().manual_seed(1))[0]
    assert torch.equal(stages["noise of 64 sites"], whole)
    assert not torch.allclose(stages["noise of 16 sites"], whole)


@pytest.mark.parametrize(
    "module, shape, said",
    [
        (coupling, (3, 3), "even"),
        (coupling, (4, 5), "even"),
        (nnrg, (6, 6), "power of two"),
        (nnrg, (4, 8), "L × L"),
        (nnrg, (16,), "L × L"),
    ],
)
def test_shapes_that_do_not_fit_are_named(module, shape, said):
    with pytest.raises(ValueError, match=said):
        made(module, Shaped(*shape))


def test_wrong_configurations_are_named():
    model = made(coupling, LATTICE)
    with pytest.raises(ValueError, match="x: "):
        model.log_prob(torch.zeros(2, 16))
    spins = Shaped(4, 4)
    spins.support = "spin"
    with pytest.raises(ValueError, match="real"):
        made(coupling, spins)
