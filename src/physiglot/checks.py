"""Checks of the configuration that need more than one of its parts: names, lengths, and the `Params` of each module.

Nothing is imported for them: the `Params` of every system, model and task are taken out of the source (see `symbols`).
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from . import imports, sources, symbols
from .names import listed, modules, named
from .strict import ConfigError, Strict, check
from .symbols import PACKAGE, load

if TYPE_CHECKING:
    from .config import Config, Model, Study, System

RESERVED = ("all", "simulate", "ingest", "collect", "dataset", "train", "embed", "predict", "evaluate", "plot", "table")


def params_of(kind: str, module: str, key: str) -> type[Strict]:
    """The `Params` class of `physiglot.<kind>.<module>`, without importing the module."""
    known = modules(kind)
    if module not in known:
        raise ConfigError(
            f"configuration error: {key}: {module!r}: no such file {kind}/{module}.py; allowed: {listed(known, module)}"
        )
    return _schema(f"{kind}.{module}")


@cache
def _schema(module: str) -> type[Strict]:
    return load(module, "Params")


def _check_systems(config: Config) -> None:
    for name, system in config.systems.items():
        schema = params_of("systems", system.module, f"systems.{name}.module")
        for split, s in system.splits.items():
            check(schema, {**system.params, **s.params}, f"systems.{name}.params (split {split})")
        if not system.splits:
            check(schema, system.params, f"systems.{name}.params")
        sources.check_simulated(f"systems.{name}", system)
        for split in system.imports:
            named(f"systems.{name}.imports", split, system.splits)
        imports.check(f"systems.{name}", system)
        for dataset, d in system.datasets.items():
            for split in d.noise.splits if d.noise else []:
                named(f"systems.{name}.datasets.{dataset}.noise.splits", split, system.splits)


def _check_embedding(key: str, model: Model) -> None:
    """A model whose `embedding` argument has no default needs one; an embedding is a model with an `embed`."""
    needed = "embedding" in symbols.required(f"models.{model.module}", "Model", "__init__")
    if needed and model.embedding is None:
        raise ConfigError(f"configuration error: {key}.embedding: a required key is missing: {model.module} needs one")
    part = model.embedding
    if part and (PACKAGE / f"models/{part.module}.py").is_file():
        embeddings = [m for m in modules("models") if "embed" in symbols.methods(f"models.{m}", "Model")]
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
    if own.training.source != other.training.source:
        raise ConfigError(
            f"configuration error: {key}.weights: {study.weights!r}: it learns from {other.training.source}; "
            f"allowed: a study that learns from {own.training.source}"
        )


def _check_studies(config: Config) -> None:
    for name, study in config.studies.items():
        key = f"studies.{name}"
        named(f"{key}.paper", study.paper, config.papers)
        named(f"{key}.system", study.system, config.systems)
        system = config.systems[study.system]
        if study.dataset is not None:
            named(f"{key}.dataset", study.dataset, system.datasets if system.splits else ["null"])
        named(f"{key}.model", study.model, config.models)
        named(f"{key}.task", study.task, config.tasks)
        sources.check_training(key, study, config.models[study.model], system)
        _check_options(f"{key}.predict", config.models[study.model].module, study.predict)
        _check_asked(key, config, study)
        sources.check_samples(key, config, study)
        _check_ranks(key, study, config.models[study.model])
        if study.weights is not None:
            named(f"{key}.weights", study.weights, config.studies)
            _check_weights(key, config, study)
            if study.seeds != config.studies[study.weights].seeds:
                raise ConfigError(
                    f"configuration error: {key}.seeds: {study.seeds}: must equal those of {study.weights}, "
                    "whose weights it uses"
                )


def _check_asked(key: str, config: Config, study: Study) -> None:
    """What the task asks for: of splits that are there, of members that are there, of a model that can do it."""
    params, module, system = (
        config.tasks[study.task].params,
        config.models[study.model].module,
        config.systems[study.system],
    )
    for kind, method in (("rollouts", "predict"), ("readings", "read")):
        if params.get(kind) and method not in symbols.methods(f"models.{module}", "Model"):
            raise ConfigError(
                f"configuration error: {key}.model: {study.model!r}: {module} has no {method}, which the {kind} of the "
                f"task {study.task} need"
            )
        if params.get(kind) and (study.dataset is None or config.models[study.model].training.source == "energy"):
            raise ConfigError(
                f"configuration error: {key}.task: {study.task!r}: its {kind} start from data; "
                "allowed for a model that learns from an energy: tasks with samples"
            )
        for name, asked in params.get(kind, {}).items():
            split, place = asked.get("split", "test"), f"tasks.{study.task}.params.{kind}.{name}"
            named(f"{place}.split", split, system.splits)
            members = asked.get("members") or 0
            if members > system.splits[split].members and split not in system.imports:
                raise ConfigError(
                    f"configuration error: {place}.members: {members}: "
                    f"split {split} of {study.system} has {system.splits[split].members} members"
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
    """The options of predict against the signatures of `models.<module>.Model`, which is not imported for it."""
    methods = ("predict", "read")
    allowed = {k: v for m in methods for k, v in symbols.options(f"models.{module}", "Model", m).items()}
    allowed.pop("parameters", None)
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
    schema = _schema(f"systems.{system.module}")
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
        if model.training.source == "energy":
            continue
        for (place, part), split in itertools.product(parts.items(), ("train", "val")):
            key = f"models.{study.model}.{place}training.window"
            _check_window(key, part.training.window, lengths[study.system], split)


def _check_window(key: str, window: int, lengths: dict[str, int], split: str) -> None:
    if window > lengths.get(split, window):
        raise ConfigError(
            f"configuration error: {key}: {window}: longer than the series of {split}; "
            f"allowed: up to {lengths[split]} steps"
        )


def everything(config: Config) -> str:
    """All checks: "passed", or one sentence for the first that fails (ConfigError)."""
    _schema.cache_clear()
    _check_names(config)
    _check_systems(config)
    _check_models(config)
    _check_studies(config)
    _check_lengths(config)
    return "passed"
