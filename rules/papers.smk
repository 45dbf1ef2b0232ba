# Functions only: what the table, the figures and the report of a paper are made of.


def studies_of(paper):
    return {name: s for name, s in CONFIG.studies.items() if s.paper == paper}


def metrics_files(w):
    """The metrics of all studies and seeds of a paper, once all its datasets are known."""
    chosen = studies_of(w.paper)
    for s in chosen.values():
        ask_checkpoints(s)
    return [f"runs/{name}/{seed}/metrics.json" for name, s in chosen.items() for seed in s.seeds]


def table_spec(w):
    rows = []
    for name, s in studies_of(w.paper).items():
        kept = {k: plain(s)[k] for k in ("variant", "label", "system", "dataset", "published", "source")}
        where = {
            "data": s.dataset and f"data/{s.system}/datasets/{s.dataset}.zarr",
            "runs": [f"runs/{name}/{i}" for i in s.seeds],
        }
        rows.append({"name": name, "task": plain(CONFIG.tasks[s.task]), **target_asked(s), **kept, **where})
    return fingerprint.canonical({**plain(CONFIG.papers[w.paper]), "studies": rows})


def table_code(w):
    modules = dict.fromkeys(CONFIG.tasks[s.task].module for s in studies_of(w.paper).values())
    own = [f"tasks.{m}:{symbol}" for m in modules for symbol in ("compare", "METRICS", "Study")]
    return CODE("table", *own, *target_code([target_asked(s) for s in studies_of(w.paper).values()]))


def outputs_of(paper):
    """Everything that a reader of the report wants of a paper: the table, and the figures of each first seed;
    and its data, of which Snakemake would not miss what a failed job took away."""
    studies = studies_of(paper)
    plots = [f"runs/{name}/{s.seeds[0]}/figures" for name, s in studies.items()]
    reading = [s for s in studies.values() if s.dataset is not None]
    blocks = [f"data/{s.system}/blocks.json" for s in reading]
    datasets = [f"data/{s.system}/datasets/{s.dataset}.zarr/zarr.json" for s in reading]
    data = list(dict.fromkeys([*blocks, *datasets]))
    return [f"papers/{paper}/table.csv", f"papers/{paper}/figures", *plots, *data]
