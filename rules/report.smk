rule plot:
    input:
        dataset=known(dataset_file),
        prediction=known("runs/{study}/{seed}/prediction.zarr/zarr.json"),
        metrics=known("runs/{study}/{seed}/metrics.json"),
    output:
        report(
            directory("runs/{study}/{seed}/figures"),
            patterns=["{figure}.svg"],
            caption="../docs/captions/figure.rst",
            category=lambda w: CONFIG.papers[study(w).paper].title,
            subcategory=lambda w: ", ".join(filter(None, (study(w).system, study(w).dataset))),
            labels=lambda w: {"model": study(w).label, "figure": "{figure}"},
        ),
    log:
        "logs/plot/{study}/{seed}.log",
    conda:
        "../envs/physiglot.yaml"
    params:
        spec=task_spec,
        code=task_code("plot"),
        after=after_evaluate,
        about=about,
        given=inputs,
    shell:
        command("plot", out="{output} {params.given}")


rule table:
    input:
        metrics_files,
    output:
        csv="papers/{paper}/table.csv",
        md="papers/{paper}/table.md",
        html=report(
            "papers/{paper}/table.html",
            caption="../docs/captions/table.rst",
            category=lambda w: CONFIG.papers[w.paper].title,
            subcategory="Comparison and table",
            labels=lambda w: {"model": "all", "figure": "table"},
        ),
        figures=report(
            directory("papers/{paper}/figures"),
            patterns=["{figure}.svg"],
            caption="../docs/captions/comparison.rst",
            category=lambda w: CONFIG.papers[w.paper].title,
            subcategory="Comparison and table",
            labels=lambda w: {"model": "all", "figure": "{figure}"},
        ),
    log:
        "logs/table/{paper}.log",
    conda:
        "../envs/physiglot.yaml"
    params:
        spec=table_spec,
        code=table_code,
        after=after_studies,
        about=about,
    shell:
        command("table", metrics="{input}", figures="{output.figures}", out="{output.csv}")


# One target per paper: `snakemake koopman`.
for paper in CONFIG.papers:

    rule:
        name:
            paper
        input:
            outputs_of(paper),
        localrule: True
