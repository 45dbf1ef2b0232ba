"""Generative models through the real Snakefile: what they read, what runs again, what is refused."""

import copy
import json
from collections.abc import Iterator

import pytest
from workflow import Project, changed

from physiglot import config as schema

pytestmark = pytest.mark.workflow

ISING = {
    "module": "ising",
    "block": 8,
    "chunk": 8,
    "params": {"size": 4, "beta": 0.3, "dynamics": "swendsen_wang", "steps": 20},
    "splits": {"train": {"members": 8}, "val": {"members": 8}},
}
VARIATIONAL = {"source": "energy", "steps": 20, "batch": 64, "lr": 0.05}
CONFIG = {
    "tracking": {"uri": None},
    "systems": {"ising": ISING, "alone": {"module": "ising", "params": {"size": 4, "beta": 0.3}}},
    "models": {
        "mean_field": {"module": "product", "training": VARIATIONAL},
        "learnt": {"module": "product", "training": {"window": 1, "steps": 20, "batch": 32, "lr": 0.05}},
    },
    "tasks": {
        "report": {"module": "free_energy", "params": {"samples": {"model": {"count": 500, "split": "val"}}}},
    },
    "studies": {
        "alone": {"label": "Mean field", "system": "alone", "dataset": None, "model": "mean_field"},
        "beside": {"label": "Mean field", "system": "ising", "model": "mean_field"},
        "learnt": {"label": "Likelihood", "system": "ising", "model": "learnt"},
    },
    "papers": {"generative": {"title": "Generative", "reference": "none"}},
}
for study in CONFIG["studies"].values():
    study.update(paper="generative", variant="baseline", task="report")

TARGETS = ("papers/generative/table.csv", "runs/alone/0/figures")
DATA = ("simulate/ising/*", "collect/ising", "dataset/ising/clean")
ALONE = ("train/alone/*", "predict/alone/*", "evaluate/alone/*")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[tuple[Project, set[str]]]:
    """A project that has run, and what ran."""
    project = Project.create(tmp_path_factory.mktemp("generative") / "base", CONFIG)
    try:
        yield project, project.ran(*TARGETS)
    finally:
        project.stop()


@pytest.fixture
def project(made, tmp_path) -> Iterator[Project]:
    project = made[0].copy(tmp_path / "project")
    yield project
    project.stop()


def metrics(project: Project, study: str) -> dict:
    return json.loads((project.folder / f"runs/{study}/0/metrics.json").read_text())


def test_a_model_of_an_energy_needs_no_data(made):
    project, ran = made
    assert ran == project.matching("*")
    assert not any("alone" in name for name in ran if name.startswith(("simulate", "collect", "dataset")))
    found = metrics(project, "alone")
    assert found["lnZ_q"] < found["lnZ_exact"] and found["lnZ_upper"] is None
    assert found["lnZ_upper_reason"] == "no samples of the target"


def test_samples_of_the_target_bound_ln_z_from_above(made):
    found = metrics(made[0], "beside")
    assert found["lnZ_q"] < found["lnZ_exact"] < found["lnZ_upper"]
    assert abs(found["bar"] - found["lnZ_exact"]) < 4 * found["bar_stderr"]


def test_the_table_says_what_is_not_defined(made):
    folder = made[0].folder / "papers/generative"
    text = (folder / "table.md").read_text()
    alone, beside = (part.split("## ")[0] for part in text.split("## ")[1:3])
    assert " – |" in alone and " – |" not in beside and "failed" not in text
    assert {p.stem for p in (folder / "figures").glob("*.svg")} == {"free_energy", "brackets", "quality", "families"}


def test_nothing_changed(project):
    assert project.ran(*TARGETS) == set()


def test_the_temperature_of_the_target(project):
    """It trains the model again, and no other; a system of its own has no blocks."""
    project.change("systems.alone.params.beta", 0.35)
    assert project.ran("runs/alone/0/metrics.json", "runs/beside/0/metrics.json") == project.matching(*ALONE)


def test_code_of_the_target(project):
    """It is code of the training, of the samples and of the report, of one study here, to be short."""
    project.insert("targets/spins.py", "Lattice.energy")
    assert project.ran("runs/alone/0/metrics.json") == project.matching(*ALONE)


def test_more_data_does_not_train_a_variational_model_again(project):
    """It is compared with them, so it is measured again."""
    project.change("systems.ising.splits.val.members", 12)
    ran = project.ran("runs/beside/0/metrics.json")
    assert ran == project.matching("simulate/ising/val/1", *DATA[1:], "predict/beside/*", "evaluate/beside/*")


def test_what_only_the_simulation_depends_on_does_not_train_it_again(project):
    project.change("systems.ising.params.steps", 30)
    assert project.ran("runs/beside/0/model/weights.pt") == set()
    project.change("systems.ising.params.beta", 0.35)
    assert project.ran("runs/beside/0/model/weights.pt") == {"train/beside/0/model"}


def test_predictions_of_another_target_are_refused(project):
    """Evaluated by hand against another temperature."""
    spec = json.loads((project.folder / "runs/alone/0/metrics.run.json").read_text())["spec"]
    spec["target"]["params"]["beta"] = 0.5
    files = ("--prediction", "runs/alone/0/prediction.zarr/zarr.json", "--out", "runs/other.json")
    said = project.run("evaluate", "--spec", json.dumps(spec), *files, fails=True)
    assert "made for the target" in said and "run predict again" in said and "Traceback" not in said


# --- the configuration -------------------------------------------------------------------------

WRONG = [
    ("studies.learnt.dataset", None, "studies.learnt.dataset: None: the model learnt learns from data; allowed: clean"),
    ("studies.alone.dataset", "clean", "studies.alone.dataset: 'clean': no such name; allowed: null"),
    ("models.mean_field.training.epochs", 2, "exactly one of epochs and steps must be given"),
    ("models.mean_field.training.source", "energie", "source: 'energie': input should be 'data' or 'energy'"),
    ("models.mean_field.training.warm_start", True, "training.warm_start: allowed with source data only"),
    ("models.mean_field.module", "polynomial", "'energy': polynomial has no argument target; allowed: 'data'"),
    ("models.learnt.module", "time_average", "time_average has neither draw nor sample"),
    ("tasks.report.params.samples.model.stages", 3, "the model mean_field (product) has no stages; allowed: 0"),
    ("systems.alone", {"module": "lorenz"}, "studies.alone.system: 'alone': systems/lorenz.py has no target"),
    ("systems.alone", {"module": "tfi_chain"}, "product is for distributions, and the system alone has another target"),
    (
        "tasks.report",
        {"module": "ground_state", "params": {"samples": {"ground": {}}}},
        "ground_state is for ground states, and the system alone has another target; allowed: systems with the module "
        "heisenberg_chain, tfi_chain",
    ),
    ("systems.alone.params.beta", 0.0, "beta: 0.0: input should be greater than 0"),
    ("systems.alone.params.beta", None, "systems.alone.params.beta: None: the target of ising needs one"),
    ("systems.alone.params.size", 1, "size: 1: input should be greater than or equal to 2"),
    ("systems.alone.params.betta", 1.0, "betta: unknown key; did you mean beta?"),
    ("tasks.report.params.samples.model.count", 50, "fewer than 100 samples give no report"),
    ("tasks.report.params.samples.model.cuont", 1, "samples.model.cuont: unknown key; did you mean count?"),
    (
        "tasks.report.params.samples.model.split",
        "vall",
        "samples.model.split: 'vall': no such name; allowed: train, val",
    ),
]


def test_the_configuration_is_right():
    assert schema.validate(copy.deepcopy(CONFIG))


@pytest.mark.parametrize(("key", "value", "says"), WRONG, ids=[f"{i}-{case[0]}" for i, case in enumerate(WRONG)])
def test_a_wrong_configuration_is_refused(key, value, says):
    with pytest.raises(schema.ConfigError) as error:
        schema.validate(changed(CONFIG, key, value))
    assert says in str(error.value) and "\n" not in str(error.value)
