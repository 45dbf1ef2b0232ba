# Functions only: what the stages before a job were made of. Each rule has it as its parameter `after`.

# A rule whose inputs are missing does not run in Snakemake as long as its own output stands. So when a job
# failed after a change, what was made from its old output would pass for finished. Therefore each rule has as a
# parameter the specs and the code of the rules before it, up to the next checkpoint; what the checkpoints make is
# a target by itself (`outputs_of`).


def at(w, **others):
    """Other wildcards than those of the job."""
    return SimpleNamespace(**{**vars(w), **others})


@once
def after_blocks(w):
    parts = [(block_spec(at(w, split=split), []), block_code(w)) for split in CONFIG.systems[w.system].splits]
    found = [at(w, split=split, file=stem) for split, stems in IMPORTS[w.system].items() for stem in stems]
    return fingerprint.digest(fingerprint.canonical([parts, [ingest_spec(f) for f in found]]), CODE("ingest"))


@once
def after_embedding(w):
    w = at(w, part="embedding")
    return fingerprint.digest(train_spec(w), train_code(w))


@once
def after_embed(w):
    """What the training of a model with an embedding comes after."""
    return fingerprint.digest(after_embedding(w), embed_spec(w), embed_code(w)) if has_embedding(w) else ""


@once
def after_train(w):
    w = at(w, study=study(w).weights or w.study, part="model")
    return fingerprint.digest(after_embed(w), train_spec(w), train_code(w))


@once
def after_predict(w):
    return fingerprint.digest(after_train(w), predict_spec(w), predict_code(w))


@once
def after_evaluate(w):
    return fingerprint.digest(after_predict(w), task_spec(w), task_code("evaluate")(w))


@once
def after_studies(w):
    runs = [at(w, study=name, seed=seed) for name, s in studies_of(w.paper).items() for seed in s.seeds]
    return fingerprint.digest(*map(after_evaluate, runs))
