"""Checks of the configuration: what a model learns from and is measured by, a data set or the energy of a system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import symbols, targets
from .names import arguments, modules, named
from .strict import ConfigError

if TYPE_CHECKING:
    from .config import Config, Model, Study, System


def check_simulated(key: str, system: System) -> None:
    """Splits with members need a system that simulates."""
    simulates = "simulate" in symbols.parse(f"{symbols.ROOT}.systems.{system.module}").definitions
    if not simulates and any(s.members for s in system.splits.values()):
        raise ConfigError(
            f"configuration error: {key}.splits: {system.module} simulates nothing; allowed: none, or imports"
        )


def _check_quantum(key: str, given: str, kind: str, module: str, system: str, name: str) -> None:
    """A model or task that says `QUANTUM` belongs to the systems that do, and to no others."""
    marked = {m for m in modules("systems") if "QUANTUM" in symbols.parse(f"{symbols.ROOT}.systems.{m}").definitions}
    quantum = "QUANTUM" in symbols.parse(f"{symbols.ROOT}.{kind}.{module}").definitions
    if quantum != (system in marked):
        allowed = marked if quantum else {m for m in modules("systems") if targets.described(m, {})} - marked
        purpose = "ground states" if quantum else "distributions"
        raise ConfigError(
            f"configuration error: {key}: {given!r}: {module} is for {purpose}, and the system {name} has another "
            f"target; allowed: systems with the module {', '.join(sorted(allowed))}"
        )


def check_training(key: str, study: Study, model: Model, system: System) -> None:
    """What a model learns from is there: a data set, or the target of its system."""
    if model.training.source == "data":
        if study.dataset is None:
            raise ConfigError(
                f"configuration error: {key}.dataset: None: the model {study.model} learns from data; allowed: "
                + ", ".join(system.datasets)
            )
        split = model.training.validation.split
        return named(f"models.{study.model}.training.validation.split", split, system.splits)
    _check_target(f"{key}.system", study.system, system, "learn from its energy")
    if "target" not in arguments(f"models.{model.module}", "Model", "__init__"):
        raise ConfigError(
            f"configuration error: models.{study.model}.training.source: 'energy': {model.module} has no argument "
            "target; allowed: 'data'"
        )
    _check_quantum(f"{key}.model", study.model, "models", model.module, system.module, study.system)
    if model.embedding or model.training.warm_start:
        name = "embedding" if model.embedding else "training.warm_start"
        raise ConfigError(f"configuration error: models.{study.model}.{name}: allowed with source data only")
    return None


def _check_target(key: str, name: str, system: System, purpose: str) -> None:
    """The system offers a target, and has its temperature."""
    module = system.module
    if targets.described(module, {}) is None:
        offering = [m for m in modules("systems") if targets.described(m, {}) is not None]
        raise ConfigError(
            f"configuration error: {key}: {name!r}: systems/{module}.py has no target, so nothing can {purpose}; "
            f"allowed: systems with the module {', '.join(offering) or '(none has one)'}"
        )
    if getattr(symbols.load(f"systems.{module}", "Params")(**system.params), "beta", 1.0) is None:
        raise ConfigError(
            f"configuration error: systems.{name}.params.beta: None: the target of {module} needs one; allowed: above 0"
        )


def check_samples(key: str, config: Config, study: Study) -> None:
    """A task that wants samples needs a model that draws, a target that has an energy, and splits that are there."""
    system, module = config.systems[study.system], config.models[study.model].module
    for name, asked in config.tasks[study.task].params.get("samples", {}).items():
        _check_target(f"{key}.system", study.system, system, f"be asked for the samples of {study.task}")
        task = config.tasks[study.task].module
        _check_quantum(f"{key}.task", study.task, "tasks", task, system.module, study.system)
        if not {"draw", "sample"} & set(symbols.methods(f"models.{module}", "Model")):
            raise ConfigError(
                f"configuration error: {key}.model: {study.model!r}: {module} has neither draw nor sample, which the "
                f"samples of the task {study.task} need"
            )
        if asked.get("stages") and "stages" not in symbols.methods(f"models.{module}", "Model"):
            raise ConfigError(
                f"configuration error: tasks.{study.task}.params.samples.{name}.stages: {asked['stages']}: the model "
                f"{study.model} ({module}) has no stages; allowed: 0"
            )
        if study.dataset is not None and asked.get("split") is not None:
            named(f"tasks.{study.task}.params.samples.{name}.split", asked["split"], system.splits)
