"""What tasks that read whole series are tried on: truth and readings by formula, with known answers."""

import numpy as np
import xarray as xr

from physiglot import fingerprint
from physiglot.exact.chains import tfi

TRANSITION = 2 / np.log(1 + np.sqrt(2))
SQUARE = {"system": "ising", "lattice": "square", "size": 8, "sites": 64, "sweeps": 1}
MADE_BY = {"model": "flip_logistic", "steps": 10, "windows": [[0.0, 1.0], [4.0, 5.0]], "labels": "windows"}


def series(temperature: np.ndarray, m: np.ndarray, fields: int = 20, **attrs) -> xr.Dataset:
    """A split of an Ising system with magnetisation (member, time); its state is spins at random."""
    shape = (*m.shape, fields)
    state = (2 * np.random.default_rng(0).integers(2, size=shape) - 1).astype(np.int8)
    return xr.Dataset(
        {
            "state": (("member", "time", "field"), state, {"units": "1"}),
            "parameters": (("member", "parameter"), temperature[:, None]),
            "magnetisation": (("member", "time"), m),
        },
        {"time": np.arange(1, m.shape[1] + 1), "parameter": ["temperature"]},
        {**SQUARE, **attrs},
    )


def grid(chains: int = 20) -> np.ndarray:
    return np.tile(np.round(np.arange(51) * 0.1, 10), chains)


def crossing(middle: float = 2.4, chains: int = 20, draws: int = 3) -> tuple[dict, dict, dict]:
    """Outputs 0 or 1 whose mean is a tanh through ½ at `middle`."""
    temperature = grid(chains)
    p = 0.5 * (1 + np.tanh(1.6 * (temperature - middle)))
    drawn = np.random.default_rng(1).random((len(temperature), draws)) < p[:, None]
    read = {"probability": (("member", "draw"), drawn.astype(float)), "shuffled": (("member", "one"), p[:, None] ** 2)}
    truth = series(temperature, np.zeros((len(temperature), 10)))
    return (
        {"readings": {"test": {}}, "resamples": 20},
        {"test": truth},
        {"test": xr.Dataset(read, attrs={"made_by": MADE_BY})},
    )


def confusion(middle: float = 2.2) -> tuple[dict, dict, dict]:
    """Classifiers that can tell only which side of `middle` a series is from, and choose the larger class there."""
    temperature, assumed = grid(10), np.linspace(0.25, 4.75, 19)
    share = [[((temperature < middle) == low)[temperature > t].sum() for t in assumed] for low in (True, False)]
    whole = [((temperature < middle) == low).sum() for low in (True, False)]
    up = np.array(share) / np.array(whole)[:, None]
    p = up[(temperature >= middle).astype(int)]
    read = {"probability": (("member", "a"), p), "assumed": (("member", "a"), np.broadcast_to(assumed, p.shape).copy())}
    truth = series(temperature, np.zeros((len(temperature), 10)))
    return {"readings": {"test": {}}, "resamples": 20}, {"test": truth}, {"test": xr.Dataset(read)}


def binder(middle: float = TRANSITION) -> tuple[dict, dict, dict]:
    """Magnetisations m = 1 or 0 with ⟨m²⟩ such that U₄ is linear in T with a slope that grows with the size."""
    levels = np.array([2.24, 2.252, 2.264, 2.276, 2.288, 2.3])
    truth = {}
    for name, size in (("small", 16), ("large", 32)):
        u = 0.6 - 0.03 * size * (levels - middle)
        share = 1 / (3 * (1 - u))  # of m = 1: U₄ = 1 − 1/(3 share)
        m = np.arange(2000) < np.round(2000 * share)[:, None]
        chains = np.random.default_rng(2).permuted(m.reshape(len(levels), -1), axis=1).reshape(-1, 50)
        truth[name] = series(np.repeat(levels, 40), chains.astype(float), 2, size=size, sites=size**2)
    average = {name: xr.Dataset({"average": (("member", "f"), np.zeros((240, 2)))}) for name in truth}
    return {"readings": {"small": {"split": "train"}, "large": {"split": "val"}}, "resamples": 20}, truth, average


def relaxation(middle: float = TRANSITION, exponent: float = 0.0577) -> tuple[dict, dict, dict]:
    """m(t) = t^(−λ) exp(−c (T − T_c) t) with a little noise."""
    temperature, t = np.repeat(np.linspace(2.24, 2.3, 7), 8), np.arange(1, 101)
    rate = 0.1 * (temperature - middle)[:, None]
    m = (
        t**-exponent
        * np.exp(-rate * t)
        * (1 + 1e-3 * np.random.default_rng(3).standard_normal((len(temperature), 100)))
    )
    average = xr.Dataset({"average": (("member", "f"), np.zeros((len(temperature), 2)))})
    asked = {"readings": {"decay": {"split": "train"}}, "resamples": 20}
    return asked, {"decay": series(temperature, m, 2)}, {"decay": average}


def ground_state(sites: int = 6, error: float = 1e-3) -> tuple[dict, dict, dict]:
    """Chains of local energies around E0 (1 − `error`) of the critical Ising chain."""
    rng = np.random.default_rng(4)
    target = {"module": "tfi_chain", "params": {"sites": sites}}
    energy = tfi(sites, 1.0) * (1 - error) + 0.01 * rng.standard_normal(400)
    drawn = {"x": (("sample", "site"), rng.choice(np.array([-1, 1], np.int8), (400, sites)))}
    drawn |= {"energy": (("sample",), energy), "chain": (("sample",), np.repeat(np.arange(8), 50))}
    data = xr.Dataset(drawn, attrs={"target": fingerprint.canonical(target), "parameters": 7})
    return {"samples": {"ground": {"count": 400}}}, {}, {"ground": data}


def retrieval(sites: int = 30, patterns: int = 6) -> tuple[dict, dict, dict]:
    """Patterns that memories of 2 and 3 recall, and one of 9 no more."""
    state = 2.0 * np.random.default_rng(5).integers(2, size=(patterns, 1, sites)) - 1
    sign = np.where(np.arange(sites) % 2 == 0, 1.0, -1.0)
    recalled = np.stack([state[:, 0], state[:, 0], state[:, 0] * sign], 1)
    overlap, known = (recalled * state).mean(2), np.arange(patterns)[:, None] < [2, 3, 9]
    read = {"overlap": (("member", "a"), overlap), "right": (("member", "b"), np.floor(overlap))}
    read |= {"known": (("member", "c"), known.astype(float))}
    read |= {"cue": (("member", "d"), state[:, 0]), "recalled": (("member", "e", "f"), recalled)}
    made_by = {"model": "hopfield", "rule": "hebb", "stored": [2, 3, 9]}
    truth = xr.Dataset({"state": (("member", "time", "field"), state)})
    return {"readings": {"cues": {}}}, {"cues": truth}, {"cues": xr.Dataset(read, attrs={"made_by": made_by})}


READ = {
    "critical_temperature": crossing,
    "confusion": confusion,
    "binder": binder,
    "relaxation": relaxation,
    "ground_state": ground_state,
    "retrieval": retrieval,
}
