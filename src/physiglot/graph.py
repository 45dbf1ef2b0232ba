"""Dask: the tasks of a stage over the blocks, on threads or on a cluster of processes."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _scheduler(settings: dict, threads: int) -> Iterator[None]:
    import dask

    if settings.get("scheduler", "threads") == "threads":
        with dask.config.set(scheduler="threads", num_workers=threads):
            yield
        return
    from dask.distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=settings["workers"],
        threads_per_worker=1,
        memory_limit=settings["memory"],
        dashboard_address=None,
    )
    with cluster, Client(cluster):
        yield


def release() -> None:
    """Give freed memory back to the system: glibc keeps an arena for every thread, as large as the largest task."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def compute(tasks: list, settings: dict, threads: int) -> list[Any]:
    """The results of `dask.delayed` tasks, in order. A task reads and writes one block, and returns little."""
    import dask

    with _scheduler(settings, threads):
        return list(dask.compute(*tasks))
