"""What runs again, and what does not: the promise of the workflow (shared/design.md, section 3), row by row.

Every test changes one thing in a project that is up to date and runs the real Snakefile. What ran is read off
the run records, and compared as a whole: nothing more, nothing less.
"""

import ast
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from workflow import PATIENCE, Project, survives_a_full_disk, wait_for

pytestmark = pytest.mark.workflow

DATA = ("simulate/decay/*", "collect/decay", "dataset/decay/*")
LEARN = ("train/decay_linear/*", "predict/decay_linear/*")
REPORT = ("evaluate/decay_linear/*", "plot/decay_linear/*", "table/rest")
DATASET = "data/decay/datasets/clean.zarr/zarr.json"  # the target after an accident, to be short


# --- nothing -----------------------------------------------------------------------------------


def test_nothing_changed(project):
    assert project.ran() == set()


def restyle(path: Path) -> None:
    """Other comments, docstrings and layout, the same program."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if ast.get_docstring(node):
                node.body[0].value.value += " It is told in other words."
            else:
                node.body.insert(0, ast.Expr(ast.Constant("It is told at last.")))
    text = ast.unparse(ast.fix_missing_locations(tree))
    path.write_text(f"# A new comment.\n{text}  # And another one.\n")


def test_comments_docstrings_and_formatting(project):
    for path in (project.folder / "src").rglob("*.py"):
        restyle(path)
    assert project.ran() == set()


def test_touch(project):
    for path in project.folder.rglob("*"):
        if ".snakemake" not in path.parts:
            path.touch()
    assert project.ran() == set()


def test_git_checkout(project):
    """To a branch where files differ and back: contents are the same, times of modification are new."""

    def git(*words: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *words], cwd=project.folder, check=True, capture_output=True)

    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "one")
    git("checkout", "-b", "other")
    for name in ("systems/lorenz.py", "store.py", "stage.py", "models/koopman.py"):
        project.source(name).write_text("raise SystemExit\n")
    git("commit", "-am", "two")
    git("checkout", "main")
    assert project.ran() == set()


# --- systems -----------------------------------------------------------------------------------


def test_a_new_system_is_one_file_and_one_block(grown):
    project, first, second = grown
    assert first == project.matching("*/lorenz*", "table/chaos")
    assert second == project.matching("*/decay*", "table/rest")


def test_a_parameter_of_a_system(project):
    project.change("systems.decay.params", {"rate": 0.75})
    assert project.ran() == project.matching(*DATA, *LEARN, *REPORT)


def test_more_members(project):
    project.change("systems.decay.splits.train.members", 7)
    ran = project.ran()
    assert ran == project.matching("simulate/decay/train/1", *DATA[1:], *LEARN, *REPORT)


def blocks(project: Project) -> dict[str, int]:
    """When each block of lorenz was written."""
    found = (project.folder / "data/lorenz/blocks").glob("*/*.zarr/zarr.json")
    return {str(path.parent.relative_to(project.folder)): path.stat().st_mtime_ns for path in found}


def test_bundles(project):
    """Blocks are kept when they are bundled anew, and when their bundle grows; nothing else runs for the first."""
    before = blocks(project)
    project.change("systems.lorenz.bundle", 2)
    assert project.ran() == {"simulate/lorenz/train/0", "collect/lorenz"}
    assert blocks(project) == before
    project.change("systems.lorenz.splits.train.members", 16)
    ran = project.ran("data/lorenz/datasets/clean.zarr/zarr.json")
    assert ran == {"simulate/lorenz/train/1", "collect/lorenz", "dataset/lorenz/clean"}
    project.change("systems.lorenz.bundle", 3)
    assert "simulate/lorenz/train/0" in project.ran("data/lorenz/blocks.json")
    after = blocks(project)
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 2


def test_a_lost_block_is_made_again(project):
    """As soon as it is needed, and it alone."""
    before = blocks(project)
    shutil.rmtree(project.folder / "data/lorenz/blocks/train/1.zarr")
    project.change("systems.lorenz.splits.test.members", 8)
    ran = project.ran("data/lorenz/blocks.json")
    assert ran == {"simulate/lorenz/train/1", "simulate/lorenz/test/1", "collect/lorenz"}
    after = blocks(project)
    assert {name for name in before if after[name] != before[name]} == {"data/lorenz/blocks/train/1.zarr"}


def test_code_of_a_system_with_unchanged_content(project):
    """Lorenz blocks are made again and collected, and there it stops, in this run and in the next."""
    project.insert("systems/lorenz.py", "simulate")
    assert project.ran() == project.matching("simulate/lorenz/*", "collect/lorenz")
    assert project.ran() == set()


def test_code_of_a_system_with_changed_content(project):
    project.insert("systems/decay.py", "simulate", "rng.uniform()")
    assert project.ran() == project.matching(*DATA, *LEARN, *REPORT)


# HERE: a new HDF5 file in a system's import folder runs its import, the dataset and what follows, no other block.


# --- code that several stages share ------------------------------------------------------------


def test_code_that_three_stages_share(project):
    project.insert("rollout.py", "open_asked")
    assert project.ran() == project.matching("evaluate/*", "plot/*", "table/*")


def test_code_that_all_stages_share(project):
    """On one system, to be short: every stage of it runs."""
    config = project.config
    del config["systems"]["lorenz"], config["papers"]["chaos"]
    config["studies"] = {"decay_linear": config["studies"]["decay_linear"]}
    project.config = config
    project.insert("stage.py", "run")
    assert project.ran() == project.matching(*DATA, *LEARN, *REPORT)


# --- models, tasks, studies --------------------------------------------------------------------


def test_a_parameter_of_a_model(project):
    project.change("models.cubic.params.degree", 2)
    assert project.ran() == project.matching("*/lorenz_cubic/*", "table/chaos")


def test_code_of_a_model(project):
    """The embedding is another model: it is neither trained nor applied again."""
    project.insert("models/transformer.py", "Model.predict")
    embedding = project.matching("train/lorenz_faithful/0/embedding", "embed/*")
    assert project.ran() == project.matching("*/lorenz_faithful/*", "table/chaos") - embedding


def test_code_of_a_model_that_others_use_in_part(project):
    """`fit` is the polynomial's own; `monomials`, in the same file, is the embedding's too."""
    project.insert("models/polynomial.py", "Model.fit")
    assert project.ran() == project.matching("*/lorenz_cubic/*", "*/decay_linear/*", "table/*")


def test_plotting_code(project):
    """Of a study's own figures: neither the table's comparisons nor the metrics."""
    project.insert("figures.py", "rollouts")
    assert project.ran() == project.matching("plot/*")


def test_a_new_study(project):
    study = {**project.config["studies"]["decay_linear"], "label": "Nothing", "model": "persistence", "seeds": [3, 4]}
    project.change("models.persistence", {"module": "persistence", "training": {"steps": 0, "window": 8}})
    project.change("studies.decay_persistence", study)
    assert project.ran() == project.matching("*/decay_persistence/3*", "*/decay_persistence/4*", "table/rest") - {
        "plot/decay_persistence/4"
    }


def test_a_removed_study(project):
    config = project.config
    del config["studies"]["lorenz_faithful"]
    project.config = config
    assert project.ran() == {"table/chaos"}


# --- accidents ---------------------------------------------------------------------------------


def block_in_work(project: Project) -> psutil.Process:
    """The process that simulates the block of decay's training split."""

    def found() -> psutil.Process | None:
        record = project.records().get("simulate/decay/train/0", {})
        return psutil.Process(record["pid"]) if record.get("status") == "RUNNING" else None

    return wait_for(found)


def paused(project: Project) -> Path:
    """New decay blocks are wanted, and their simulation waits until this file is removed."""
    project.change("systems.decay.splits.train.params", {"rate": 0.75})
    pause = project.folder / "pause"
    pause.touch()
    return pause


def test_a_killed_job_runs_again(project):
    pause = paused(project)
    project.change("systems.decay.splits.val.params", {"steps": 33})
    workflow = project.start(DATASET)
    block_in_work(project).send_signal(signal.SIGKILL)
    pause.unlink()
    workflow.communicate(timeout=PATIENCE)
    assert workflow.returncode != 0
    assert project.records()["simulate/decay/val/0"]["status"] == "FINISHED"
    assert project.ran(DATASET) == project.matching("simulate/decay/train/0", *DATA[1:])


@pytest.mark.parametrize("survives", [True, False], ids=["job_survives", "job_dies_too"])
def test_a_killed_workflow_goes_on_without_hand_work(project, survives):
    """Snakemake and perhaps its jobs are killed: the next one unlocks, and stops what was left running."""
    pause = paused(project)
    workflow = project.start(DATASET)
    job = block_in_work(project)
    workflow.kill() if survives else os.killpg(workflow.pid, signal.SIGKILL)
    workflow.wait()
    assert list((project.folder / ".snakemake/locks").iterdir())
    if survives:
        again = project.start(DATASET)
        wait_for(lambda: not job.is_running())
        pause.unlink()
        assert again.wait(PATIENCE) == 0
        assert "stops process" in project.log("simulate/decay/train/0")
        assert project.ran(DATASET) == set()
    else:
        pause.unlink()
        assert project.ran(DATASET) == project.matching("simulate/decay/train/0", *DATA[1:])


def test_a_living_workflow_keeps_its_lock(project):
    pause = paused(project)
    workflow = project.start(DATASET)
    block_in_work(project)
    assert "cannot be locked" in project.snakemake(DATASET, fails=True)
    pause.unlink()
    assert workflow.wait(PATIENCE) == 0


@pytest.mark.parametrize("stage", ["collect", "dataset", "train", "evaluate"])
def test_a_failed_job_is_not_forgotten(project, stage):
    """Its old output is gone, but what was made from that still stands, and must not pass for up to date."""
    project.insert(f"{stage}.py", stage, "raise ValueError('out of order')")
    for _ in range(2):
        assert "out of order" in project.snakemake("rest", fails=True)


def test_a_full_disk(project):
    """A block that finds no room: one sentence, nothing of it kept; with room it runs, and what follows."""
    survives_a_full_disk(project)
