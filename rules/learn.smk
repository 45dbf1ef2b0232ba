rule train:
    input:
        dataset=known(data_file(learns_data), learns_data),
        weights=known(embedding_file, learns_data),
        embedded=known(embedded_file, learns_data),
    output:
        "runs/{study}/{seed}/{part}/weights.pt",
    log:
        "logs/train/{study}/{seed}/{part}.log",
    retries: 2
    conda:
        "../envs/physiglot.yaml"
    threads: lambda w: study(w).threads
    resources:
        gpu=lambda w: study(w).ranks * study(w).gpu,
        nodes=lambda w: study(w).nodes,
        tasks=lambda w: study(w).ranks,
        tasks_per_gpu=1,
        mpi=lambda w: "srun" if study(w).ranks > 1 else None,
        slurm_partition=partition,
    params:
        spec=train_spec,
        code=train_code,
        after=after_embed,
        about=about,
        given=inputs,
    shell:
        command(
            "train",
            before="python -m physiglot.launch --ranks {resources.tasks} --nodes {resources.nodes} -- ",
            out="{output} {params.given}",
            threads="{threads}",
        )


rule embed:
    input:
        dataset=known(dataset_file),
        weights=known("runs/{study}/{seed}/embedding/weights.pt"),
    output:
        "runs/{study}/{seed}/embedded.zarr/zarr.json",
    log:
        "logs/embed/{study}/{seed}.log",
    conda:
        "../envs/physiglot.yaml"
    params:
        spec=embed_spec,
        code=embed_code,
        after=after_embedding,
        about=about,
    shell:
        command(
            "embed",
            dataset="{input.dataset}",
            weights="{input.weights}",
            out="{output}",
            threads="{threads}",
        )


rule predict:
    input:
        dataset=known(data_file(draws_data), draws_data),
        weights=known(weights_file, draws_data),
    output:
        "runs/{study}/{seed}/prediction.zarr/zarr.json",
    log:
        "logs/predict/{study}/{seed}.log",
    conda:
        "../envs/physiglot.yaml"
    threads: lambda w: study(w).threads
    resources:
        gpu=lambda w: int(study(w).gpu),
        slurm_partition=partition,
    params:
        spec=predict_spec,
        code=predict_code,
        after=after_train,
        about=about,
        given=inputs,
    shell:
        command("predict", out="{output} {params.given}", threads="{threads}")


rule evaluate:
    input:
        dataset=known(dataset_file),
        prediction=known("runs/{study}/{seed}/prediction.zarr/zarr.json"),
    output:
        "runs/{study}/{seed}/metrics.json",
    log:
        "logs/evaluate/{study}/{seed}.log",
    conda:
        "../envs/physiglot.yaml"
    params:
        spec=task_spec,
        code=task_code("evaluate"),
        after=after_predict,
        about=about,
        given=inputs,
    shell:
        command("evaluate", out="{output} {params.given}")
