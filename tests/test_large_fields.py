"""An ensemble of fields larger than memory, scaled down: made block by block, gathered, and read in windows.

A published Gray-Scott series has 52 MB. With the measured factor below, a block of four needs less than 1 GB.
"""

import json

import numpy as np
import pytest
from test_dataset import memory

from physiglot import batches, collect, store
from physiglot.config import Training

MEMBERS, BLOCKS = 4, 24
PARAMS = {"grid": 16, "average": 1, "dx": 1.75, "cube": 5, "steps": 80}
SERIES = 80 * 2 * 16**3 * 4 / 2**20  # MiB
PUBLISHED = 4 * 200 * 2 * 32**3 * 4 / 2**20  # MiB of a block in paper.yaml


def simulated(folder, split, members, block=0, limit=0):
    """Peak memory in MiB of the job that makes a block."""
    spec = {"module": "gray_scott", "split": split, "seed": 0, "members": members, "chunk": 1, "params": PARAMS}
    out = folder / "bundles" / split / f"{block}.json"
    return memory("simulate", out, limit, spec=json.dumps({**spec, "blocks": [block]}))[0]


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """The blocks of a split, all but two of them the same one, and their list: 240 MiB on paper."""
    folder = tmp_path_factory.mktemp("ensemble")
    small = [simulated(folder, "train", MEMBERS, block) for block in range(2)][-1]
    simulated(folder, "val", MEMBERS)
    for block in range(2, BLOCKS):
        (folder / f"blocks/train/{block}.zarr").symlink_to("0.zarr")
    listed = folder / "blocks.json"
    collect.collect(spec={"blocks": {"train": BLOCKS, "val": 1}, "imported": {}}, out=listed)
    return listed, small


def gathered(listed, blocks):
    spec = {"splits": {"train": MEMBERS * blocks, "val": MEMBERS}, "block": MEMBERS, "chunk": 1}
    out = listed.parent / f"datasets/{blocks}.zarr"
    return out, memory("dataset", out, spec=json.dumps(spec), blocks=listed, threads=1)[0]


def test_a_job_holds_a_few_times_its_block(ensemble, tmp_path):
    """Of sixteen series more, not all saved frames several times over; so a published block fits in 1 GB."""
    large, small = simulated(tmp_path, "train", MEMBERS + 16), ensemble[1]
    factor = (large - small) / (16 * SERIES)
    print(f"{factor:.2f} blocks of memory, {small} MiB for one of {MEMBERS * SERIES:.0f} MiB")
    assert factor < 3.5
    assert small + factor * (PUBLISHED - MEMBERS * SERIES) < 1000


def test_the_dataset_is_gathered_and_read_in_bounded_memory(ensemble):
    """240 MiB in 24 blocks take less than half of it more than one block; windows come from a pool of 0.06 GiB."""
    listed = ensemble[0]
    few, base = gathered(listed, 1)
    every, peak = gathered(listed, BLOCKS)
    assert peak - base < 120, (base, peak)
    frames = store.open_group(few, "train")["state"].values
    training = Training(window=5, batch=8, steps=1, in_memory=0.06).model_dump()
    data = batches.open_split(every, None, "train", training, 0, "cpu")
    assert type(data).__name__ == "Stream" and sum(m.nbytes for m in data.pool.memory) < 0.06 * 2**30
    places = {frames[place].tobytes(): place for place in np.ndindex(frames.shape[:2])}
    seen = set()
    for step in range(30):
        windows = data.at(step)["state"]
        assert windows.shape == (8, 5, 2, 16, 16, 16)
        for window in windows.numpy():
            found = [places.get(frame.tobytes()) for frame in window]
            if found[0] is None:  # of the other block
                continue
            member, first = found[0]
            assert found == [(member, first + i) for i in range(5)]
            seen.add(member)
    assert seen == set(range(MEMBERS))
