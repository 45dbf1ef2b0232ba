"""Training steps of the published networks on a GPU, as CUDA graphs and kernel by kernel.

`python -m benchmarks.recorded_steps`: the same loop with the same random batches, which learns the same weights either
way (tests/test_gpu.py).
"""

import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from physiglot import checkpoint, models, train

TRAINING = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 1e-8, "clip": 0.1, "ema": None, "schedule": "constant"}
TRAINING |= {"eps": 1e-8, "warmup": 0.1, "epochs": None, "steps": 10**6}
TRAINING |= {"validation": {"split": "val", "windows": 4, "times": None}}
LATENT = {"layers": 2, "width": 128, "window": 32, "hidden": 512, "parameters": 1}
LATENT |= {"rollout": {"horizons": [48], "shares": [1.0]}}
# label -> model, its parameters, shape of the embedded windows or of the states
CASES = {
    "Lorenz, Koopman embedding": ("koopman", {}, (512, 16, 3)),
    "Lorenz, Transformer": ("transformer", {"layers": 4, "window": 64}, (16, 64, 32)),
    "wake, Transformer": ("transformer", {"layers": 3, "window": 128}, (4, 128, 128)),
    "wake, LSTM": ("lstm", {"hidden": 153, "layers": 4}, (16, 64, 128)),
    "wake, ours, rollouts of 48": ("latent", LATENT, (32, 49, 128)),
    "wake, MLP, rollouts of 48": ("latent", {**LATENT, "core": "mlp"}, (32, 49, 128)),
}


def loop(name: str, params: dict, shape: tuple[int, ...], recorded: bool, folder: Path) -> train.Loop:
    torch.manual_seed(0)
    embedding = torch.nn.Module() if name != "koopman" else None
    if embedding is not None:
        embedding.channels = shape[-1]
    about = {"mean": torch.zeros(3), "std": torch.ones(3)}
    model = models.build({"module": name, "params": params}, **about, embedding=embedding).cuda().train()
    model.recorded = recorded
    windows, nu = torch.randn(*shape, device="cuda"), torch.rand(shape[0], 1, device="cuda") * 0.01 + 0.003
    batch = {"embedded": windows, "state": windows, "smooth": windows, "parameters": nu}
    data = SimpleNamespace(at=lambda step: batch, sampler=SimpleNamespace(per_epoch=4))
    return train.Loop(model, data, None, TRAINING, 0, checkpoint.Snapshots(folder, "key", "lineage"))


def seconds(taken: train.Loop, steps: int = 40) -> float:
    for _ in range(6):
        taken.advance()
    torch.cuda.synchronize()
    began = time.monotonic()
    for _ in range(steps):
        taken.advance()
    torch.cuda.synchronize()
    return (time.monotonic() - began) / steps


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("no GPU here: nothing to measure")
    print(torch.cuda.get_device_name())
    with tempfile.TemporaryDirectory() as folder:
        for label, case in CASES.items():
            graph, each = (seconds(loop(*case, recorded, Path(folder))) for recorded in (True, False))
            print(f"{label:28s} {1e3 * graph:7.2f} ms a step, {1e3 * each:7.2f} kernel by kernel: {each / graph:.1f}x")


if __name__ == "__main__":
    main()
