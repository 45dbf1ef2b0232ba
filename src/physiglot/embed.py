"""Embed the dataset with the frozen embedding: what the sequence model is trained on. A Dask graph over its shards."""

from pathlib import Path
from typing import Any

import numpy as np

from . import fingerprint, graph, models, stage, store


def _part(
    source: Path, target: Path, split: str, start: int, members: int, spec: dict, embedding: Any
) -> dict[str, str]:
    """Embed one shard, a chunk of members at a time: what an embedding needs in between is bounded."""
    import torch

    from . import device

    torch.set_num_threads(1)
    data = store.open_group(source, split).isel(member=slice(start, start + members))
    states = data["smooth"] if "smooth" in data else data["state"]
    where = device.best()
    given = torch.as_tensor(data["parameters"].values, dtype=torch.float32) if "parameters" in data else None
    embedded = np.empty((*states.shape[:2], embedding.channels), np.float32)
    with torch.inference_mode():
        for i in range(0, len(states), spec["chunk"]):
            part = slice(i, i + spec["chunk"])
            piece = torch.as_tensor(states[part].values, dtype=torch.float32).to(where)
            beside = models.side(embedding.embed, None if given is None else given[part].to(where))
            embedded[part] = embedding.embed(piece, **beside).cpu().numpy()
    if not np.isfinite(embedded).all():
        raise FloatingPointError(f"the embedding of {split} members {start}-{start + len(states) - 1} is not finite")
    hashes = dict([store.fill(target, split, "embedded", start, embedded)])
    graph.release()
    return hashes


def embed(*, spec: dict, dataset: Path, weights: Path, out: Path, threads: int = 1) -> None:
    """Write `embedded` (member, time, channel) for the splits `spec["splits"]`.

    Where the dataset has smoothed states, these are embedded. The attribute `embedding` is the fingerprint
    of the weights: training refuses others.
    """
    import dask

    from . import device

    embedding, source = models.load(weights).to(device.best()), dataset.parent
    shared = dask.delayed(embedding)
    with store.new(out.parent) as target:
        tasks = []
        for split in spec["splits"]:
            state = store.open_group(source, split)["state"]
            shape = (*state.shape[:2], embedding.channels)
            layout = {"dims": ("member", "time", "channel"), "shape": shape, "dtype": np.float32}
            store.allocate(target, split, {"embedded": {**layout, "chunk": spec["chunk"], "shard": spec["block"]}})
            for start in range(0, shape[0], spec["block"]):
                tasks.append(dask.delayed(_part)(source, target, split, start, spec["block"], spec, shared))
        digests: dict[str, str] = {}
        for hashes in graph.compute(tasks, threads):
            digests |= hashes
        store.finish(target, digests, spec["splits"], embedding=fingerprint.of(weights))
    print(f"{len(tasks)} parts, {embedding.channels} channels")


if __name__ == "__main__":
    stage.run(embed)
