"""What the code for GPUs does on a CPU: nothing else than without it. On a GPU: test_gpu."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from physiglot import device
from physiglot.curriculum import Curriculum
from physiglot.frames import doubled, slices_doubled


@pytest.mark.parametrize("dims, kind", [(2, "bilinear"), (3, "trilinear")])
def test_slices_double_a_grid_as_torch_does(dims, kind):
    x = torch.randn(2, 3, *(4, 5, 6)[:dims], dtype=torch.float64)
    expected = functional.interpolate(x, scale_factor=2, mode=kind, align_corners=False)
    torch.testing.assert_close(slices_doubled(x, dims), expected)
    assert torch.equal(doubled(x, dims), expected)


def test_steps_of_one_horizon_are_of_one_kind():
    params = SimpleNamespace(rollout=Curriculum(horizons=[1, 8], shares=[0.5, 0.5]))
    model = SimpleNamespace(recorded=True, params=params)
    kinds = [device.kind(model, progress) for progress in (0.0, 0.4, 0.6, 1.0)]
    assert kinds[0] == kinds[1] != kinds[2] == kinds[3]
    assert device.kind(SimpleNamespace(recorded=True, params=None), 0.3) is not None
    assert device.kind(SimpleNamespace(params=params), 0.3) is None


def test_on_a_cpu_every_step_is_taken():
    taken = []

    def step(batch: dict, progress: float) -> dict:
        taken.append((batch["x"].item(), progress))
        return {"loss": batch["x"]}

    recorder = device.Recorder(step, taken.clear, "cpu")
    found = [recorder(("horizon", 1), {"x": torch.tensor(float(i))}, i / 9)["loss"].item() for i in range(9)]
    assert found == list(range(9)) and taken == [(float(i), i / 9) for i in range(9)] and not recorder.records


class Refused:
    """A capture that fails after the step has run."""

    def __init__(self, *args: object):
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        raise RuntimeError("no capture")


def test_a_step_that_cannot_be_recorded_is_taken_afresh(monkeypatch):
    """The gradients that the attempt left behind are thrown away first."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", Refused)
    gradients: list[float] = []

    def step(batch: dict, progress: float) -> dict:
        gradients.append(progress)
        return {"loss": batch["x"] + len(gradients)}

    recorder = device.Recorder(step, gradients.clear, "cpu")
    recorder.possible = True
    found = [recorder(("horizon", 1), {"x": torch.tensor(0.0)}, 0.0)["loss"].item() for _ in range(6)]
    assert found == [1.0, 2.0, 3.0, 1.0, 2.0, 3.0] and not recorder.possible
