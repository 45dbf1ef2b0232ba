# Functions only: what each stage reads, what it depends on, which command runs it.

import json
import os
import subprocess
import sys
from functools import cache, wraps
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from physiglot import config as schema
from physiglot import files, fingerprint, imports, processes
from physiglot.findings import Findings
from snakemake.exceptions import WorkflowError

FOUND = Findings(Path(".physiglot/found.json"), owner=workflow.is_main_process)

try:
    # A job of SLURM reads what the main process has checked.
    typed = schema.reread(config, workflow.config_settings.config_args or [])
    given = schema.expand(typed, Path(workflow.basedir))
    CONFIG = schema.validate(given, FOUND) if workflow.is_main_process else schema.Config.model_validate(given)
except schema.ConfigError as error:
    raise WorkflowError(str(error))

if workflow.is_main_process:
    MARK = processes.free_folder()

URI = os.environ.get("MLFLOW_TRACKING_URI") or CONFIG.tracking.uri or ""
os.environ.update(MLFLOW_TRACKING_URI=URI, PHYSIGLOT_DASK=CONFIG.dask.model_dump_json())


wildcard_constraints:
    system="|".join(CONFIG.systems),
    split=r"\w+",
    bundle=r"\d+",
    file=r"[\w.+-]+",
    dataset=r"\w+",
    study="|".join(CONFIG.studies),
    seed=r"\d+",
    part="embedding|model",
    paper="|".join(CONFIG.papers),


WILDCARDS = ("system", "split", "bundle", "file", "dataset", "study", "seed", "part", "paper")


def once(function):
    """What `function` gives for each set of wildcards, found once: Snakemake asks again after every checkpoint."""
    found = {}

    @wraps(function)
    def asked(w):
        key = tuple(getattr(w, name, None) for name in WILDCARDS)
        if key not in found:
            found[key] = function(w)
        return found[key]

    return asked


def command(stage, before="", **inputs):
    """The shell command of a stage; its whole output goes to its log, and its threads are those of the rule.

    It takes the place of the shell, which would end at a SIGTERM before a training has saved its state.
    """
    given = " ".join(f"--{name} {value}" for name, value in inputs.items())
    return (
        "exec env OMP_NUM_THREADS={threads} NUMBA_NUM_THREADS={threads} RAYON_NUM_THREADS={threads} PYTHONPATH=src "
        f"{before}python -m physiglot.{stage} --spec {{params.spec:q}} --code {{params.code}} --about {{params.about:q}} "
        f"--log {{log}} {given} > {{log}} 2>&1"
    )


def inputs(w, input):
    """The inputs that a job has, as options of its command: a study without data has no data set."""
    return " ".join(f"--{name} {value}" for name, value in input.items() if value)


def plain(model, **changes):
    """A part of the configuration as plain values."""
    return {**model.model_dump(), **changes}


# --- systems: blocks, imports, collect, dataset ------------------------------------------------

# The HDF5 files as they lie there when the workflow starts: system -> split -> stem -> path.
IMPORTS = {
    name: {split: imports.found(folder) for split, folder in s.imports.items()} for name, s in CONFIG.systems.items()
}


def blocks_of(system):
    """Split -> number of blocks; the last one is simulated whole, so that a growing ensemble only adds blocks."""
    s = CONFIG.systems[system]
    return {name: -(-split.members // s.block) for name, split in s.splits.items()}


@cache
def bundles_of(system):
    """Split -> the blocks of each job."""
    size = CONFIG.systems[system].bundle
    return {
        split: [list(range(i, min(i + size, blocks))) for i in range(0, blocks, size)]
        for split, blocks in blocks_of(system).items()
    }


def bundle_files(w):
    return [
        f"data/{w.system}/bundles/{split}/{bundle}.json"
        for split, bundles in bundles_of(w.system).items()
        for bundle in range(len(bundles))
    ]


def forget_lost_blocks():
    """Snakemake sees the list of a bundle, not its blocks: where one of them is gone, the list goes too."""
    for system in CONFIG.systems:
        for path in Path(f"data/{system}/bundles").glob("*/*.json"):
            if not path.name.endswith(".run.json"):
                listed = json.loads(path.read_text())
                if not all(Path(f"data/{system}/{name}/zarr.json").is_file() for name in listed):
                    path.unlink()


if workflow.is_main_process:
    forget_lost_blocks()


def imported_files(w):
    return [
        f"data/{w.system}/imported/{split}/{stem}.zarr/zarr.json"
        for split, found in IMPORTS[w.system].items()
        for stem in found
    ]


def block_spec(w, blocks):
    s = CONFIG.systems[w.system]
    params = {**s.params, **s.splits[w.split].params}
    keys = {"split": w.split, "blocks": blocks, "members": s.block, "chunk": s.chunk}
    return fingerprint.canonical({"module": s.module, "params": params, "seed": s.seed, **keys})


def bundle_spec(w):
    return block_spec(w, bundles_of(w.system)[w.split][int(w.bundle)])


def block_code(w):
    name = CONFIG.systems[w.system].module
    return CODE("simulate", f"systems.{name}:simulate", f"systems.{name}:Params")


def ingest_file(w):
    return str(IMPORTS[w.system][w.split][w.file])


@cache
def content(path, most=10_000_000):
    """What is in a file. Large ones, of which Snakemake makes no checksum either, go by size and time."""
    stat = os.stat(path)
    return fingerprint.of(path) if stat.st_size <= most else f"{stat.st_size} {stat.st_mtime_ns}"


def ingest_spec(w):
    """The content is part of it: Snakemake overlooks a file that is replaced by an older one."""
    s = CONFIG.systems[w.system]
    layout = {
        "module": s.module,
        "block": s.block,
        "chunk": s.chunk,
        "content": content(ingest_file(w)),
    }
    return fingerprint.canonical({**imports.series(s, w.split), **layout})


@once
def collect_spec(w):
    """`after` stands for the blocks, which are too many to be named as inputs."""
    imported = {split: list(found) for split, found in IMPORTS[w.system].items()}
    return fingerprint.canonical({"blocks": blocks_of(w.system), "imported": imported, "after": after_blocks(w)})


@once
def dataset_spec(w):
    s = CONFIG.systems[w.system]
    splits = {name: split.members for name, split in s.splits.items()}
    shape = {"splits": splits, "block": s.block, "chunk": s.chunk}
    return fingerprint.canonical({**shape, **plain(s.datasets[w.dataset])})


# --- studies: train, embed, predict, evaluate, plot --------------------------------------------


def study(w):
    return CONFIG.studies[w.study]


def model(w):
    return CONFIG.models[study(w).model]


def task(w):
    return CONFIG.tasks[study(w).task]


def ask_checkpoints(s):
    """Raises what Snakemake catches as long as the blocks or the data set of a study are not known."""
    if s.dataset is not None:
        checkpoints.collect.get(system=s.system)
        checkpoints.dataset.get(system=s.system, dataset=s.dataset)


def known(path, reads=lambda w: True):
    """An input of what lies below the dataset: this path, once the blocks and the dataset are known.

    Every rule below the checkpoints must ask them; otherwise a block made again with the same content
    would run the whole chain. A job that does not read data (`reads`) is not below them.
    """

    def input_of(w):
        if reads(w):
            ask_checkpoints(study(w))
        return path(w) if callable(path) else path.format(**w)

    return input_of


def dataset_file(w):
    s = study(w)
    return f"data/{s.system}/datasets/{s.dataset}.zarr/zarr.json" if s.dataset is not None else []


def weights_file(w):
    return f"runs/{study(w).weights or w.study}/{w.seed}/model/weights.pt"


def has_embedding(w):
    return w.part == "model" and model(w).embedding is not None


def embedding_file(w):
    return f"runs/{w.study}/{w.seed}/embedding/weights.pt" if has_embedding(w) else []


def embedded_file(w):
    return f"runs/{w.study}/{w.seed}/embedded.zarr/zarr.json" if has_embedding(w) else []


def part(w):
    return model(w) if w.part == "model" else model(w).embedding


@once
def train_spec(w):
    chosen = {k: plain(part(w))[k] for k in ("module", "params", "training")}
    return fingerprint.canonical({"part": chosen, "seed": int(w.seed), **target_learnt(w)})


def CODE(*entries):
    """The code of these entries as it stands when the workflow starts: an edit while it runs counts for the next run."""
    return FOUND(" ".join(entries), lambda: fingerprint.code(*entries))


def parts_code(*parts):
    """The code of the model files of these parts of the configuration."""
    modules = dict.fromkeys(p.module for p in parts if p)
    return [f"models.{m}:{symbol}" for m in modules for symbol in ("Model", "Params")]


@once
def train_code(w):
    parts = parts_code(part(w), model(w).embedding if w.part == "model" else None)
    return CODE("train", *parts, *target_code([target_learnt(w)]))


@once
def embed_spec(w):
    s = CONFIG.systems[study(w).system]
    return fingerprint.canonical({"splits": ["train", "val"], "block": s.block, "chunk": s.chunk})


@once
def embed_code(w):
    return CODE("embed", *parts_code(model(w).embedding))


@once
def predict_spec(w):
    asked = {kind: task(w).params[kind] for kind in ("rollouts", "readings", "samples") if kind in task(w).params}
    options = {**model(w).predict, **study(w).predict}
    return fingerprint.canonical({**asked, "options": options, **target_asked(study(w))})


@once
def predict_code(w):
    return CODE("predict", *parts_code(model(w), model(w).embedding), *target_code(targets_of(w)))


@once
def task_spec(w):
    return fingerprint.canonical({"task": plain(task(w)), **target_asked(study(w))})


def task_code(stage):
    def code_of(w):
        own = [f"tasks.{task(w).module}:{symbol}" for symbol in (stage, "Params")]
        return CODE(stage, *own, *target_code([target_asked(study(w))]))

    return code_of


DEFAULTS = workflow.resource_settings.default_resources or {}


def partition(w):
    """On SLURM: where the GPUs are, if the profile names it and the study wants them (profiles/slurm/config.yaml)."""
    name = "gpu_partition" if study(w).gpu and "gpu_partition" in DEFAULTS else "slurm_partition"
    return str(DEFAULTS[name].raw) if name in DEFAULTS else None


# --- tracking ----------------------------------------------------------------------------------


def about(w):
    """The wildcards of a job, for its run record. Nothing that may change without a re-run:
    what else is to be known of a study stands in .physiglot/studies.json."""

    return fingerprint.canonical(dict(w))


def write_studies():
    """Study -> paper, variant, … for the run records: outside the jobs' parameters, so that a new label runs nothing."""
    keys = {"paper", "variant", "label", "system", "dataset"}
    text = fingerprint.canonical(
        {name: s.model_dump(include=keys, exclude_none=True) for name, s in CONFIG.studies.items()}
    )
    path = Path(".physiglot/studies.json")
    if not path.is_file() or path.read_text() != text:
        files.write(path, text)


write_studies()


def publish():
    """Publish the run records to MLflow, from this one process; a failure of it never fails the workflow."""
    if URI:
        given = {**os.environ, "PYTHONPATH": str(Path(workflow.basedir) / "src")}
        subprocess.run(
            [sys.executable, "-m", "physiglot.track", "publish", "--uri", URI],
            check=False,
            env=given,
        )
