rule simulate:
    output:
        "data/{system}/bundles/{split}/{bundle}.json",
    log:
        "logs/simulate/{system}/{split}/{bundle}.log",
    conda:
        "../envs/physiglot.yaml"
    params:
        spec=bundle_spec,
        code=block_code,
        about=about,
    shell:
        command("simulate", out="{output}")


rule ingest:
    input:
        ingest_file,
    output:
        "data/{system}/imported/{split}/{file}.zarr/zarr.json",
    log:
        "logs/ingest/{system}/{split}/{file}.log",
    conda:
        "../envs/physiglot.yaml"
    params:
        spec=ingest_spec,
        code=lambda w: CODE("ingest"),
        about=about,
    shell:
        command("ingest", file="{input:q}", out="{output}")


checkpoint collect:
    input:
        bundle_files,
        imported_files,
    output:
        "data/{system}/blocks.json",
    log:
        "logs/collect/{system}.log",
    conda:
        "../envs/physiglot.yaml"
    params:
        spec=collect_spec,
        code=lambda w: CODE("collect"),
        about=about,
    shell:
        command("collect", out="{output}")


checkpoint dataset:
    input:
        lambda w: checkpoints.collect.get(system=w.system).output[0],
    output:
        "data/{system}/datasets/{dataset}.zarr/zarr.json",
    log:
        "logs/dataset/{system}/{dataset}.log",
    conda:
        "../envs/physiglot.yaml"
    params:
        spec=dataset_spec,
        code=lambda w: CODE("dataset"),
        about=about,
    shell:
        command("dataset", blocks="{input}", out="{output}", threads="{threads}")
