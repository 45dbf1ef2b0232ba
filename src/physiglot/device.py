"""The GPU of a stage, if there is one; and whole training steps as CUDA graphs.

A small model is bound by the launches of its kernels, a hundred or more for each step: a graph launches them at once.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # steps of a kind before one is recorded: libraries choose their kernels and allocate in the first ones

Batch = dict[str, Any]
Losses = dict[str, Tensor]


def best() -> str:
    """The device of a stage of one process, its products exact to float32 unless `tensor_cores` says otherwise."""
    tensor_cores(False)
    return "cuda" if torch.cuda.is_available() else "cpu"


def tensor_cores(tf32: bool) -> None:
    """Whether a GPU may round the factors of float32 products to TensorFloat-32, of 10 bits."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32


def kind(model: Any, progress: float) -> Hashable:
    """What a step runs besides its batch: steps of one kind are one graph. None if they are not to be recorded.

    A model whose loss waits for no result and branches on nothing but the horizon of its rollouts is `recorded`.
    """
    if not getattr(model, "recorded", False):
        return None
    rollout = getattr(model.params, "rollout", None)
    return ("horizon", rollout.horizon(progress) if rollout else 1)


class Recorder:
    """Calls `step(batch, progress)`, on a GPU from the fourth of a kind on by replaying its recorded kernels.

    The step must do all its work on the current stream. A step that cannot be recorded runs as it is, after `clear` has
    thrown away what it had begun.
    """

    def __init__(self, step: Callable[[Batch, float], Losses], clear: Callable[[], None], device: Any):
        self.step, self.clear, self.seen = step, clear, Counter[Hashable]()
        self.pool: Any = None
        self.records: dict[Hashable, tuple[torch.cuda.CUDAGraph, dict[str, Tensor], Losses]] = {}
        self.possible = torch.device(device).type == "cuda"
        if self.possible:
            torch.cuda.synchronize()
            torch.cuda.set_stream(torch.cuda.Stream())

    def __call__(self, kind: Hashable, batch: Batch, progress: float) -> Losses:
        if kind is None or not self.possible:
            return self.step(batch, progress)
        key = (kind, *((name, tuple(value.shape)) for name, value in batch.items()))
        self.seen[key] += 1
        if self.seen[key] <= WARM_UP:
            return self.step(batch, progress)
        if key not in self.records and not self._record(key, batch, progress):
            return self.step(batch, progress)
        graph, held, losses = self.records[key]
        for name, kept in held.items():
            kept.copy_(batch[name])
        graph.replay()
        return losses

    def _record(self, key: Hashable, batch: Batch, progress: float) -> bool:
        copies = {id(value): value.clone() for value in batch.values()}
        static = {name: copies[id(value)] for name, value in batch.items()}
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self.pool, torch.cuda.current_stream(), "thread_local"):
                losses = self.step(static, progress)
        except RuntimeError as error:
            self.possible = False
            self.clear()
            print(f"steps are not recorded as CUDA graphs: {str(error).splitlines()[0]}", flush=True)
            return False
        self.pool = self.pool or graph.pool()
        held = {id(copy): name for name, copy in static.items()}
        self.records[key] = graph, {name: static[name] for name in held.values()}, losses
        return True
