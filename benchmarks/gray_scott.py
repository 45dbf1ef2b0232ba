"""Gray–Scott by the seven-point stencil and classical RK4, float32, one thread: 64³ (the training set) and 128³ cells.

Ours against `torch.compile` of the same scheme, written in two ways; the ratio is to the faster one at 64³. Both are
checked in the same run: the scheme against a Fourier solver, the fields of the peers against ours.
"""

import time

from benchmarks import timing

timing.one_thread()
timing.keep_memory()
timing.require("numpy", "scipy", "numba", "torch", "physiglot")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from physiglot import reaction, spectral, stencils  # noqa: E402

RATES = stencils.Reaction()
H = 1.0
SIZES = {64: (40, 9), 128: (8, 5)}  # cells along an edge: steps of a call, rounds
TARGET = 7.0


def rolled(state):
    """One step of (field, z, y, x), neighbours by `roll`."""
    return reaction.step(state, H, RATES)


def _slope(state):
    """The right-hand side with neighbours as slices of a padded copy."""
    across_u, across_v, feed, loss = RATES.scaled()
    p = torch.cat([state[:, -1:], state, state[:, :1]], 1)
    p = torch.cat([p[:, :, -1:], p, p[:, :, :1]], 2)
    p = torch.cat([p[..., -1:], p, p[..., :1]], 3)
    x = p[:, 1:-1, 1:-1, :-2] + p[:, 1:-1, 1:-1, 2:]
    y = p[:, 1:-1, :-2, 1:-1] + p[:, 1:-1, 2:, 1:-1]
    z = p[:, :-2, 1:-1, 1:-1] + p[:, 2:, 1:-1, 1:-1]
    (u, v), (near_u, near_v) = state, x + y + z
    product = u * v * v
    return torch.stack(
        [
            across_u * (near_u - 6 * u) + (feed * (1 - u) - product),
            across_v * (near_v - 6 * v) + (product - loss * v),
        ]
    )


def padded(state):
    """One step of (field, z, y, x), neighbours by slices."""
    k1 = _slope(state)
    k2 = _slope(state + H / 2 * k1)
    k3 = _slope(state + H / 2 * k2)
    k4 = _slope(state + H * k3)
    return state + H / 6 * (k1 + 2 * (k2 + k3) + k4)


def repeated(step, start, steps):
    state = torch.from_numpy(start)
    with torch.inference_mode():
        for _ in range(steps):
            state = step(state)
    return state.numpy()


def ours(start, steps):
    frames = np.empty((2, *start.shape), start.dtype)
    stencils.integrate(start, frames, H, steps, RATES)
    return frames[1]


def contestants(start, steps):
    """Calls that return the state after `steps` steps."""
    peers = {
        "torch.compile, roll": torch.compile(rolled),
        "torch.compile, slices": torch.compile(padded),
        "torch eager, roll": rolled,
    }
    return {
        "physiglot": lambda: ours(start, steps),
        **{name: (lambda step=step: repeated(step, start, steps)) for name, step in peers.items()},
    }


def bump(size, length=16.0):
    """A smooth start in a box of 16."""
    c = 2 * np.pi / length
    cosine = np.cos(c * length / size * np.arange(size))
    b = np.exp((cosine[:, None, None] + cosine[:, None] + cosine - 3) / c**2 / 4)
    return np.stack([1 - 0.5 * b, 0.25 * b])


def gate_of_the_scheme():
    """Ours against the spectral solver at two spacings, after 50 time units: order two, and the known error."""
    errors = []
    for size, steps in ((16, 100), (32, 200)):
        start, frames = bump(size), np.empty((2, 2, size, size, size))
        stencils.integrate(start, frames, 50 / steps, steps, stencils.Reaction(dx=16 / size))
        truth = spectral.Solver(size, 16.0, 0.5, RATES)(start, 100)[1]
        errors.append(np.sqrt(np.sum((frames[1, 1] - truth) ** 2) / np.sum(truth**2)))
    timing.check(
        abs(errors[1] / 0.0397 - 1) < 0.03, f"v against the Fourier solver at dx = 0.5: {errors[1]:.4f}, 0.0397"
    )
    order = np.log2(errors[0] / errors[1])
    timing.check(1.9 < order < 2.5, f"half the spacing: order {order:.2f}")


def gate_of_the_fields(calls):
    expected = calls["physiglot"]()
    for name in list(calls)[1:]:
        difference = np.abs(calls[name]() - expected).max()
        timing.check(difference < 5e-6, f"{name} against ours {difference:.1e} < 5e-6")


def main():
    gate_of_the_scheme()
    ratio, best = {}, {}
    for size, (steps, rounds) in SIZES.items():
        start = np.random.default_rng(0).uniform(0.0, 0.5, (2, size, size, size)).astype(np.float32)
        calls = contestants(start, steps)
        gate_of_the_fields(calls)
        seconds = timing.interleave(calls, rounds, time.process_time)
        rate = timing.rates(seconds, size**3 * steps / 1e6)
        print(f"\n{size}³ cells, four stages a step")
        timing.table(seconds, rate, "Mcell steps/s", "physiglot")
        best[size] = max((n for n in rate if n.startswith("torch.compile")), key=rate.__getitem__)
        ratio[size] = rate["physiglot"] / rate[best[size]]
        torch.compiler.reset()
    for size, found in ratio.items():
        print(f"{size}³: {found:.2f}× {best[size]} (target {TARGET:g}×: {'reached' if found >= TARGET else 'MISSED'})")
    gate = "ok: Fourier solver, order 2 in space; fields of the peers to 5e-6"
    timing.verdict("gray_scott", ratio[64], best[64], gate, ratio_128=round(ratio[128], 2))


if __name__ == "__main__":
    main()
