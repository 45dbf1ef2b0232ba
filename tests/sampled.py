"""What tasks that ask for samples are tried on: predictions by formula, with known answers."""

import numpy as np
import xarray as xr

from physiglot import fingerprint, targets

ISING = {"module": "ising", "params": {"size": 4, "beta": 0.3}}
MADE_BY = {"model": "product", "z2": False}


def attributes(target: dict, kind: str, **more) -> dict:
    """What predict notes beside samples."""
    return {
        "target": fingerprint.canonical(target),
        "log_prob_kind": kind,
        "made_by": MADE_BY,
        "parameters": 16,
        **more,
    }


def free_energy() -> tuple[dict, dict, dict]:
    """Uniform spins as a model of a small lattice, beside configurations of it by exact enumeration."""
    import torch

    target, rng = targets.build(ISING), np.random.default_rng(0)
    states = 2.0 * ((torch.arange(2**16)[:, None] >> torch.arange(16)) & 1).double().reshape(-1, 4, 4) - 1
    energy = target.energy(states).numpy()
    p = np.exp(-0.3 * energy - target.exact_logZ())
    drawn, reference = rng.integers(2**16, size=400), rng.choice(2**16, size=(20, 5), p=p / p.sum())
    samples = xr.Dataset(
        {
            "x": (("sample", "x_1", "x_2"), states[drawn].to(torch.int8).numpy()),
            "energy": ("sample", energy[drawn]),
            "log_prob": ("sample", np.full(400, -16 * np.log(2))),
            "reference_energy": (("member", "time"), energy[reference]),
            "reference_log_prob": (("member", "time"), np.full((20, 5), -16 * np.log(2))),
        },
        attrs=attributes(ISING, "exact", beta=0.3, cost={"sampling_seconds": 0.5, "train_cpu_seconds": 2.0}),
    )
    packed = np.packbits((states.flatten(1).numpy() > 0)[reference], axis=-1, bitorder="little")
    truth = xr.Dataset({"state": (("member", "time", "field"), packed)})
    return {"samples": {"model": {"split": "val"}}}, {"model": truth}, {"model": samples}


def generation() -> tuple[dict, dict, dict]:
    """Lattices that come out of noise in three stages."""
    rng = np.random.default_rng(0)
    noise, last = rng.normal(size=(2, 2, 4, 4))
    stages = np.stack([noise, 0.5 * (noise + last), last], 1)
    samples = xr.Dataset(
        {
            "x": (("sample", "x_1", "x_2"), last),
            "stages": (("row", "stage", "y", "x"), stages, {"names": ["noise", "between", "sample"]}),
        },
        attrs=attributes(ISING, "exact", beta=0.3),
    )
    return {"samples": {"model": {"count": 2, "stages": 2}}}, {}, {"model": samples}


DRAWN = {"free_energy": free_energy, "generation": generation}
