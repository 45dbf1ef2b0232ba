"""The schema of the configuration: what a system, a model, a task, a study and a paper are.

Everything is checked before anything runs: unknown keys, wrong types, impossible values, names that do not
exist, and the parameters of every system, model and task against the `Params` of its own module (which is
taken out of the source without importing torch or numba, see `symbols`).
"""

import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from . import imports, symbols
from .strict import ConfigError, Strict, check
from .symbols import PACKAGE, load

RESERVED = ("all", "simulate", "ingest", "collect", "dataset", "train", "embed", "predict", "evaluate", "plot", "table")


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


class Dataset(Strict):
    noise: Noise | None = Field(None, description="measurement noise; none if omitted")
    smooth: Smooth | None = Field(None, description="filter of the noisy splits; none if omitted")


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
    splits: dict[str, Split] = Field(description="what is simulated; train and val are required")
    imports: dict[str, str] = Field({}, description="split -> folder of HDF5 files that join it, see docs/import.md")
    datasets: dict[str, Dataset] = Field({"clean": Dataset()}, description="what is made of the blocks, by name")

    @model_validator(mode="after")
    def _train_split_and_chunks(self) -> "System":
        if "train" not in self.splits or "val" not in self.splits:
            raise ValueError("splits must name train and val")
        if self.block % self.chunk:
            raise ValueError(f"block {self.block} must be a multiple of chunk {self.chunk}")
        return self


class Training(Strict):
    window: int = Field(64, ge=1, description="saved steps of one training window")
    stride: int | None = Field(None, ge=1, description="window starts; a random start in each series if omitted")
    batch: int = Field(64, ge=1, description="windows per step")
    epochs: int | None = Field(None, ge=0, description="passes through the training split, instead of steps")
    steps: int | None = Field(None, ge=0, description="optimiser steps, instead of epochs")
    optimizer: Literal["adam", "adamw"] = Field("adam", description="Adam, or Adam with decoupled weight decay")
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
    select: Literal["last", "best"] = Field("last", description="which weights are kept: best is by validation loss")
    warm_start: bool = Field(False, description="start from the previous weights when only the data grew")
    in_memory: float = Field(4.0, ge=0, description="GiB of data that may be held in RAM; above, shards stream")

    @model_validator(mode="after")
    def _one_length(self) -> "Training":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("exactly one of epochs and steps must be given")
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
    variant: Literal["faithful", "ours", "baseline", "ablation"] = Field(
        description="what it is in that table, see docs/add_a_study.md"
    )
    label: str = Field(description="name of the model in tables and figures")
    system: str = Field(description="name under systems")
    dataset: str = Field("clean", description="data set of that system")
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


def _modules(kind: str) -> list[str]:
    return sorted(p.stem for p in (PACKAGE / kind).glob("*.py") if p.stem != "__init__")


def params_of(kind: str, module: str, key: str) -> type[Strict]:
    """The `Params` class of `physiglot.<kind>.<module>`, without importing the module."""
    known = _modules(kind)
    if module not in known:
        raise ConfigError(
            f"configuration error: {key}: {module!r}: no such file {kind}/{module}.py; allowed: {', '.join(known)}"
        )
    return load(f"{kind}.{module}", "Params")


def _named(key: str, name: str, known: Any) -> None:
    if name not in known:
        raise ConfigError(f"configuration error: {key}: {name!r}: no such name; allowed: {', '.join(known)}")


def _check_systems(config: Config) -> None:
    for name, system in config.systems.items():
        schema = params_of("systems", system.module, f"systems.{name}.module")
        for split, s in system.splits.items():
            check(schema, {**system.params, **s.params}, f"systems.{name}.params (split {split})")
        for split in system.imports:
            _named(f"systems.{name}.imports", split, system.splits)
        imports.check(f"systems.{name}", system)
        for dataset, d in system.datasets.items():
            for split in d.noise.splits if d.noise else []:
                _named(f"systems.{name}.datasets.{dataset}.noise.splits", split, system.splits)


def _check_embedding(key: str, model: Model) -> None:
    """A model whose `embedding` argument has no default needs one; an embedding is a model with an `embed`."""
    needed = "embedding" in symbols.required(f"models.{model.module}", "Model", "__init__")
    if needed and model.embedding is None:
        raise ConfigError(f"configuration error: {key}.embedding: a required key is missing: {model.module} needs one")
    part = model.embedding
    if part and (PACKAGE / f"models/{part.module}.py").is_file():
        embeddings = [m for m in _modules("models") if "embed" in symbols.methods(f"models.{m}", "Model")]
        if part.module not in embeddings:
            raise ConfigError(
                f"configuration error: {key}.embedding.module: {part.module!r}: it does not embed; "
                f"allowed: {', '.join(embeddings)}"
            )


def _check_models(config: Config) -> None:
    for name, model in config.models.items():
        check(params_of("models", model.module, f"models.{name}.module"), model.params, f"models.{name}.params")
        _check_options(f"models.{name}.predict", model.module, model.predict)
        _check_embedding(f"models.{name}", model)
        if part := model.embedding:
            key = f"models.{name}.embedding"
            check(params_of("models", part.module, f"{key}.module"), part.params, f"{key}.params")
    for name, task in config.tasks.items():
        check(params_of("tasks", task.module, f"tasks.{name}.module"), task.params, f"tasks.{name}.params")


def _check_weights(key: str, config: Config, study: Study) -> None:
    """A study that uses the weights of another has a model of the same kind: only what predict does may differ."""
    own, other = config.models[study.model], config.models[config.studies[str(study.weights)].model]
    kept = {"module", "params", "embedding"}
    if own.model_dump(include=kept) != other.model_dump(include=kept):
        name = config.studies[str(study.weights)].model
        raise ConfigError(
            f"configuration error: {key}.weights: {study.weights!r}: its model {name} is not {study.model}; "
            "allowed: a study with the same module, params and embedding"
        )


def _check_studies(config: Config) -> None:
    for name, study in config.studies.items():
        key = f"studies.{name}"
        _named(f"{key}.paper", study.paper, config.papers)
        _named(f"{key}.system", study.system, config.systems)
        system = config.systems[study.system]
        _named(f"{key}.dataset", study.dataset, system.datasets)
        _named(f"{key}.model", study.model, config.models)
        _named(f"{key}.task", study.task, config.tasks)
        _check_options(f"{key}.predict", config.models[study.model].module, study.predict)
        for rollout, r in config.tasks[study.task].params.get("rollouts", {}).items():
            split = r.get("split", "test")
            _named(f"tasks.{study.task}.params.rollouts.{rollout}.split", split, system.splits)
            members = r.get("members") or 0
            if members > system.splits[split].members and split not in system.imports:
                raise ConfigError(
                    f"configuration error: tasks.{study.task}.params.rollouts.{rollout}.members: {members}: "
                    f"split {split} of {study.system} has {system.splits[split].members} members"
                )
        _check_ranks(key, study, config.models[study.model])
        if study.weights is not None:
            _named(f"{key}.weights", study.weights, config.studies)
            _check_weights(key, config, study)
            if study.seeds != config.studies[study.weights].seeds:
                raise ConfigError(
                    f"configuration error: {key}.seeds: {study.seeds}: must equal those of {study.weights}, "
                    "whose weights it uses"
                )


def _check_ranks(key: str, study: Study, model: Model) -> None:
    if study.ranks % study.nodes:
        raise ConfigError(
            f"configuration error: {key}.ranks: {study.ranks}: allowed: multiples of its nodes, {study.nodes}"
        )
    for place, part in {"": model, "embedding.": model.embedding}.items():
        if part and part.training.batch % study.ranks:
            where = f"models.{study.model}.{place}training.batch"
            raise ConfigError(
                f"configuration error: {key}.ranks: {study.ranks}: allowed: divisors of {where}, {part.training.batch}"
            )


def _check_names(config: Config) -> None:
    """Names become folders and wildcards, and papers targets beside the rules."""
    kinds = ("systems", "models", "tasks", "studies", "papers")
    places: dict[str, Any] = {kind: getattr(config, kind) for kind in kinds}
    for name, system in config.systems.items():
        places |= {f"systems.{name}.{kind}": getattr(system, kind) for kind in ("splits", "datasets")}
    for place, names in places.items():
        for name in names:
            if not re.fullmatch(r"\w+", name, re.ASCII):
                raise ConfigError(
                    f"configuration error: {place}: {name!r}: allowed in a name: letters of English, digits and _"
                )
    for name in config.papers:
        if name in RESERVED:
            raise ConfigError(
                f"configuration error: papers: {name!r}: a stage has this name; allowed: any but {', '.join(RESERVED)}"
            )


def _check_options(key: str, module: str, options: dict) -> None:
    """The options of predict against the signature of `models.<module>.Model.predict`, which is not imported for it."""
    allowed = symbols.options(f"models.{module}", "Model", "predict")
    for name, value in options.items():
        if name not in allowed:
            text = ", ".join(allowed) or "none"
            raise ConfigError(
                f"configuration error: {key}.{name}: unknown option of {module}'s predict; allowed: {text}"
            )
        if allowed[name] and value not in allowed[name]:
            text = ", ".join(map(str, allowed[name]))
            raise ConfigError(f"configuration error: {key}.{name}: {value!r}: allowed: {text}")


def _steps(system: System) -> dict[str, int]:
    """Split -> saved states of its series, for systems that say so."""
    schema = load(f"systems.{system.module}", "Params")
    found = {name: schema(**{**system.params, **split.params}) for name, split in system.splits.items()}
    return {name: params.steps for name, params in found.items() if hasattr(params, "steps")}


def _check_lengths(config: Config) -> None:
    """Windows, of training and of filters, that are longer than the series."""
    lengths = {name: _steps(system) for name, system in config.systems.items()}
    for name, system in config.systems.items():
        for dataset, d in system.datasets.items():
            if d.noise and d.smooth:
                key = f"systems.{name}.datasets.{dataset}.smooth.window"
                for split in d.noise.splits:
                    _check_window(key, d.smooth.window, lengths[name], split)
    for study in config.studies.values():
        model = config.models[study.model]
        parts = {"": model, "embedding.": model.embedding} if model.embedding else {"": model}
        for (place, part), split in itertools.product(parts.items(), ("train", "val")):
            key = f"models.{study.model}.{place}training.window"
            _check_window(key, part.training.window, lengths[study.system], split)


def _check_window(key: str, window: int, lengths: dict[str, int], split: str) -> None:
    if window > lengths.get(split, window):
        raise ConfigError(
            f"configuration error: {key}: {window}: longer than the series of {split}; "
            f"allowed: up to {lengths[split]} steps"
        )


def validate(values: dict) -> Config:
    """The configuration, checked whole. Raises ConfigError with one sentence about what is wrong."""
    config = check(Config, values)
    _check_names(config)
    _check_systems(config)
    _check_models(config)
    _check_studies(config)
    _check_lengths(config)
    return config


def expand(values: dict, folder: Path) -> dict:
    """`values` laid over the file that its key `base` names (relative to `folder`), if it has one."""
    values = dict(values)
    base = values.pop("base", None)
    if base is None:
        return values
    path = folder / base
    if not path.is_file():
        raise ConfigError(f"configuration error: base: {base!r}: no such file in {folder}")
    merged = expand(read(path), folder)
    _merge(merged, values)
    return merged


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
            _merge(into[key], value)
        else:
            into[key] = value
