"""HDF5 files: imported as they are or refused in one sentence, and a new one runs what needs it and nothing else."""

import hashlib
import json
import re
import shutil

import h5py
import numpy as np
import pytest
from workflow import CONFIG, Project

from physiglot import config as schema
from physiglot import imports, store
from physiglot.ingest import ForeignFile, ingest

STEPS = 32
SPEC = {"module": "lorenz", "fields": ["x", "y", "z"], "units": {"state": "1", "time": "s"}, "dt": 0.02}
SPEC |= {"steps": STEPS, "block": 4, "chunk": 2}


def write(path, series):
    """An HDF5 file with these datasets at its root."""
    with h5py.File(path, "w") as file:
        for key, values in series.items():
            file[key] = values
    return path


def lorenz(members, seed=0, dtype="float64", steps=STEPS):
    values = np.random.default_rng(seed).normal([0, 0, 25], 8, (members, steps, 3)).astype(dtype)
    return {f"series {i}": v for i, v in enumerate(values)}


def made(tmp_path, path):
    out = tmp_path / "imported" / f"{path.stem}.zarr"
    ingest(spec=SPEC, file=path, out=out / "zarr.json")
    return out


@pytest.mark.parametrize("members", [1, 3, 4, 11])
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f8"])
def test_series_become_members_in_the_order_of_the_file(tmp_path, members, dtype):
    series = lorenz(members, dtype=dtype)
    path = write(tmp_path / "a.hdf5", series)
    out = made(tmp_path, path)
    data = store.open_group(out)
    with h5py.File(path) as file:
        expected = np.stack([series[key] for key in file])
    assert data["state"].dims == ("member", "time", "field") and data["state"].dtype == np.float64
    assert np.array_equal(data["state"].values, expected)
    assert np.array_equal(data["time"].values, 0.02 * np.arange(STEPS))
    assert list(data["field"].values) == SPEC["fields"] and data.attrs["system"] == "lorenz"
    assert data["state"].attrs == {"units": "1"} and data["time"].attrs == {"units": "s"}
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert store.attributes(out)["notes"]["source"] == {"file": "a.hdf5", "sha256": sha256, "layout": "arrays"}
    assert store.members(out, "state") == members


def test_the_same_series_in_another_file_have_the_same_fingerprint(tmp_path):
    """So that a file written anew stops the workflow at `collect`."""
    first = made(tmp_path, write(tmp_path / "a.h5", lorenz(5)))
    with h5py.File(tmp_path / "b.h5", "w", libver="latest") as file:
        for key, values in lorenz(5).items():
            file.create_dataset(key, data=values, compression="gzip")
    second = made(tmp_path, tmp_path / "b.h5")
    assert store.attributes(first)["fingerprint"] == store.attributes(second)["fingerprint"]
    assert store.attributes(first)["notes"]["source"] != store.attributes(second)["notes"]["source"]
    other = made(tmp_path, write(tmp_path / "c.h5", lorenz(5, seed=1)))
    assert store.attributes(first)["fingerprint"] != store.attributes(other)["fingerprint"]


def with_nan():
    series = lorenz(3)
    series["series 1"][7, 2] = np.nan
    return series


SHAPE = r"expected shape \(32, 3\) \(time; x, y, z\), float32 or float64"
WRONG = {
    "empty": ({}, r"no series in it; expected a dataset or a group at the root for each, or the layout of The Well"),
    "longer": ({**lorenz(1), "z": np.ones((33, 3))}, rf"series 'z': shape \(33, 3\), float64; {SHAPE}"),
    "fields": ({"a": np.ones((STEPS, 2))}, rf"series 'a': shape \(32, 2\), float64; {SHAPE}"),
    "stacked": ({"all": np.ones((2, STEPS, 3))}, rf"series 'all': shape \(2, 32, 3\), float64; {SHAPE}"),
    "integers": ({"a": np.ones((STEPS, 3), np.int32)}, rf"series 'a': shape \(32, 3\), int32; {SHAPE}"),
    "half": ({"a": np.ones((STEPS, 3), np.float16)}, rf"series 'a': shape \(32, 3\), float16; {SHAPE}"),
    "text": ({"a": "words"}, rf"series 'a': shape \(\), object; {SHAPE}"),
    "group": ({"deep/a": np.ones((STEPS, 3))}, r"series 'deep': no dataset 'x', but 'a'; expected x, y, z"),
    "mixed": ({"deep/a": np.ones((STEPS, 3)), **lorenz(1)}, rf"series 'deep': a group; {SHAPE}"),
    "link": ({"a": h5py.SoftLink("/lost")}, rf"series 'a': a link that leads nowhere; {SHAPE}"),
    "file": ({"a": h5py.ExternalLink("lost.h5", "/a")}, rf"series 'a': a link that leads nowhere; {SHAPE}"),
    "type": ({"a": np.dtype("float64")}, rf"series 'a': a datatype; {SHAPE}"),
    "null": ({"a": h5py.Empty("float64")}, rf"series 'a': shape None, float64; {SHAPE}"),
    "nan": (with_nan(), r"series 'series 1': nan in z at step 7; expected finite values"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, name):
    series, sentence = WRONG[name]
    path = write(tmp_path / f"{name}.hdf5", series)
    with pytest.raises(ForeignFile, match=f"^{re.escape(str(path))}: {sentence}"):
        made(tmp_path, path)
    assert not list(tmp_path.glob("imported/*"))


def test_what_is_no_whole_hdf5_file_is_refused(tmp_path):
    whole = write(tmp_path / "whole.hdf5", lorenz(8)).read_bytes()
    for content in (b"", b"not HDF5 at all", whole[: len(whole) // 2], whole[:600], whole[: len(whole) - 100]):
        path = tmp_path / "cut.hdf5"
        path.write_bytes(content)
        with pytest.raises(ForeignFile, match=r"cut.hdf5: cannot be read as HDF5: .*; expected a whole HDF5 file"):
            made(tmp_path, path)
    with h5py.File(tmp_path / "checked.hdf5", "w") as file:
        file.create_dataset("a", data=lorenz(1)["series 0"], chunks=(STEPS, 3), fletcher32=True)
        place = file["a"].id.get_chunk_info(0).byte_offset
    with open(tmp_path / "checked.hdf5", "r+b") as file:
        file.seek(place)
        file.write(b"wrong")
    with pytest.raises(ForeignFile, match=r"checked.hdf5: series 'a': cannot be read: .*; expected a whole HDF5 file"):
        made(tmp_path, tmp_path / "checked.hdf5")
    assert not list(tmp_path.glob("imported/*"))


def test_a_refused_file_leaves_the_finished_block(tmp_path):
    out = made(tmp_path, write(tmp_path / "a.hdf5", lorenz(3)))
    before = (out / "zarr.json").read_bytes()
    for series in (with_nan(), {"a": np.ones((1, 3))}):
        with pytest.raises(ForeignFile):
            made(tmp_path, write(tmp_path / "a.hdf5", series))
    assert (out / "zarr.json").read_bytes() == before and len(store.open_group(out)["state"]) == 3
    assert [p.name for p in out.parent.iterdir()] == ["a.zarr"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An import folder `new`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    return tmp_path / "new"


def configured(members=8, **system):
    """A valid configuration whose training split imports `new`."""
    splits = {"train": {"members": members}, "val": {"members": 4}, "test": {"members": 4}}
    lorenz = {**CONFIG["systems"]["lorenz"], "splits": splits, "imports": {"train": "new"}, **system}
    return {**CONFIG, "systems": {"lorenz": lorenz}}


def test_what_the_configuration_takes_from_the_folder_and_the_system(folder):
    for name in ("b.h5", "a.hdf5", ".hidden.h5", "c.h5.part", "notes.txt", "d-1.5+x.hdf5"):
        (folder / name).touch()
    assert list(imports.found("new")) == ["a", "b", "d-1.5+x"]
    system = schema.validate(configured(params={"dt": 0.05})).systems["lorenz"]
    expected = {"fields": ["x", "y", "z"], "units": {"state": "1", "time": "1"}, "dt": 0.05, "steps": 256}
    assert imports.series(system, "train") == expected


CONFIGS = {
    "no folder": ({"imports": {"train": "old"}}, "imports.train: 'old': no such folder; allowed: a folder of"),
    "no split": ({"imports": {"trian": "new"}}, "imports: 'trian': no such name; allowed: train, val, test"),
    "nothing": ({"members": 0}, "splits.train.members: 0: this split would be empty; allowed: 1 or more, or 0 where"),
    "elsewhere": ({"members": 0, "imports": {"val": "new"}}, "splits.train.members: 0: this split would be empty"),
    "below": ({"members": -1}, "splits.train.members: -1: input should be greater than or equal to 0"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_wrong_configuration_is_refused(folder, name):
    change, sentence = CONFIGS[name]
    schema.validate(configured())
    with pytest.raises(schema.ConfigError, match=re.escape(f"configuration error: systems.lorenz.{sentence}")):
        schema.validate(configured(**change))


def test_a_split_of_imported_members_only(folder):
    (folder / "a.h5").touch()
    schema.validate(configured(members=0))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["my file.h5"], "'new/my file.h5': allowed in the name of a file: letters, digits and . _ + -"),
        (["a.h5", "a.hdf5"], "'a.h5' and 'a.hdf5': both would become a.zarr; allowed: one file of a name"),
    ],
)
def test_names_that_cannot_be_kept_apart_are_refused(folder, names, sentence):
    for name in names:
        (folder / name).touch()
    with pytest.raises(schema.ConfigError, match=re.escape(f"systems.lorenz.imports.train: {sentence}")):
        schema.validate(configured())


def test_a_system_that_does_not_say_what_its_series_are(folder, monkeypatch):
    monkeypatch.setattr(imports, "constant", lambda module, name: {}[name])
    with pytest.raises(schema.ConfigError, match=r"imports.train: 'lorenz': this system cannot be imported; allowed: "):
        schema.validate(configured())


DATA = "data/lorenz/datasets/clean.zarr/zarr.json"
AFTER = ("collect/lorenz", "dataset/lorenz/clean")
LAST = ("train/lorenz*", "predict/lorenz*", "evaluate/lorenz*", "plot/lorenz*", "table/chaos")
CUBES = {  # all of it imported
    "module": "gray_scott",
    "block": 4,
    "chunk": 1,
    "params": {"grid": 4, "average": 1, "cube": 4, "steps": 12},
    "splits": {"train": {"members": 0}, "val": {"members": 0}, "test": {"members": 0}},
    "imports": {split: f"cubes/{split}" for split in ("train", "val", "test")},
}
AFTER_CUBES = ("collect/cubes", "dataset/cubes/clean")
LAST_CUBES = ("train/cubes*", "predict/cubes*", "evaluate/cubes*", "plot/cubes*", "table/fields")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A project that has run with one simulated block of each split and one imported file."""
    splits = {"train": {"members": 4}, "val": {"members": 4}, "test": {"members": 4}}
    lorenz_ = {**CONFIG["systems"]["lorenz"], "splits": splits, "imports": {"train": "new"}}
    fields = {"paper": "fields", "variant": "baseline", "label": "Frame", "system": "cubes", "model": "frame"}
    studies = {"lorenz_cubic": CONFIG["studies"]["lorenz_cubic"], "cubes_frame": {**fields, "task": "fields"}}
    frame = {"module": "persistence", "params": {"mode": "frame", "shape": [12, 4, 4, 4]}}
    models = {"cubic": CONFIG["models"]["cubic"], "frame": {**frame, "training": {"steps": 0, "window": 4}}}
    task = {"module": "field_forecast", "params": {"rollouts": {"test": {"split": "test"}}, "frames": 2}}
    values = {**CONFIG, "systems": {"lorenz": lorenz_, "cubes": CUBES}, "models": models, "studies": studies}
    values["tasks"] = {**CONFIG["tasks"], "fields": task}
    values["papers"] = {**CONFIG["papers"], "fields": {"title": "Fields", "reference": "none"}}
    project = Project.create(tmp_path_factory.mktemp("ingest") / "base", values)
    (project.folder / "new").mkdir()
    write(project.folder / "new/first.hdf5", lorenz(3))
    for split in CUBES["imports"]:
        (project.folder / "cubes" / split).mkdir(parents=True)
        cubes(project.folder / f"cubes/{split}/first.h5", 2)
    ran = project.ran()
    ingested = ("ingest/lorenz/train/first", "ingest/cubes/*/first")
    assert ran == project.matching("simulate/lorenz/*", *ingested, *AFTER, *LAST, *AFTER_CUBES, *LAST_CUBES)
    return project


def cubes(path, members, seed=0):
    """A file as that of transformer-physx: a group for each series."""
    state = np.random.default_rng(seed).uniform(size=(members, 12, 2, 4, 4, 4)).astype(np.float32)
    names = {"u": 0, "v": 1}
    write(path, {f"{i}/{name}": state[i, :, k] for i in range(members) for name, k in names.items()})
    return state


@pytest.fixture
def project(base, tmp_path):
    return base.copy(tmp_path / "project")


def train(project):
    return store.open_group(project.folder / "data/lorenz/datasets/clean.zarr", "train")["state"].values


def state_of(project):
    """Every finished output, by what it is made of."""
    names = ["*.zarr/zarr.json", "*.json", "weights.pt", "*.csv"]
    found = [p for name in names for top in ("data", "runs", "papers") for p in (project.folder / top).rglob(name)]
    return {p: p.read_bytes() for p in found if not p.name.endswith(".run.json")}


@pytest.mark.workflow
def test_a_new_file_runs_its_import_the_dataset_and_what_follows(project):
    before = train(project)
    assert before.shape == (7, STEPS, 3)
    write(project.folder / "new/second.h5", lorenz(2, seed=1))
    assert project.ran() == project.matching("ingest/lorenz/train/second", *AFTER, *LAST)
    after = train(project)
    assert np.array_equal(after[:7], before)
    assert np.array_equal(after[7:], np.stack(list(lorenz(2, seed=1).values())))


@pytest.mark.workflow
def test_a_new_file_of_fields_runs_nothing_of_another_system(project):
    written = cubes(project.folder / "cubes/train/second.h5", 3, seed=1)
    ran = project.ran()
    assert ran == project.matching("ingest/cubes/train/second", *AFTER_CUBES, *LAST_CUBES)
    data = store.open_group(project.folder / "data/cubes/datasets/clean.zarr", "train")["state"]
    assert data.shape == (5, 12, 2, 4, 4, 4) and np.array_equal(data[2:].values, written)
    metrics = json.loads((project.folder / "runs/cubes_frame/0/metrics.json").read_text())
    exact = (16 + 4) / 25 / 12 * 3 * 11 / 12  # uniform numbers against the mean of five series, one of them the same
    assert metrics["relative_mse_u_0_12"] == pytest.approx(exact, rel=0.1)


@pytest.mark.workflow
def test_a_file_written_anew_stops_where_its_content_is_the_same(project):
    path = project.folder / "new/first.hdf5"
    path.touch()
    assert project.ran(DATA) == set()
    with h5py.File(path, "w", libver="latest") as file:
        for key, values in lorenz(3).items():
            file.create_dataset(key, data=values, compression="gzip")
    assert project.ran(DATA) == project.matching("ingest/lorenz/train/first", "collect/lorenz")
    write(path, lorenz(3, seed=2))
    shutil.copystat(project.folder / "Snakefile", path)
    assert project.ran(DATA) == project.matching("ingest/lorenz/train/first", *AFTER), "older, but another"


@pytest.mark.workflow
def test_a_bad_file_stops_with_a_sentence_and_touches_nothing(project):
    before = state_of(project)
    assert any("datasets" in str(path) for path in before)
    write(project.folder / "new/bad.h5", {**lorenz(1), "wrong": np.ones((STEPS, 4))})
    said = project.snakemake(fails=True)
    sentence = "new/bad.h5: series 'wrong': shape (32, 4), float64; expected shape (32, 3) (time; x, y, z)"
    assert sentence in project.log("ingest/lorenz/train/bad") and sentence in said
    assert "Traceback" not in said
    assert state_of(project) == before
    write(project.folder / "new/bad.h5", lorenz(1, seed=3))
    assert project.ran(DATA) == project.matching("ingest/lorenz/train/bad", *AFTER)
    assert train(project).shape == (8, STEPS, 3)
    (project.folder / "new/bad.h5").unlink()
    assert project.ran(DATA) == project.matching(*AFTER), "without the file nothing is imported"
    assert train(project).shape == (7, STEPS, 3)
