"""256 × 1024 steps with a true context window of 64 tokens, one thread, CPU seconds: cached or computed again.

Ours is `predict` with the cache. The peer computes the context again at every step, with the same PyTorch modules and
the embeddings kept: by the banded decoder over its receptive field, layers × (window - 1) + 1 tokens, all that the next
state hangs on (the last `window` tokens alone would be another function). A step of the peer is timed at a few lengths
of the context; the sum over all 1024 steps is interpolated and, once the receptive field is full, multiplied.
"""

import time
from pathlib import Path

from benchmarks import timing

timing.one_thread()
timing.keep_memory()
timing.require("numpy", "torch", "numba", "yaml", "physiglot")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from physiglot import config, models  # noqa: E402
from physiglot.systems import lorenz  # noqa: E402

HOME = Path(__file__).parents[1]
MEMBERS, STEPS, WINDOW = 256, 1024, 64
ROUNDS, REPEATS, CHECKED = 3, 3, 16
TARGET = 20.0
BOUND = {torch.float32: 1e-5, torch.float64: 1e-10}


def start(members: int, seed: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).uniform(lorenz.LOWER, lorenz.UPPER, (members, 3)))


def fitted() -> torch.nn.Module:
    """The model `ours` of config.yaml after its least-squares fit, with a head that lets the attention speak."""
    torch.manual_seed(0)
    recipe = config.validate(config.load(HOME / "config.yaml")).models["ours"].model_dump()
    data = torch.tensor(lorenz.trajectories(start(512, 0).numpy(), 256, 0.01, 10)).float()
    mean, std = data.mean((0, 1)), data.std((0, 1))
    embedding = models.build(recipe["embedding"], mean, std).requires_grad_(False)
    model = models.build({**recipe, "params": {**recipe["params"], "window": WINDOW}}, mean, std, embedding)
    model.fit({"state": data, "smooth": data, "embedded": embedding.embed(data), "val": data[:2]})
    torch.nn.init.normal_(model.head.weight, std=3e-3)
    return model.eval().requires_grad_(False)


def reach(model: torch.nn.Module) -> int:
    """Tokens that the next state hangs on."""
    return model.params.layers * (WINDOW - 1) + 1


def following(model: torch.nn.Module, state: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A step of the peer: the next state (member, field) and its token, from tokens (member, time, channel)."""
    state = state + model._increment(tokens, 0, None)[:, -1]
    return state, model.embedding.embed(state)


def gate(model: torch.nn.Module, states: torch.Tensor) -> None:
    """The cached rollout against the peer's step from the same states, at every tenth step, in units of std.

    From the same states, because free runs of a chaotic system part from rounding alone.
    """
    tokens, bound = model.embedding.embed(states), BOUND[states.dtype]
    largest = 0.0
    for t in sorted({*range(1, STEPS, 10), WINDOW, WINDOW + 1, reach(model), reach(model) + 1, STEPS - 1}):
        found, _ = following(model, states[:, t - 1], tokens[:, max(0, t - reach(model)) : t])
        largest = max(largest, float(((found - states[:, t]) / model.std).abs().max()))
    name = str(states.dtype).removeprefix("torch.")
    timing.check(bool(states.isfinite().all()), f"{name}: the rollout stays finite")
    timing.check(
        largest < bound, f"{name}: cached and computed again, largest difference {largest:.1e} < {bound:g} std"
    )


def attends(model: torch.nn.Module, states: torch.Tensor) -> None:
    """The context matters, so that the gate above tests something."""
    alone = model.predict(states[:, 0], 2 * WINDOW, "markov")
    change = float(((alone - states[:, : 2 * WINDOW]) / model.std).abs().max())
    timing.check(change > 1e-3, f"without its context the rollout is another one: {change:.1e} std")


def computed_again(model: torch.nn.Module, states: torch.Tensor) -> tuple[float, dict[int, float]]:
    """CPU seconds of the peer's whole rollout, and of a step by the tokens of its context."""
    lengths = [1, *range(32, reach(model), 32), reach(model)]
    tokens = model.embedding.embed(states)
    calls = {n: (lambda n=n: following(model, states[:, n - 1], tokens[:, :n].contiguous())) for n in lengths}
    seconds = timing.interleave(calls, REPEATS, time.process_time)
    cost = {n: float(np.median(times)) for n, times in seconds.items()}
    growing = np.interp(np.arange(1, min(STEPS, reach(model))), lengths, list(cost.values())).sum()
    return float(growing + (STEPS - reach(model)) * cost[reach(model)]), cost


def cached(model: torch.nn.Module, begin: torch.Tensor) -> float:
    """CPU seconds of ours."""
    call = {"ours": lambda: model.predict(begin, STEPS)}
    return float(np.median(timing.interleave(call, ROUNDS, time.process_time)["ours"]))


def free_run(model: torch.nn.Module) -> float:
    """Milliseconds a step of 16 members in float64, as the long free runs are."""
    begin = start(16, 3)
    call = {"ours": lambda: model.predict(begin, 500)}
    return float(np.median(timing.interleave(call, ROUNDS, time.process_time)["ours"])) / 0.5


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    model, found = fitted(), {}
    for dtype in BOUND:
        model, begin = model.to(dtype), start(MEMBERS, 1).to(dtype)
        states = model.predict(begin, STEPS)
        gate(model, states[:CHECKED])
        attends(model, states[:CHECKED])
        theirs, cost = computed_again(model, states)
        seconds = cached(model, begin)
        name = str(dtype).removeprefix("torch.")
        found[name] = theirs / seconds
        steps = ", ".join(f"{n} tokens {1e3 * s:.0f} ms" for n, s in cost.items())
        print(f"{name}: computed again {theirs:.1f} s ({steps}), cached {seconds:.2f} s: {found[name]:.1f}×")
    speed = free_run(model)
    print(f"free run, 16 members, float64: {speed:.2f} ms a step")
    ratio = min(found.values())
    missed = "" if ratio >= TARGET else "; target MISSED"
    print(f"{ratio:.1f}× (target {TARGET:g}×: {'MISSED' if missed else 'reached'})")
    passed = f"ok: identical to 1e-5 in float32, 1e-10 in float64{missed}"
    more = {name: round(value, 2) for name, value in found.items()}
    timing.verdict("rollout", ratio, "context computed again", passed, **more, free_run_ms=round(speed, 3))


if __name__ == "__main__":
    main()
