"""Train an embedding or a model: one loop for all.

The randomness of a step is seeded by the seed and the step, so a resumed training is the uninterrupted one:
on a CPU the weights are equal bit by bit. Several ranks share the windows of each batch (see `ranks`); rank 0 alone
fits, validates and writes.
"""

import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from . import batches, checkpoint, device, fingerprint, models, processes, stage, store, targets
from .ranks import ONE, Ranks, alone

EVERY_SERIES = 10**12  # a stride and a batch that no split reaches: each series once, from its start
MARGIN = 120  # seconds before the time limit of a SLURM job at which its training saves and is requeued
SAVE_EVERY = float(os.environ.get("PHYSIGLOT_SAVE_EVERY", 60))


def rate(training: dict, step: int, steps: int, per_epoch: int) -> float:
    """Learning rate of a step, a function of the fraction done or of the epoch."""
    done, epoch = step / max(1, steps), step / per_epoch
    lr = training["lr"] * min(1.0, (step + 1) / max(1.0, training["warmup"] * steps))
    if training["schedule"] == "cosine":
        rest = (done - training["warmup"]) / (1 - training["warmup"])
        return lr * 0.5 * (1 + math.cos(math.pi * max(0.0, rest)))
    if training["schedule"] == "exponential":
        return lr * training["decay"] ** int(epoch)
    if training["schedule"] == "warm_restarts":
        cycle = int(math.log2(epoch / training["restart"] + 1))
        begin, length = training["restart"] * (2**cycle - 1), training["restart"] * 2**cycle
        return 1e-9 + (lr - 1e-9) * 0.5 * (1 + math.cos(math.pi * (epoch - begin) / length))
    return lr


class Weights:
    """The learnt parameters as one vector: to clip, to step and to average them is then one call each.

    `mean` is their exponential moving average; without a decay, the weights themselves are kept.
    """

    def __init__(self, model: torch.nn.Module, decay: float | None):
        self.parts, self.decay = [p for p in model.parameters() if p.requires_grad], decay
        self.live = torch.cat([torch.empty(0), *(p.detach().flatten().cpu() for p in self.parts)])
        self.live = self.live.to(self.parts[0].device if self.parts else None).requires_grad_()
        self.live.grad = torch.zeros_like(self.live)
        for p, part in zip(self.parts, self.live.detach().split([p.numel() for p in self.parts]), strict=True):
            p.data = part.view_as(p)
        self.mean = self.live.detach().clone()
        self.lr, self.pull = (torch.zeros((), device=self.live.device) for _ in range(2))

    def optimizer(self, training: dict) -> torch.optim.Optimizer:
        """Its learning rate is the tensor `lr`."""
        given = {"lr": self.lr, "weight_decay": training["weight_decay"], "fused": True}
        if training["optimizer"] == "sgd":
            return torch.optim.SGD([self.live], **given)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[training["optimizer"]]
        return kind([self.live], **given, eps=training["eps"], capturable=self.live.is_cuda)

    @torch.no_grad()
    def gather(self, largest: float | None, ranks: Ranks) -> None:
        """Move the mean gradients of the ranks' parameters into that of the vector, its norm at most `largest`."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parts]
        joined = self.live.grad
        assert joined is not None
        torch.cat([g.flatten() for g in gradients], out=joined)
        for p in self.parts:
            p.grad = None
        ranks.mean_(joined)
        if largest:
            joined.mul_((largest / (joined.norm() + 1e-6)).clamp(max=1.0))

    def prepare(self, lr: float, step: int) -> None:
        """The learning rate of the next step, and the weight of what it finds in the mean."""
        self.lr.fill_(lr)
        self.pull.fill_(1 - min(self.decay or 0.0, (1 + step) / (10 + step)))

    @torch.no_grad()
    def average(self) -> None:
        if self.decay:
            self.mean.lerp_(self.live, self.pull)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged weights; twice is nothing."""
        if self.decay:
            kept = self.live.clone()
            self.live.copy_(self.mean)
            self.mean.copy_(kept)


class Stop:
    """Why to save and leave at the next step: SIGTERM, SIGUSR1, or the end of the SLURM job is near; 0 if not."""

    def __init__(self) -> None:
        self._signal = 0
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._set)
        left = processes.time_left()
        self.end = math.inf if left is None else time.monotonic() + left - min(MARGIN, 0.25 * left)

    def _set(self, number: int, frame: Any) -> None:
        self._signal = number

    @property
    def signal(self) -> int:
        return self._signal or (signal.SIGUSR1 if time.monotonic() > self.end else 0)


def steps_of(training: dict, per_epoch: int) -> int:
    return training["steps"] if training["steps"] is not None else training["epochs"] * per_epoch


def _values(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in losses.items()}


def _seed(seed: int, step: int) -> None:
    torch.manual_seed((seed * 1_000_003 + step) % 2**63)


class Loop:
    """The state of a training and its steps; `val` is that of rank 0."""

    def __init__(
        self,
        model: Any,
        data: Any,
        val: Any,
        training: dict,
        seed: int,
        snapshots: checkpoint.Snapshots,
        ranks: Ranks = ONE,
    ):
        self.model, self.data, self.val, self.training, self.seed = model, data, val, training, seed
        self.snapshots, self.per_epoch, self.ranks = snapshots, data.sampler.per_epoch, ranks
        self.steps = steps_of(training, self.per_epoch)
        self.weights = Weights(model, training["ema"])
        self.optimizer = self.weights.optimizer(training)
        self.step = 0
        self.best: dict[str, Any] = {"loss": math.inf, "weights": self.weights.mean.clone()}
        self.learn = device.Recorder(self._learn, model.zero_grad, self.weights.live.device)

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        asked = self.optimizer.param_groups[0].copy()  # its options are those of this device
        self.optimizer.load_state_dict(state["optimizer"])
        self.optimizer.param_groups[0].update(asked)
        self.weights.mean.copy_(state["mean"])
        self.step, self.best = state["step"], state["best"]

    def save(self) -> None:
        if self.ranks.rank:
            return
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "mean": self.weights.mean}
        self.snapshots.save({**state, "step": self.step, "best": self.best})

    def advance(self) -> dict[str, torch.Tensor]:
        """One optimiser step; returns the losses of this rank."""
        _seed(self.seed, self.step)
        self.weights.prepare(rate(self.training, self.step, self.steps, self.per_epoch), self.step)
        progress = self.step / self.steps
        kind = device.kind(self.model, progress) if self.ranks.size == 1 else None
        losses = self.learn(kind, self.data.at(self.step), progress)
        self.step += 1
        return losses

    def _learn(self, batch: dict[str, Any], progress: float) -> dict[str, torch.Tensor]:
        losses = self.model.loss(batch, progress)
        losses["loss"].backward()
        self.weights.gather(self.training["clip"], self.ranks)
        self.optimizer.step()
        self.weights.average()
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss of the averaged weights on windows of the validation split."""
        _seed(self.seed, 0)
        self.weights.swap()
        self.model.eval()
        with alone():
            losses = _values(self.model.loss(self.val.at(0), 1.0))
        badness = -losses["score"] if "score" in losses else losses["loss"]
        if badness < self.best["loss"]:
            self.best = {"loss": badness, "weights": self.weights.live.detach().clone()}
        self.model.train()
        self.weights.swap()
        return {f"val_{name}": value for name, value in losses.items()}

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the weights that are kept in the model: the averaged ones, of the last or of the best step."""
        self.weights.swap()
        if self.training["select"] == "best":
            self.weights.live.copy_(self.best["weights"])
        for name, value in self.model.state_dict().items():
            if not torch.isfinite(value).all():
                raise FloatingPointError(
                    f"{name} is not finite after the training: lower training.lr, or mend the data"
                )

    def run(self, curves: checkpoint.Curves | None, stop: Stop) -> None:
        every, first = max(1, self.steps // 100), self.step
        times = self.training["validation"]["times"]
        self.judged = max(1, self.steps // times) if times else 10 * every
        began = saved = time.monotonic()
        if curves and self.step == 0 and self.steps:
            curves.log(0, self.validate())
        while self.step < self.steps:
            losses = self.advance()
            if self.step % every == 0 or self.step % self.judged == 0 or self.step == self.steps:
                self._log(curves, _values(losses), began, first)
            if number := self.ranks.largest(stop.signal):
                self.save()
                self.ranks.close()
                raise stage.Interrupted(f"signal {number} at step {self.step} of {self.steps}; run again to continue")
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()

    def _log(self, curves: checkpoint.Curves | None, values: dict[str, float], began: float, first: int) -> None:
        joined = torch.tensor(list(values.values()), dtype=torch.float64)
        self.ranks.mean_(joined)
        values = dict(zip(values, joined.tolist(), strict=True))
        if not all(math.isfinite(v) for v in values.values()):
            raise FloatingPointError(
                f"the loss is not finite at step {self.step} of {self.steps} ({values}): "
                "lower training.lr or training.clip"
            )
        if curves is None:
            return
        if self.step % self.judged == 0 or self.step == self.steps:
            values |= self.validate()
        speed = (self.step - first) / (time.monotonic() - began)
        curves.log(self.step, {**values, "steps_per_second": speed})
        text = " ".join(f"{k} {v:.4g}" for k, v in values.items())
        eta = (self.steps - self.step) / speed
        print(f"step {self.step}/{self.steps} {text} | {speed:.1f} steps/s, {eta:.0f} s left", flush=True)


def fit(model: Any, dataset: Path, embedded: Path | None, most: float = math.inf) -> None:
    """The closed-form part of a model, on the whole training split, or the part of it that `most` GiB hold."""
    if hasattr(model, "fit"):
        train, val = (
            batches.in_memory(batches.sources(dataset, embedded, split, getattr(model, "reads", None)), most)
            for split in ("train", "val")
        )
        arrays = train | {
            "val" if name == "state" else f"val_{name}": val[name] for name in ("state", "parameters") if name in val
        }
        values = model.fit(arrays)
        print("fit: " + " ".join(f"{k} {v:.6g}" for k, v in values.items()), flush=True)


def _embedding(weights: Path | None, embedded: Path | None) -> Any:
    if weights is None or embedded is None:
        return None
    made_by, given = store.attributes(embedded)["embedding"], fingerprint.of(weights)
    if made_by != given:
        raise ValueError(f"{embedded}: made by the embedding {made_by}, but {weights} is {given}: run embed again")
    return models.load(weights).requires_grad_(False)


def _begin(
    model: Any, snapshots: checkpoint.Snapshots, training: dict, dataset: Path | None, embedded: Path | None
) -> dict[str, Any] | None:
    """The state of an interrupted training; without one, the model is fitted or gets the weights of a warm start."""
    state, warm = snapshots.resume(), snapshots.warm() if training["warm_start"] else None
    if state is None and warm is None and dataset is not None:
        fit(model, dataset, embedded, training["in_memory"])
    elif state is None and warm is not None:
        print("warm start from the previous weights", flush=True)
        model.load_state_dict(warm)
    return state


def _statistics(data: Path | None, target: dict | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per field of the training split; 0 and 1 where only an energy is known."""
    if data is not None:
        found = store.attributes(data)
        return torch.tensor(found["mean"]), torch.tensor(found["std"])
    if target is None:
        raise ValueError("neither a data set nor a target is given: there is nothing to learn from")
    shape = targets.build(target).shape
    return torch.zeros(shape), torch.ones(shape)


def _batches(
    training: dict, data: Path | None, embedded: Path | None, seed: int, device: str, ranks: Ranks, reads: Any
) -> tuple[Any, Any]:
    """What is trained on, and, on rank 0, what is validated on."""
    judged = training["validation"]
    if data is None:
        return batches.Counts(training["batch"], ranks), batches.Counts(judged["windows"] or training["batch"])
    windows = {**training, "stride": None, "batch": judged["windows"]}
    if judged["windows"] is None:
        windows |= {"stride": EVERY_SERIES, "batch": EVERY_SERIES}
    own = batches.open_split(data, embedded, "train", training, seed, device, ranks, reads)
    if ranks.rank:
        return own, None
    return own, batches.open_split(data, embedded, judged["split"], windows, seed + 1, device, only=reads)


def train(
    *,
    spec: dict,
    out: Path,
    dataset: Path | None = None,
    weights: Path | None = None,
    embedded: Path | None = None,
    threads: int = 1,
    code: str = "",
) -> None:
    """Train `spec["part"]` (module, params, training) with `spec["seed"]` and write its weights.

    It learns from `dataset`, or from the energy of `spec["target"]` (module, params) without one. `weights` and
    `embedded` are those of a frozen embedding, if the study has one. Interrupted by SIGTERM or SIGUSR1 it saves its
    state, and goes on from there when it is run again.
    """
    stop, ranks = Stop(), Ranks.of_environment()
    torch.set_num_threads(threads)
    part, seed, where = spec["part"], spec["seed"], ranks.start()
    device.tensor_cores(part["training"]["tf32"])
    inputs = [p for p in (dataset, weights, embedded) if p]
    lineage = fingerprint.digest(code, fingerprint.canonical(spec))
    key = fingerprint.digest(lineage, *(fingerprint.of(p) for p in inputs))
    data_store, embedded_store = dataset.parent if dataset else None, embedded.parent if embedded else None
    mean, std = _statistics(data_store, spec.get("target"))
    torch.manual_seed(seed)
    embedding = _embedding(weights, embedded_store)
    model = models.build(part, mean, std, embedding, spec.get("target"))
    snapshots = checkpoint.Snapshots(out.parent / "ckpt", key, lineage)
    first = ranks.rank == 0
    state = ranks.same(_begin(model, snapshots, part["training"], data_store, embedded_store) if first else None)
    model.load_state_dict(ranks.same(model.state_dict()))
    model.to(where).train()
    reads = getattr(model, "reads", None)
    data, val = _batches(part["training"], data_store, embedded_store, seed, where, ranks, reads)
    loop = Loop(model, data, val, part["training"], seed, snapshots, ranks)
    if state:
        loop.load(state)
        print(f"resumed at step {loop.step}", flush=True)
    parameters = loop.weights.live.numel()
    where = where if ranks.size == 1 else f"{ranks.size} ranks ({where}, …)"
    print(
        f"{part['module']}: {parameters} parameters, {loop.steps} steps on {where}, {threads} threads",
        flush=True,
    )
    loop.run(checkpoint.Curves(out.with_suffix(".metrics.jsonl"), loop.step) if first else None, stop)
    ranks.close()
    if not first:
        return
    loop.finish()
    models.save(out, model.cpu())
    snapshots.finish(model.state_dict())


if __name__ == "__main__":
    stage.run(train)
