"""Data sets of drawn sites, and of the first steps: the values of the lattices, the same whoever computes them."""

import json
from pathlib import Path

import numpy as np
import pytest

from physiglot import collect, config, dataset, predict, store, train
from physiglot.config import Training
from physiglot.montecarlo import chains
from physiglot.strict import ConfigError, check
from physiglot.systems import ising

HOME = Path(__file__).parents[1]

BLOCK, SIZE, STEPS = 12, 6, 5
SITES = {"count": 4, "draws": 3, "per": "chain", "lattice": False, "seed": 7}


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """Two blocks of each split, simulated as the stage does."""
    folder = tmp_path_factory.mktemp("ising")
    for split in ("train", "val", "test"):
        for i in range(2):
            params = ising.Params(size=SIZE, steps=STEPS)
            data = ising.simulate(params, BLOCK, np.random.default_rng([len(split), i]))
            store.save(folder / "blocks" / split / f"{i}.zarr", {"": data}, chunk=4)
    spec = {"blocks": dict.fromkeys(("train", "val", "test"), 2), "imported": {}}
    collect.collect(spec=spec, out=folder / "blocks.json")
    return folder / "blocks.json"


def make(blocks, name, threads=1, **options):
    splits = dict.fromkeys(("train", "val", "test"), 20)
    spec = {"splits": splits, "block": BLOCK, "chunk": 4, **options}
    out = blocks.parent / "datasets" / f"{name}.zarr"
    dataset.dataset(spec=spec, blocks=blocks, out=out / "zarr.json", threads=threads)
    return out


def lattices(blocks, split):
    """The spins of all simulated members (member, time, site)."""
    parts = [store.open_group(blocks.parent / "blocks" / split / f"{i}.zarr")["state"].values for i in range(2)]
    return chains.unpack(np.concatenate(parts), SIZE**2)[:20]


@pytest.mark.parametrize("per", ["run", "chain"])
def test_series_are_those_of_sites(blocks, per):
    """Every series is that of some site; chains share the sites, or do not."""
    data = store.open_group(make(blocks, f"sites_{per}", sites={**SITES, "per": per}), "train")
    state, spins = data["state"].values, lattices(blocks, "train")
    assert state.dtype == np.int8 and state.shape == (20, STEPS, 12) and data.sizes["field"] == 12
    fits = (state[:, :, :, None] == spins[:, :, None, :]).all(1)
    assert fits.any(-1).all()
    assert fits.all(0).any(-1).all() == (per == "run"), "one site for all chains"
    assert list(data["field"].values[[0, 4]]) == ["draw 0, site 0", "draw 1, site 0"]
    for name in ("parameters", "energy", "magnetisation", "flips"):
        assert len(data[name]) == 20


def test_the_statistics_are_those_of_the_series(blocks):
    out = make(blocks, "statistics", sites=SITES)
    state = store.open_group(out, "train")["state"].values
    np.testing.assert_allclose(store.attributes(out)["mean"], state.mean((0, 1)), atol=1e-12)


def test_threads_and_chunks_change_nothing(blocks):
    one = make(blocks, "one", sites=SITES)
    two = make(blocks, "two", threads=2, sites=SITES)
    other = make(blocks, "other", chunk=6, sites=SITES)
    assert store.attributes(one)["fingerprint"] == store.attributes(two)["fingerprint"]
    states = [store.open_group(p, "test")["state"].values for p in (one, other)]
    assert np.array_equal(*states)
    again = make(blocks, "again", sites={**SITES, "seed": 8})
    assert not np.array_equal(states[0], store.open_group(again, "test")["state"].values)


def test_the_last_lattice_comes_along(blocks):
    data = store.open_group(make(blocks, "lattice", sites={**SITES, "lattice": True}), "val")
    assert np.array_equal(chains.unpack(data["lattice"].values, SIZE**2), lattices(blocks, "val")[:, -1])


def test_the_first_steps(blocks):
    data = store.open_group(make(blocks, "short", steps=3, sites={**SITES, "lattice": True}), "train")
    whole = store.open_group(make(blocks, "whole", sites=SITES), "train")
    assert np.array_equal(data["state"].values, whole["state"].values[:, :3])
    assert np.array_equal(data["energy"].values, whole["energy"].values[:, :3])
    assert np.array_equal(data["time"].values, whole["time"].values[:3])
    assert np.array_equal(chains.unpack(data["lattice"].values, SIZE**2), lattices(blocks, "train")[:, 2])
    with pytest.raises(ValueError, match="steps: 9: more than the 5 steps that are stored"):
        make(blocks, "long", steps=9)
    with pytest.raises(ValueError, match=r"sites\.count: 36: must be below the 36 sites"):
        make(blocks, "many", sites={**SITES, "count": 36})


# --- training and reading on them --------------------------------------------------------------


def run(blocks, folder, params, **training):
    """Train the fully connected network by the stages, and read the test split."""
    data = make(blocks, folder.name, sites=SITES) / "zarr.json"
    given = {"window": 5, "stride": 100, "batch": 8, "epochs": 3, "lr": 0.05, "clip": None, **training}
    part = {"module": "phase_fcn", "params": {"series": 4, "steps": 5, **params}}
    part["training"] = Training(**given).model_dump()
    weights, out = folder / "model/weights.pt", folder / "prediction.zarr/zarr.json"
    train.train(spec={"part": part, "seed": 1}, dataset=data, out=weights)
    reading = {"split": "test", "batch": 7, "precision": "float32"}
    predict.predict(spec={"readings": {"test": reading}, "options": {}}, dataset=data, weights=weights, out=out)
    curves = [json.loads(line) for line in weights.with_suffix(".metrics.jsonl").read_text().splitlines()]
    return curves, store.open_group(out.parent, "test")


def test_a_classifier_is_trained_and_read(blocks, tmp_path):
    curves, read = run(blocks, tmp_path / "sound", {}, validation={"windows": None, "times": 3})
    assert read["probability"].shape == (20, 3) and read["shuffled"].shape == (20, 1)
    assert read.attrs["made_by"]["model"] == "phase_fcn" and read.attrs["made_by"]["windows"] == [
        [0.0, 1.0],
        [4.0, 5.0],
    ]
    assert sum("val_loss" in line for line in curves) == 4 and not any("val_score" in line for line in curves)


def test_the_epoch_with_the_best_score_is_kept(blocks, tmp_path):
    """As published: on the test split, by the accuracy against the known transition, each series once."""
    params = {"variant": "faithful", "reference": 2.27}
    judged = {"split": "test", "windows": None, "times": 3}
    curves, read = run(blocks, tmp_path / "best", params, validation=judged, select="best")
    scores = [line["val_score"] for line in curves if "val_score" in line]
    assert len(scores) == 4 and all(score * 20 == pytest.approx(round(score * 20)) for score in scores)
    temperature = store.open_group(blocks.parent / "datasets/best.zarr", "test")["parameters"].values[:, 0]
    right = (read["probability"].values[:, 0] > 0.5) == (temperature > 2.27)
    assert right.mean() == pytest.approx(max(scores))


# --- the configuration -------------------------------------------------------------------------


def test_noise_is_no_noise_on_spins():
    with pytest.raises(ConfigError, match="noise and sites exclude each other"):
        check(config.Dataset, {"noise": {"level": 0.1}, "sites": {}}, "datasets.x")


def test_a_split_to_validate_on_must_exist():
    values = config.load(HOME / "config.yaml")
    values["models"]["flips_xy"]["training"]["validation"] = {"split": "tset"}
    message = r"models\.flips_\w+\.training\.validation\.split: 'tset': no such name; allowed: train, val, test"
    with pytest.raises(ConfigError, match=message):
        config.validate(values)
