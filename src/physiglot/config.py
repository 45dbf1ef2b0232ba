"""The schema of the configuration: what a system, a model, a task, a study and a paper are.

Everything is checked before anything runs: unknown keys, wrong types, impossible values, names that do not
exist, and the parameters of every system, model and task against the `Params` of its own module (which is
taken out of the source without importing torch or numba, see `symbols`).
"""

from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from . import checks, repeat
from .findings import Findings
from .fingerprint import digest
from .strict import ConfigError, Strict, check


class Tracking(Strict):
    uri: str | None = Field("sqlite:///mlflow.db", description="MLflow store; MLFLOW_TRACKING_URI overrides it")


class Dask(Strict):
    scheduler: Literal["threads", "distributed", "slurm"] = Field(
        "threads", description="threads of one process, worker processes, or workers that are SLURM jobs"
    )
    workers: int = Field(2, ge=1, description="workers of distributed and slurm")
    memory: str = Field("2GiB", description="memory limit of one worker")
    minutes: int = Field(60, ge=1, description="time limit of a worker that is a SLURM job")


class Noise(Strict):
    level: float = Field(gt=0, lt=1, description="p in x(1 + p eta), or p std eta; eta ~ N(0, 1) i.i.d.")
    mode: Literal["relative", "std"] = Field(
        "relative", description="noise in proportion to the value, or to the standard deviation of the field"
    )
    splits: list[str] = Field(["train", "val"], description="splits that are measured with noise")
    seed: int = Field(0, ge=0, description="seed of the noise")


class Smooth(Strict):
    window: int = Field(15, ge=3, description="Savitzky-Golay window in saved steps, odd")
    order: int = Field(4, ge=0, description="degree of its polynomials")

    @model_validator(mode="after")
    def _odd_and_longer_than_order(self) -> "Smooth":
        if self.window % 2 == 0 or self.window <= self.order:
            raise ValueError(f"window {self.window} must be odd and above order {self.order}")
        return self


class Sites(Strict):
    count: int = Field(20, ge=1, description="sites of one draw, uniform with replacement")
    draws: int = Field(1, ge=1, description="draws that stand side by side: the data have count x draws fields")
    per: Literal["run", "chain"] = Field("chain", description="the same sites in all members, or other ones in each")
    lattice: bool = Field(False, description="keep the last lattice of each member too, as `lattice`")
    seed: int = Field(0, ge=0, description="seed of the draws")


class Dataset(Strict):
    noise: Noise | None = Field(None, description="measurement noise; none if omitted")
    smooth: Smooth | None = Field(None, description="filter of the noisy splits; none if omitted")
    steps: int | None = Field(None, ge=1, description="first saved steps that are taken; all if omitted")
    sites: Sites | None = Field(None, description="series of a few drawn sites instead of lattices; none if omitted")

    @model_validator(mode="after")
    def _noise_is_for_fields(self) -> "Dataset":
        if self.noise and self.sites:
            raise ValueError("noise and sites exclude each other")
        return self


class Split(Strict):
    members: int = Field(ge=0, description="members to simulate; 0 where all of them are imported")
    params: dict[str, Any] = Field({}, description="parameters of the system that differ in this split")


class System(Strict):
    module: str = Field(description="the file systems/<module>.py")
    seed: int = Field(0, ge=0, description="seed of its random streams")
    block: int = Field(256, ge=1, description="members of one immutable block, the unit of work")
    chunk: int = Field(64, ge=1, description="members of one chunk; chunks of a block share one shard")
    bundle: int = Field(1, ge=1, description="blocks that one job simulates: on a cluster a job should last minutes")
    params: dict[str, Any] = Field({}, description="parameters of the system, see there")
    splits: dict[str, Split] = Field(
        {}, description="what is simulated, train and val at least; nothing if only its energy is used"
    )
    imports: dict[str, str] = Field({}, description="split -> folder of HDF5 files that join it, see docs/import.md")
    datasets: dict[str, Dataset] = Field({"clean": Dataset()}, description="what is made of the blocks, by name")

    @model_validator(mode="after")
    def _train_split_and_chunks(self) -> "System":
        if (self.splits or self.imports) and not {"train", "val"} <= set(self.splits):
            raise ValueError("splits must name train and val")
        if self.block % self.chunk:
            raise ValueError(f"block {self.block} must be a multiple of chunk {self.chunk}")
        return self


class Validation(Strict):
    split: str = Field("val", description="the split that is validated on")
    windows: int | None = Field(256, ge=1, description="random windows; if null, the first window of each series")
    times: int | None = Field(None, ge=1, description="how often, evenly spread; about ten times if omitted")


class Training(Strict):
    source: Literal["data", "energy"] = Field(
        "data", description="what is learnt from: a data set, or the energy of the system alone"
    )
    window: int = Field(64, ge=1, description="saved steps of one training window")
    stride: int | None = Field(None, ge=1, description="window starts; a random start in each series if omitted")
    batch: int = Field(64, ge=1, description="windows per step")
    epochs: int | None = Field(None, ge=0, description="passes through the training split, instead of steps")
    steps: int | None = Field(None, ge=0, description="optimiser steps, instead of epochs")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        "adam",
        description="Adam, Adam with decoupled weight decay, or plain descent, for models whose gradient is the step",
    )
    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of the optimiser")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights that are kept")
    schedule: Literal["constant", "cosine", "exponential", "warm_restarts"] = Field(
        "constant", description="learning rate over the training"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="fraction of the training with a rising rate")
    decay: float = Field(0.995, gt=0, le=1, description="factor per epoch of the exponential schedule")
    restart: int = Field(14, ge=1, description="epochs of the first cosine cycle; each next is twice as long")
    eps: float = Field(1e-8, gt=0, description="ε of Adam; Keras has 1e-7")
    validation: Validation = Field(Validation(), description="what the weights are judged by while they are trained")
    select: Literal["last", "best"] = Field(
        "last",
        description="weights that are kept: best is by the validation score of the model if it has one, else by loss",
    )
    warm_start: bool = Field(False, description="start from the previous weights when only the data grew")
    tf32: bool = Field(False, description="products of float32 on a GPU in TensorFloat-32: faster, to three digits")
    in_memory: float = Field(4.0, ge=0, description="GiB of data that may be held in RAM; above, shards stream")

    @model_validator(mode="after")
    def _one_length(self) -> "Training":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("exactly one of epochs and steps must be given")
        if self.source == "energy" and self.steps is None:
            raise ValueError("a training from the energy has no epochs: give steps")
        return self


class Part(Strict):
    module: str = Field(description="the file models/<module>.py")
    params: dict[str, Any] = Field({}, description="parameters of the model, see there")
    training: Training = Field(description="how it is trained")


class Model(Part):
    embedding: Part | None = Field(None, description="a model that is trained first and frozen; none if omitted")
    predict: dict[str, Any] = Field({}, description="options of the model's predict")


class Task(Strict):
    module: str = Field(description="the file tasks/<module>.py")
    params: dict[str, Any] = Field({}, description="parameters of the task, see there")


class Study(Strict):
    paper: str = Field(description="the paper whose table it is in")
    variant: Literal["faithful", "sound", "ours", "baseline", "ablation", "control"] = Field(
        description="what it is in that table, see docs/add_a_study.md"
    )
    label: str = Field(description="name of the model in tables and figures")
    system: str = Field(description="name under systems")
    dataset: str | None = Field(
        "clean", description="data set of that system; null where only its energy is used, then nothing is simulated"
    )
    model: str = Field(description="name under models")
    task: str = Field(description="name under tasks")
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1, description="one training each")
    weights: str | None = Field(None, description="a study whose weights are used instead of training")
    predict: dict[str, Any] = Field({}, description="options of predict that differ from the model's")
    published: dict[str, float] = Field({}, description="metric -> value in the publication")
    source: str = Field("", description="where the published values stand")
    threads: int = Field(1, ge=1, description="cores of its training and prediction")
    gpu: bool = Field(False, description="on SLURM: train and predict on GPUs, one for each rank of the training")
    ranks: int = Field(1, ge=1, description="processes that share its training; they must divide training.batch")
    nodes: int = Field(1, ge=1, description="on SLURM: machines over which the ranks are spread evenly")

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is given twice")
        return seeds


class Paper(Strict):
    title: str = Field(description="heading of its table and of its part of the report")
    reference: str = Field(description="the publication")
    note: str = Field("", description="what the table means; printed under it")


class Config(Strict):
    tracking: Tracking = Field(Tracking(), description="MLflow")
    dask: Dask = Field(Dask(), description="how data sets are made and embedded")
    systems: dict[str, System] = Field(description="what is simulated")
    models: dict[str, Model] = Field(description="what is trained")
    tasks: dict[str, Task] = Field(description="what is asked of a trained model")
    studies: dict[str, Study] = Field(description="the lines of the tables")
    papers: dict[str, Paper] = Field(description="groups of studies; each name is a target")


def validate(values: dict, found: Findings | None = None) -> Config:
    """The configuration, checked whole. Raises ConfigError with one sentence about what is wrong.

    What has passed is noted in `found` and passes again, unless it imports files, which may have changed.
    """
    config = check(Config, repeat.unrolled(values))
    if found is None or any(system.imports for system in config.systems.values()):
        checks.everything(config)
    else:
        found(f"checked {digest(config.model_dump_json())}", lambda: checks.everything(config))
    return config


def expand(values: dict, folder: Path) -> dict:
    """`values` laid over the files that its key `base` names (relative to `folder`), if it has one, and unrolled.

    `only`, a name of studies or systems with wildcards or a list of them, leaves out all other studies.
    """
    return _kept(repeat.unrolled(_laid(values, folder)))


def _kept(values: dict) -> dict:
    """The studies that the patterns `only` match by name or by system, those whose weights they use, their papers."""
    only, values = values.get("only"), {k: v for k, v in values.items() if k != "only"}
    if only is None:
        return values
    studies, names = values["studies"], set()
    for pattern in [only] if isinstance(only, str) else only:
        found = {k for k, s in studies.items() if fnmatch(k, pattern) or fnmatch(s.get("system", ""), pattern)}
        if not found:
            raise ConfigError(
                f"configuration error: only: {pattern!r}: no study or its system; allowed: their names, with * and ?"
            )
        names |= found
    names |= {s["weights"] for k, s in studies.items() if k in names and s.get("weights")}
    kept = {k: s for k, s in studies.items() if k in names}
    papers = {s.get("paper") for s in kept.values()}
    return {**values, "studies": kept, "papers": {k: p for k, p in values["papers"].items() if k in papers}}


def _laid(values: dict, folder: Path) -> dict:
    values = dict(values)
    bases = values.pop("base", [])
    merged: dict = {}
    for base in [bases] if isinstance(bases, str) else bases:
        path = folder / base
        if not path.is_file():
            raise ConfigError(f"configuration error: base: {base!r}: no such file in {folder}")
        _merge(merged, _laid(read(path), folder))
    _merge(merged, values)
    return merged


def load(path: Path) -> dict:
    """The configuration in a file, laid over its bases and unrolled."""
    return expand(read(path), path.parent)


def reread(values: dict, entries: list[str]) -> dict:
    """`values` with the entries `name=value` of `--config` read as YAML: Snakemake takes what is in them for text."""
    import yaml

    again: dict = {}
    _merge(again, values)
    for name, _, text in (entry.partition("=") for entry in entries):
        with suppress(yaml.YAMLError):  # *_name is a pattern to us and an alias to YAML
            _merge(again, {name: yaml.safe_load(text)})
    return again


def read(*paths: Path) -> dict:
    """The configuration files merged in order, later keys winning, as Snakemake merges them."""
    import yaml

    merged: dict = {}
    for path in paths:
        _merge(merged, yaml.safe_load(Path(path).read_text()) or {})
    return merged


def _merge(into: dict, other: dict) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            into[key] = dict(into[key])  # an anchor of YAML may share it with other entries
            _merge(into[key], value)
        else:
            into[key] = value
