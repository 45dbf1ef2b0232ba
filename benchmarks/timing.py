"""What every benchmark shares: one thread, interleaved rounds, medians, a table, one last line of JSON.

It imports nothing but the standard library, so that `one_thread` acts before any numerical library loads.
"""

import ctypes
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def one_thread() -> None:
    """One thread and, on Linux, one core (the last that is allowed). Call it before the other imports."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def keep_memory() -> None:
    """Tells glibc to keep what is freed: on a virtual machine fresh pages cost milliseconds, now and then."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


def require(*modules: str) -> None:
    """Ends the process with one sentence if a peer is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"This benchmark needs {', '.join(missing)}: run `make bench`, or pip install them here.")


def check(passed: bool, what: str) -> None:
    """The gate: no throughput without physics."""
    print(f"{'ok  ' if passed else 'FAIL'}  {what}", flush=True)
    if not passed:
        sys.exit(f"The physics gate failed, so nothing is timed: {what}")


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every contestant in every round, after an untimed call each; rounds rotate the order.

    On a shared core `time.process_time` is the fair clock for one-threaded work: the wall clock charges
    the slices that the neighbours took, and long calls meet more of them than short ones.
    """
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for call in contestants.values():
        call()
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = clock()
            contestants[name]()
            seconds[name].append(clock() - start)
    return seconds


def rates(seconds: Mapping[str, Sequence[float]], work: float | Mapping[str, float]) -> dict[str, float]:
    """Median work per second; `work` is what one call does, common or by contestant."""
    per_call = work if isinstance(work, Mapping) else dict.fromkeys(seconds, work)
    return {name: per_call[name] / statistics.median(times) for name, times in seconds.items()}


def spread(times: Sequence[float]) -> float:
    """Median absolute deviation in units of the median."""
    middle = statistics.median(times)
    return statistics.median(abs(t - middle) for t in times) / middle


def table(seconds: Mapping[str, Sequence[float]], rate: Mapping[str, float], unit: str, ours: str) -> None:
    """Prints one row per contestant, the fastest first; `rate` is printed as given, in `unit`."""
    width = max(map(len, rate))
    print(f"\n{'':{width}}  {unit:>12}  {'±':>5}  {'best':>10}  {'ours is':>8}")
    for name in sorted(rate, key=rate.__getitem__, reverse=True):
        best = rate[name] * statistics.median(seconds[name]) / min(seconds[name])
        print(
            f"{name:{width}}  {rate[name]:12.4g}  {spread(seconds[name]):5.0%}  {best:10.4g}"
            f"  {rate[ours] / rate[name]:7.2f}×"
        )


def verdict(name: str, ratio: float, peer: str, gate: str, **more: object) -> None:
    """The last line: name, ratio, peer and gate, which says what physics was checked; `more` is free."""
    print(json.dumps({"name": name, "ratio": round(ratio, 2), "peer": peer, "gate": gate, **more}))
