# Functions only: which studies read data, and which target (the energy of a system) their jobs depend on.

from physiglot import names, targets

TARGETS = {
    name: {} if found is None else {"target": found}
    for name, system in CONFIG.systems.items()
    for found in [targets.described(system.module, system.params)]
}


def data_file(reads):
    """The data set where it is read."""
    return lambda w: dataset_file(w) if reads(w) else []


def learns_data(w):
    """Whether the training reads a data set: a model may learn from the energy of its system alone."""
    return model(w).training.source == "data"


def draws_data(w):
    """Whether the prediction reads it: for a model of data, or to stand beside its samples."""
    beside = any(asked.get("split") is not None for asked in task(w).params.get("samples", {}).values())
    return study(w).dataset is not None and (learns_data(w) or beside)


def target_of(s):
    """{"target": module and params} of the system of a study, if it offers one."""
    return TARGETS[s.system]


def target_learnt(w):
    """The target as far as the training knows it: its model has an argument `target`."""
    return target_of(study(w)) if "target" in names.arguments(f"models.{part(w).module}", "Model", "__init__") else {}


def target_asked(s):
    """The target as far as the task wants samples of it."""
    return target_of(s) if CONFIG.tasks[s.task].params.get("samples") else {}


def target_code(found):
    """The code of these targets."""
    modules = dict.fromkeys(f["target"]["module"] for f in found if f)
    return [f"systems.{m}:{symbol}" for m in modules for symbol in ("target", "Params")]


def targets_of(w):
    """The targets that a prediction builds: that of its model, and that of its samples."""
    return [target_learnt(at(w, study=study(w).weights or w.study, part="model")), target_asked(study(w))]
