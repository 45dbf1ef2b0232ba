"""What a GPU changes, and what it must not: recorded steps, rollouts and solvers give what a CPU gives."""

from types import SimpleNamespace

import numpy as np
import pytest
import synthetic
import torch
from torch import Tensor

from physiglot import checkpoint, device, models, reaction, stencils, train
from physiglot.wake import scheme, stepper, tensors

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

TRAINING = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 1e-8, "clip": 0.1, "ema": 0.9, "schedule": "cosine"}
TRAINING |= {"eps": 1e-8, "warmup": 0.1, "epochs": None, "validation": {"split": "val", "windows": 4, "times": None}}
STEPS = 16


def lorenz() -> dict[str, Tensor]:
    state = torch.randn(8, 17, 3, generator=torch.Generator().manual_seed(0)).cumsum(1)
    return {"state": state, "smooth": state}


def wakes() -> dict[str, Tensor]:
    found = synthetic.wakes(torch.linspace(0.01, 0.02, 8), 17)
    return {**found, "smooth": found["state"]}


def waves() -> dict[str, Tensor]:
    state = torch.as_tensor(synthetic.waves(8, np.random.default_rng(0)).state.values)
    return {"state": state, "smooth": state}


ROLLOUT = {"rollout": {"horizons": [2, 4], "shares": [0.5, 0.5]}}
# model -> its parameters, the data, and the embedding, if any, with its parameters
MODELS = {
    "koopman": ({}, lorenz, None),
    "autoregressive": ({}, lorenz, None),
    "residual_map": (ROLLOUT, lorenz, None),
    "lstm": ({"hidden": 8}, lorenz, None),
    "transformer": ({"layers": 2, "window": 16}, lorenz, ("koopman", {"channels": 32, "width": 20})),
    "koopman_cylinder": ({"grid": [16, 32], "width": 4}, wakes, None),
    "conv_lstm": ({"width": 8, "parameters": 1}, wakes, None),
    "latent": ({"width": 16, "hidden": 16, "parameters": 1, **ROLLOUT}, wakes, ("pca", {"grid": [16, 32], "modes": 8})),
    "koopman_gray_scott": ({"grid": [8, 8, 8], "width": 4, "channels": 16}, waves, None),
}


def built(name: str) -> tuple[models.Any, dict[str, Tensor]]:
    """The model on the CPU with its batch; its embedding is fitted and frozen."""
    params, made, inner = MODELS[name]
    batch, embedding = made(), None
    axes = (0, 1, *range(3, batch["state"].ndim))
    about = {"mean": batch["state"].mean(axes), "std": batch["state"].std(axes)}
    torch.manual_seed(0)
    if inner:
        embedding = models.build({"module": inner[0], "params": inner[1]}, **about)
        if hasattr(embedding, "fit"):
            embedding.fit({**batch, "val": batch["state"]})
        embedding = embedding.eval().requires_grad_(False)
        beside = models.side(embedding.embed, batch.get("parameters"))
        batch["embedded"] = embedding.embed(batch["state"], **beside)
    model = models.build({"module": name, "params": params}, **about, embedding=embedding)
    if hasattr(model, "fit"):
        model.fit(batch)
    return model, batch


def learnt(name: str, tmp_path, recorded: bool) -> tuple[Tensor, Tensor, device.Recorder]:
    """The weights before and after some steps on a GPU."""
    model, batch = built(name)
    batch = {key: value.cuda() for key, value in batch.items()}
    model.cuda().train()
    model.recorded = recorded

    def at(step: int) -> dict[str, Tensor]:
        moved = {id(value): value.roll(step, 0) for value in batch.values()}
        return {key: moved[id(value)] for key, value in batch.items()}

    data = SimpleNamespace(at=at, sampler=SimpleNamespace(per_epoch=4))
    snapshots = checkpoint.Snapshots(tmp_path / "ckpt", "key", "lineage")
    loop = train.Loop(model, data, None, {**TRAINING, "steps": STEPS}, 3, snapshots)
    before = loop.weights.mean.clone()
    for _ in range(STEPS):
        loop.advance()
    return before, loop.weights.mean, loop.learn


@pytest.mark.parametrize("name", MODELS)
def test_recorded_steps_learn_what_others_do(name, tmp_path):
    device.tensor_cores(False)
    (_, found, recorder), (before, expected, _) = (learnt(name, tmp_path, recorded) for recorded in (True, False))
    horizons = 2 if name in ("latent", "residual_map") else 1
    assert recorder.possible and len(recorder.records) == horizons
    # Sums of a GPU are not in order, and Adam takes steps of equal size along the smallest gradients too.
    assert float((found - expected).norm()) < 0.1 * float((expected - before).norm())


@pytest.mark.parametrize("name", MODELS)
def test_a_rollout_is_that_of_the_cpu(name):
    device.tensor_cores(False)
    model, batch = built(name)
    start, model = batch["state"][:, 0].double(), model.double().eval()
    given = {k: v.double() for k, v in models.side(model.predict, batch.get("parameters")).items()}
    with torch.inference_mode():
        expected = model.predict(start, 6, **given)
        found = model.cuda().predict(start.cuda(), 6, **{k: v.cuda() for k, v in given.items()}).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_the_wake_is_that_of_numba():
    grid, nu = scheme.Grid(96, 96, 60.0), np.array([2 / 100, 2 / 300])
    flows = [stepper.Flow(grid, nu, 0.01), tensors.Flow(grid, nu, 0.01, "cuda")]
    for flow in flows:
        flow.advance(np.concatenate([np.zeros(20), np.full(20, 0.2)]))
    for name in ("vorticity", "stream"):
        expected, found = (getattr(flow, name) for flow in flows)
        np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


def test_gray_scott_is_that_of_numba():
    start = np.random.default_rng(0).uniform(0.2, 0.8, (2, 16, 16, 16)).astype(np.float32)
    rates, frames = stencils.Reaction(0.2, 0.1, 0.025, 0.055, 1.75), np.empty((5, 2, 16, 16, 16), np.float32)
    stencils.integrate(start, frames, 1.0, 5, rates, 0.0)
    found = reaction.frames(torch.from_numpy(start[None]).cuda(), 5, 1.0, 5, rates, 1)[0].cpu().numpy()
    np.testing.assert_allclose(found, frames, atol=2e-5)
