"""Training, one thread, CPU seconds: tokens per second at the published size, and the time to the published accuracy.

The peer is the published algorithm in ordinary PyTorch (`published`). Its whole schedule, 300 epochs of the embedding
and 200 of the Transformer on 2048 × 256 states, takes most of an hour: EPOCHS of each are timed and multiplied. Ours
is the recipe `ours` of config.yaml, whole: embedding, its least-squares fit, the rollout training. It must reach
the published errors on clean test series that nothing has seen.
"""

import contextlib
import copy
import io
import time
from pathlib import Path

from benchmarks import timing

timing.one_thread()
timing.keep_memory()
timing.require("numpy", "torch", "numba", "yaml", "physiglot")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks import published  # noqa: E402
from physiglot import batches, config, models, train  # noqa: E402
from physiglot.systems import lorenz  # noqa: E402

HOME = Path(__file__).parents[1]
ROUNDS, TURN, EPOCHS = 20, 15, 2
BINS = {(0, 64): 0.0003, (64, 128): 0.0060, (128, 192): 0.0221}
TARGETS = {"tokens": 2.0, "accuracy": 5.0}
PART = {"window": 16, "stride": 16, "batch": 512, "epochs": 300, "clip": 0.1, "weight_decay": 1e-8}
FAITHFUL = {
    "embedding": {"module": "koopman", "params": {}, "training": {**PART, "schedule": "exponential"}},
    "model": {
        "module": "transformer",
        "params": {},
        "training": {
            **PART,
            **{"window": 64, "stride": 64, "batch": 16, "epochs": 200, "weight_decay": 1e-10},
            "schedule": "warm_restarts",
        },
    },
}


class Split:
    """Batches of one split, held in memory, as the training stage draws them."""

    def __init__(self, state: torch.Tensor, embedded: torch.Tensor | None, training: dict, seed: int):
        self.arrays = {"state": state, "smooth": state}
        if embedded is not None:
            self.arrays["embedded"] = embedded
        self.sampler = batches.Sampler(*state.shape[:2], training, seed)

    def at(self, step: int) -> batches.Arrays:
        return batches.gather(self.arrays, *self.sampler.at(step), self.sampler.window)


class Silent:
    """A training that nobody interrupts and nobody watches."""

    signal = 0

    def log(self, step: int, values: dict) -> None:
        pass


def series(members: int, times: int, seed: int) -> torch.Tensor:
    """Clean Lorenz series (member, time, field) in float64, every 0.01."""
    start = np.random.default_rng(seed).uniform(lorenz.LOWER, lorenz.UPPER, (members, 3))
    return torch.tensor(lorenz.trajectories(start, times, 0.01, 10))


def loop_of(part: dict, data: dict[str, torch.Tensor], embedding: object = None) -> train.Loop:
    """The training of a part as the stage builds it: model, closed-form fit, loop."""
    torch.manual_seed(0)
    training = config.Training(**part["training"]).model_dump()
    mean, std = (data["train"].double().mean((0, 1)).float(), data["train"].double().std((0, 1)).float())
    model = models.build(part, mean, std, embedding)
    embedded = {k: embedding.embed(data[k]) if embedding else None for k in ("train", "val")}
    if hasattr(model, "fit"):
        model.fit({"state": data["train"], "smooth": data["train"], "embedded": embedded["train"], "val": data["val"]})
    windows = {**training, "stride": None, "batch": training["validation"]["windows"]}
    splits = (Split(data["train"], embedded["train"], training, 0), Split(data["val"], embedded["val"], windows, 1))
    return train.Loop(model.train(), *splits, training, 0, None)


def trained(part: dict, data: dict[str, torch.Tensor], embedding: object = None) -> object:
    """The model that a part of a configuration makes of the data."""
    loop = loop_of(part, data, embedding)
    with contextlib.redirect_stdout(io.StringIO()):
        loop.run(Silent(), Silent())
    loop.finish()
    return loop.model.eval().requires_grad_(False)


def errors(predicted: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Relative MSE in the bins of the published table 1."""
    e = (predicted - truth).square().sum((0, 2)) / truth.square().sum((0, 2))
    return [float(e[first:last].mean()) for first, last in BINS]


# --- tokens per second --------------------------------------------------------------------------


def copied(peer: torch.nn.Module, ours: torch.nn.Module) -> torch.nn.Module:
    """The peer with our weights."""
    own = [p for name, p in ours.named_parameters() if not name.startswith("embedding.")]
    order = {name.replace("decoder.", ""): p for name, p in ours.named_parameters()}
    bands = {"diagonal": "operator.diagonal", "first": "operator.bands.0", "second": "operator.bands.1"}
    renamed = {"encoder.3.weight": "norm.weight", "encoder.3.bias": "norm.bias", **bands}
    with torch.no_grad():
        for name, p in peer.named_parameters():
            source = ours.get_parameter(renamed[name]) if name in renamed else order.get(name)
            p.copy_(ours.get_parameter(name) if source is None else source)
    assert sum(p.numel() for p in own) == sum(p.numel() for p in peer.parameters())
    return peer


def same(name: str, ours: train.Loop, peer: published.Training, field: str) -> None:
    """Gate: with the same weights both have the same loss and the same gradient."""
    batch = ours.data.at(0)
    model = copy.deepcopy(ours.model)
    losses = [model.loss(batch)["loss"], copied(peer.model, ours.model).loss(batch[field])]
    norms = []
    for loss, m in zip(losses, (model, peer.model), strict=True):
        loss.backward()
        norms.append(torch.stack([p.grad.norm() for p in m.parameters() if p.grad is not None]).norm())
        m.zero_grad()
    for what, (a, b) in {"loss": losses, "gradient": norms}.items():
        difference = abs(float(a.detach() / b.detach()) - 1)
        timing.check(difference < 1e-4, f"{name}: {what} of ours and of the peer, relative difference {difference:.1e}")


def many(contestant: object, steps: int) -> object:
    def call() -> None:
        for _ in range(steps):
            contestant.advance()

    return call


def race(name: str, contestants: dict, unit: str, work: float, steps: int, rounds: int) -> dict[str, float]:
    print(f"\n{name}")
    seconds = timing.interleave({k: many(c, steps) for k, c in contestants.items()}, rounds, time.process_time)
    rate = timing.rates(seconds, work * steps)
    timing.table(seconds, rate, unit, "physiglot")
    return rate


def tokens(data: dict[str, torch.Tensor]) -> tuple[dict[str, float], dict[str, float]]:
    """Tokens/s of the Transformers and windows/s of the embeddings, ours first."""
    mean, std = data["train"].mean((0, 1)), data["train"].std((0, 1))
    embedding = loop_of(FAITHFUL["embedding"], data)
    own = {
        "physiglot": embedding,
        "peer": published.Training(published.Embedding(mean, std), data["train"], published.EMBEDDING),
    }
    same("embedding", *own.values(), "state")
    frozen = copy.deepcopy(embedding.model).requires_grad_(False)
    z = frozen.embed(data["train"])
    contestants = {"physiglot": loop_of(FAITHFUL["model"], data, frozen)}
    for name, spelled_out in {"peer": False, "peer, GELU as released": True}.items():
        contestants[name] = published.Training(published.Transformer(None, spelled_out), z, published.TRANSFORMER)
        same(f"Transformer, {name}", contestants["physiglot"], contestants[name], "embedded")
    shape = published.TRANSFORMER["batch"] * published.TRANSFORMER["window"]
    rates = race("Transformer, 16 × 64 tokens a step", contestants, "tokens/s", shape, TURN, ROUNDS)
    return rates, race("Embedding, 512 windows × 16 states a step", own, "windows/s", 512, 3, ROUNDS // 3)


# --- time to accuracy ---------------------------------------------------------------------------


def ours(data: dict[str, torch.Tensor]) -> float:
    """CPU seconds of the whole recipe; fails if it misses the published accuracy."""
    recipe = config.validate(config.load(HOME / "config.yaml")).models["ours"].model_dump()
    start = time.process_time()
    embedding = trained(recipe["embedding"], data)
    after = time.process_time()
    model = trained(recipe, data, embedding)
    end = time.process_time()
    print(f"\nours: embedding {after - start:.1f} s, model {end - after:.1f} s of CPU")
    with torch.inference_mode():
        found = errors(model.double().predict(data["test"][:, 0], data["test"].shape[1]), data["test"])
    for (bin, bound), e in zip(BINS.items(), found, strict=True):
        timing.check(e <= bound, f"ours, relative MSE in {bin}: {e:.2g} <= {bound} as published")
    return end - start


def peers(data: dict[str, torch.Tensor]) -> float:
    """CPU seconds of the published schedule, from EPOCHS epochs of each part."""
    mean, std, total = data["train"].mean((0, 1)), data["train"].std((0, 1)), 0.0
    embedding = published.Embedding(mean, std)
    for name, model, recipe in (
        ("embedding", embedding, published.EMBEDDING),
        ("Transformer", published.Transformer(), published.TRANSFORMER),
    ):
        given = data["train"] if model is embedding else embedding.encode(data["train"]).detach()
        training = published.Training(model, given, recipe)
        training.advance()
        start = time.process_time()
        many(training, EPOCHS * len(training.loader))()
        epoch = (time.process_time() - start) / EPOCHS
        total += epoch * recipe["epochs"]
        print(
            f"peer: {name}, {epoch:.2f} s of CPU an epoch ({EPOCHS} timed), {recipe['epochs']} epochs by multiplication"
        )
    return total


def main() -> None:
    torch.set_num_threads(1)
    clean = {"train": series(2048, 256, 0), "val": series(64, 1024, 1), "test": series(256, 192, 2)}
    data = {k: v if k == "test" else v.float() for k, v in clean.items()}
    rates, embedding = tokens(data)
    seconds, theirs = ours(data), peers(data)
    best = max((name for name in rates if name != "physiglot"), key=rates.__getitem__)
    found = {"tokens": rates["physiglot"] / rates[best], "accuracy": theirs / seconds}
    print(f"\ntime to accuracy: ours {seconds:.1f} s of CPU, the published schedule {theirs:.0f} s")
    for name, target in TARGETS.items():
        met = "reached" if found[name] >= target else "MISSED"
        print(f"{name:10} {found[name]:6.2f}× (target {target:g}×: {met})")
    missed = [name for name, target in TARGETS.items() if found[name] < target]
    gate = "ok: same loss and gradient; published errors reached" + (f"; MISSED: {', '.join(missed)}" if missed else "")
    more = {
        "tokens": round(found["tokens"], 2),
        "tokens_as_released": round(rates["physiglot"] / min(rates.values()), 2),
        "embedding": round(embedding["physiglot"] / embedding["peer"], 2),
    }
    timing.verdict("training", found["accuracy"], "the published schedule in PyTorch", gate, **more)


if __name__ == "__main__":
    main()
