"""What goes wrong is told in one clear sentence, ends with a non-zero exit, and leaves nothing half-written behind."""

import copy
import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from test_resume import PARAMS, TRAINING
from workflow import CONFIG, Project, changed

from physiglot import config as schema

pytestmark = pytest.mark.workflow

# --- the configuration -------------------------------------------------------------------------

WRONG = [
    # key, value, what the sentence has to say
    ("systms", {}, "systms: unknown key; did you mean systems?"),
    ("systems.lorenz.blok", 1, "systems.lorenz.blok: unknown key; did you mean block? allowed: module, seed, block"),
    ("systems.lorenz.splits.val.menbers", 1, "splits.val.menbers: unknown key; did you mean members?"),
    ("systems.lorenz.datasets.clean", {"nois": {}}, "datasets.clean.nois: unknown key; did you mean noise?"),
    ("models.cubic.training.optimiser", "adam", "training.optimiser: unknown key; did you mean optimizer?"),
    ("models.faithful.embedding.training.windw", 2, "embedding.training.windw: unknown key; did you mean window?"),
    ("studies.lorenz_cubic.seed", 1, "studies.lorenz_cubic.seed: unknown key; did you mean seeds?"),
    # wrong types
    (
        "studies.lorenz_cubic.ranks",
        3,
        "studies.lorenz_cubic.ranks: 3: allowed: divisors of models.cubic.training.batch",
    ),
    ("studies.lorenz_cubic.nodes", 2, "studies.lorenz_cubic.ranks: 1: allowed: multiples of its nodes, 2"),
    ("systems.lorenz.block", "four", "systems.lorenz.block: 'four': input should be a valid integer"),
    ("systems.lorenz.params.steps", 2.5, "steps: 2.5: input should be a valid integer"),
    ("systems.lorenz.params.dt", "1e-3", "dt: '1e-3': input should be a valid number (YAML reads 1e-3 as text: write"),
    ("studies.lorenz_cubic.seeds", 1, "seeds: 1: input should be a valid list"),
    ("studies", None, "studies: None: input should be a valid dictionary"),
    # impossible values
    ("systems.lorenz.block", 6, "systems.lorenz: block 6 must be a multiple of chunk 4"),
    ("systems.lorenz.splits", {"train": {"members": 4}}, "systems.lorenz: splits must name train and val"),
    ("models.cubic.training.lr", -1.0, "lr: -1.0: input should be greater than 0"),
    ("models.cubic.training.epochs", 3, "models.cubic.training: exactly one of epochs and steps must be given"),
    ("models.cubic.training.optimizer", "lion", "optimizer: 'lion': input should be 'adam', 'adamw' or 'sgd'"),
    ("studies.lorenz_cubic.seeds", [0, 0], "seeds: [0, 0]: a seed is given twice"),
    ("studies.lorenz_cubic.seeds", [-1], "seeds.0: -1: input should be greater than or equal to 0"),
    ("studies.lorenz_cubic.variant", "best", "variant: 'best': input should be 'faithful', 'sound', 'ours',"),
    ("models.cubic.training.window", 33, "training.window: 33: longer than the series of train; allowed: up to 32"),
    ("models.faithful.embedding.training.window", 40, "models.faithful.embedding.training.window: 40: longer than"),
    ("systems.lorenz.splits.val.params", {"steps": 7}, "training.window: 8: longer than the series of val"),
    ("tasks.short.params.rollouts.test.members", 99, "members: 99: split test of lorenz has 4 members"),
    # names that do not exist, or cannot be names
    ("systems.lorenz.module", "lorentz", "systems.lorenz.module: 'lorentz': no such file systems/lorentz.py; allowed:"),
    ("models.cubic.module", "polynom", "models.cubic.module: 'polynom': no such file models/polynom.py; allowed:"),
    ("models.faithful.embedding", None, "models.faithful.embedding: a required key is missing: transformer needs one"),
    ("models.faithful.embedding.module", "lstm", "embedding.module: 'lstm': it does not embed; allowed: koopman"),
    ("models.faithful.embedding.module", "k", "embedding.module: 'k': no such file models/k.py; allowed:"),
    ("tasks.short.module", "forcast", "tasks.short.module: 'forcast': no such file tasks/forcast.py; allowed:"),
    ("studies.lorenz_cubic.system", "lorens", "studies.lorenz_cubic.system: 'lorens': no such name; allowed: lorenz"),
    ("studies.lorenz_cubic.dataset", "noisy", "dataset: 'noisy': no such name; allowed: clean"),
    ("studies.lorenz_cubic.model", "cubik", "model: 'cubik': no such name; allowed: cubic, faithful"),
    ("studies.lorenz_cubic.task", "long", "task: 'long': no such name; allowed: short"),
    ("studies.lorenz_cubic.paper", "caos", "paper: 'caos': no such name; allowed: chaos"),
    ("studies.lorenz_cubic.weights", "nobody", "weights: 'nobody': no such name; allowed: lorenz_cubic"),
    ("studies.lorenz_cubic.weights", "lorenz_faithful", "weights: 'lorenz_faithful': its model faithful is not cubic"),
    (
        "tasks.short.params.rollouts.test.split",
        "tset",
        "rollouts.test.split: 'tset': no such name; allowed: train, val",
    ),
    ("studies.a/b", CONFIG["studies"]["lorenz_cubic"], "studies: 'a/b': allowed in a name: letters"),
    ("papers.train", CONFIG["papers"]["chaos"], "papers: 'train': a stage has this name"),
    # the parameters of the modules
    (
        "systems.lorenz.params.rh",
        1.0,
        "systems.lorenz.params (split train).rh: unknown key; did you mean rho? allowed:",
    ),
    ("systems.lorenz.params.sigma", -1.0, "sigma: -1.0: input should be greater than 0"),
    ("systems.lorenz.splits.val.params", {"dtt": 1.0}, "systems.lorenz.params (split val).dtt: unknown key; did you"),
    ("models.cubic.params.degre", 2, "models.cubic.params.degre: unknown key; did you mean degree? allowed: degree,"),
    ("models.faithful.embedding.params.width", 0, "models.faithful.embedding.params.width: 0: input should be greater"),
    ("models.faithful.params.rollout", {"horizon": [1]}, "params.rollout.horizon: unknown key; did you mean horizons?"),
    ("models.faithful.predict", {"generaton": "markov"}, "predict.generaton: unknown option of transformer's predict;"),
    ("models.faithful.predict", {"generation": "x"}, "generation: 'x': allowed: cache, window, markov"),
    ("tasks.short.params.binz", [], "tasks.short.params.binz: unknown key; did you mean bins?"),
    ("tasks.short.params.bins", [[16, 0]], "bins: [16, 0] is not [first, last)"),
    ("tasks.short.params.rollouts", {"test": {"splt": "test"}}, "rollouts.test.splt: unknown key; did you mean split?"),
]


def test_the_configuration_of_the_tests_is_right():
    assert schema.validate(copy.deepcopy(CONFIG))


@pytest.mark.parametrize(("key", "value", "says"), WRONG, ids=[f"{i}-{case[0]}" for i, case in enumerate(WRONG)])
def test_a_wrong_configuration_is_refused(key, value, says):
    with pytest.raises(schema.ConfigError) as error:
        schema.validate(changed(CONFIG, key, value))
    text = str(error.value)
    assert says in text and text.startswith("configuration error: ") and "\n" not in text and len(text) < 400


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("systems.lorenz.blok", 1, "configuration error: systems.lorenz.blok: unknown key; did you mean block?"),
        ("base", "nowhere.yaml", "configuration error: base: 'nowhere.yaml': no such file"),
    ],
)
def test_snakemake_tells_it_readably(project, key, value, says):
    """Before anything runs, without a traceback."""
    project.config = changed(CONFIG, key, value)
    said = project.snakemake("--dry-run", fails=True)
    assert says in said and "Traceback" not in said and len(said.splitlines()) < 12


def test_a_file_that_is_not_yaml(project):
    (project.folder / "config.yaml").write_text("systems: {lorenz: [\n")
    said = project.snakemake("--dry-run", fails=True)
    assert "Config file is not valid JSON or YAML" in said and "Traceback" not in said


def test_numbers_on_the_command_line_are_numbers(project):
    """Snakemake reads what is within `--config` as text, `null` too."""
    project.snakemake(
        "--dry-run", "--config", "studies={lorenz_cubic: {seeds: [0, 7]}}", "tracking={uri: null}", "only=*_cubic"
    )
    project.snakemake(
        "--dry-run", "runs/lorenz_cubic/7/metrics.json", "--config", "studies={lorenz_cubic: {seeds: [0, 7]}}"
    )
    said = project.snakemake("--dry-run", "--config", "studies={lorenz_cubic: {seeds: [0, x]}}", fails=True)
    assert "studies.lorenz_cubic.seeds" in said and "'x'" in said, said


# --- stages ------------------------------------------------------------------------------------

DATASET = "data/lorenz/datasets/clean.zarr/zarr.json"
WEIGHTS = "runs/lorenz_cubic/0/model/weights.pt"
PREDICTION = "runs/lorenz_cubic/0/prediction.zarr/zarr.json"
ROLLOUTS = {"test": {"split": "test"}}


@pytest.fixture(scope="module")
def ready(grown, tmp_path_factory) -> Iterator[Project]:
    """A project that has run; its outputs are not to be changed."""
    project = grown[0].copy(tmp_path_factory.mktemp("errors") / "project")
    yield project
    project.stop()


def refused(project: Project, stage: str, out: str, spec: dict, **inputs) -> str:
    """The sentence with which the stage fails. Nothing lies at `out`, and nothing half-written beside it."""
    path = project.folder / out
    options = [word for name, value in inputs.items() for word in (f"--{name}", value)]
    said = project.run(stage, "--spec", json.dumps(spec), "--code", "c", *options, "--out", out, fails=True)
    assert "Traceback" not in said
    *_, last = said.strip().splitlines()
    assert last.startswith(f"error: {stage}: ")
    assert not path.exists()
    assert not list(path.parent.parent.glob("**/.*.tmp"))
    record = path.parent.with_suffix(".run.json") if path.name == "zarr.json" else path.with_suffix(".run.json")
    if record.exists():
        assert json.loads(record.read_text())["status"] == "FAILED"
    return last


def predict_spec(**rollout) -> dict:
    return {"rollouts": {"test": {"split": "test", **rollout}}, "options": {}}


def training(**changes) -> dict:
    return {"part": {"module": "koopman", "params": PARAMS, "training": {**TRAINING, **changes}}, "seed": 0}


@pytest.mark.parametrize(("given", "says"), [("--spec", "--spec"), ("--code", "the following arguments are required")])
def test_a_wrong_command_line(ready, given, says):
    said = ready.run("simulate", given, "{", fails=True)
    assert says in said and "Traceback" not in said


def test_a_missing_input(ready):
    said = refused(ready, "train", "runs/a/weights.pt", training(), dataset="data/no.zarr/zarr.json")
    assert "data/no.zarr" in said
    said = refused(ready, "predict", "runs/a/p.zarr/zarr.json", predict_spec(), dataset=DATASET, weights="no.pt")
    assert "no.pt" in said and "missing" in said


def test_a_store_that_is_not_ours(ready):
    import zarr

    folder = ready.folder / "foreign.zarr"
    zarr.create_array(folder, name="state", shape=(2, 3), dtype="f8")
    assert (folder / "zarr.json").exists()
    said = refused(ready, "train", "runs/b/weights.pt", training(), dataset="foreign.zarr/zarr.json")
    assert "not the metadata of a store that physiglot wrote" in said


def damaged(project: Project, name: str) -> tuple[str, list]:
    """A copy of the dataset and the files of its training states."""
    shutil.copytree((project.folder / DATASET).parent, project.folder / name)
    files = sorted((project.folder / name / "train/state").glob("c*"))
    assert files
    return f"{name}/zarr.json", files


def test_a_store_with_a_lost_file(ready):
    dataset, files = damaged(ready, "lost.zarr")
    files[0].unlink()
    said = refused(ready, "train", "runs/c/weights.pt", training(), dataset=dataset)
    assert "lost.zarr: train/state is incomplete" in said and "make this store again" in said


def test_a_store_with_a_truncated_file(ready):
    dataset, files = damaged(ready, "cut.zarr")
    files[0].write_bytes(files[0].read_bytes()[:-100])
    said = refused(ready, "train", "runs/d/weights.pt", training(), dataset=dataset)
    assert "cut.zarr: train/state is incomplete" in said


@pytest.mark.parametrize("content", ["text", "truncated", "foreign"])
def test_weights_that_are_none(ready, content):
    import torch

    path = ready.folder / f"{content}.pt"
    if content == "foreign":
        torch.save({"layer.weight": torch.zeros(3)}, path)
    else:
        whole = (ready.folder / WEIGHTS).read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content == "truncated" else b"weights\n")
    out = f"runs/e{content}/p.zarr/zarr.json"
    said = refused(ready, "predict", out, predict_spec(), dataset=DATASET, weights=path.name)
    assert f"{content}.pt: not weights that physiglot wrote" in said


def test_an_unknown_split(ready):
    out = "runs/f/p.zarr/zarr.json"
    said = refused(ready, "predict", out, predict_spec(split="later"), dataset=DATASET, weights=WEIGHTS)
    assert "clean.zarr: no group 'later'; it holds " in said


def test_a_simulation_that_diverges(ready):
    spec = {"module": "lorenz", "params": {"dt": 10.0}, "seed": 0, "split": "train", "blocks": [0]}
    spec |= {"members": 4, "chunk": 4}
    said = refused(ready, "simulate", "data/x/bundles/train/0.json", spec)
    assert "not finite" in said and "smaller dt" in said


def test_a_simulation_that_diverges_unnoticed(ready):
    """A system that forgets to check is checked by the stage."""
    ready.insert("systems/decay.py", "simulate", "params = params.model_copy(update={'rate': -1e5})")
    spec = {"module": "decay", "params": {}, "seed": 0, "split": "train", "blocks": [0], "members": 4, "chunk": 4}
    said = refused(ready, "simulate", "data/y/bundles/train/0.json", spec)
    assert "decay: state of block train/0 is not finite" in said


def test_a_training_that_diverges(ready):
    out = "runs/g/weights.pt"
    for _ in range(2):
        said = refused(ready, "train", out, training(lr=1e30, steps=200, clip=None), dataset=DATASET)
        assert "the loss is not finite at step" in said and "lower training.lr" in said


def test_a_window_longer_than_the_series(ready):
    said = refused(ready, "train", "runs/h/weights.pt", training(window=99), dataset=DATASET)
    assert "training.window: 99: longer than the series, which have 32 steps" in said


def test_a_bin_beyond_the_series(ready):
    task = {"module": "forecast", "params": {"bins": [[0, 64]], "resamples": 10, "rollouts": ROLLOUTS}}
    said = refused(ready, "evaluate", "runs/i/metrics.json", {"task": task}, dataset=DATASET, prediction=PREDICTION)
    assert "bins: [0, 64)" in said and "32 steps" in said


def test_another_embedding_than_that_of_the_embedded_data(ready):
    given = json.loads((ready.folder / "runs/lorenz_faithful/0/model/weights.run.json").read_text())
    other = "runs/j/embedding.pt"
    weights = training(steps=0)
    ready.run("train", "--spec", json.dumps(weights), "--dataset", DATASET, "--out", other)
    embedded = "runs/lorenz_faithful/0/embedded.zarr/zarr.json"
    said = refused(
        ready, "train", "runs/j/weights.pt", given["spec"], dataset=DATASET, weights=other, embedded=embedded
    )
    assert "run embed again" in said


def test_a_full_disk(ready):
    """Weights that find no room: one sentence, and no weights."""
    folder = ready.folder / "runs/k"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        spec = training(steps=5)
        spec["part"]["params"] = {"channels": 64, "width": 512}
        said = refused(ready, "train", "runs/k/m/weights.pt", spec, dataset=DATASET)
        assert "no space is left to write" in said
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
