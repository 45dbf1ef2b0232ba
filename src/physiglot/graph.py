"""Dask: the tasks of a stage over the blocks, on threads, on processes of this machine, or on jobs of SLURM.

Which of them makes no difference to what comes out, so it is not in the spec of a stage but in its environment:
`PHYSIGLOT_DASK`, the part `dask` of the configuration as JSON.
"""

import ctypes
import getpass
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _local(settings: dict) -> Any:
    from dask.distributed import LocalCluster

    return LocalCluster(
        n_workers=settings["workers"],
        threads_per_worker=1,
        memory_limit=settings["memory"],
        dashboard_address=None,
    )


def _job() -> dict[str, Any]:
    """Partition and account of the SLURM job that this process is in: its workers go where it is."""
    number = os.environ.get("SLURM_JOB_ID", "")
    if not number:
        return {}
    asked = ["squeue", "--noheader", "--jobs", number, "--format", "%P|%a"]
    partition, account = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip().split("|")
    return {"queue": partition, **({"account": account} if account not in ("", "(null)") else {})}


def _slurm(settings: dict) -> Any:
    """Workers that are SLURM jobs, and are replaced when they are lost."""
    if shutil.which("sbatch") is None:
        raise ValueError("dask.scheduler: slurm: there is no sbatch here; allowed without: threads, distributed")
    from dask_jobqueue import SLURMCluster

    threads = [f"export {name}_NUM_THREADS=1" for name in ("OMP", "NUMBA", "RAYON")]
    cluster = SLURMCluster(
        **_job(),
        cores=1,
        processes=1,
        memory=settings["memory"],
        walltime=f"{settings['minutes'] // 60:02d}:{settings['minutes'] % 60:02d}:00",
        job_name=f"physiglot-dask-{getpass.getuser()}",
        job_script_prologue=[f"cd {Path.cwd()}", *threads],
        job_extra_directives=["--no-requeue"],
        log_directory="logs/dask",
        local_directory="${TMPDIR:-/tmp}",
        scheduler_options={"dashboard_address": None},
    )
    cluster.adapt(minimum=settings["workers"], maximum=settings["workers"])
    return cluster


@contextmanager
def _scheduler(settings: dict, threads: int) -> Iterator[None]:
    import dask

    kind = settings.get("scheduler", "threads")
    if kind == "threads":
        with dask.config.set(scheduler="threads", num_workers=threads):
            yield
        return
    from dask.distributed import Client

    with {"distributed": _local, "slurm": _slurm}[kind](settings) as cluster, Client(cluster):
        print(f"dask: {settings['workers']} workers ({kind})", flush=True)
        yield


def release() -> None:
    """Give freed memory back to the system: glibc keeps an arena for every thread, as large as the largest task."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def compute(tasks: list, threads: int) -> list[Any]:
    """The results of `dask.delayed` tasks, in order. A task reads and writes one block, and returns little."""
    import dask

    with _scheduler(json.loads(os.environ.get("PHYSIGLOT_DASK", "{}")), threads):
        return list(dask.compute(*tasks))
