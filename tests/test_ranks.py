"""Several ranks train like one process, stop together, and leave nothing half-written when one is lost."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import xarray as xr
from workflow import environment, wait_for

from physiglot import batches, fingerprint, models, ranks, store, train
from physiglot.launch import launch
from physiglot.ranks import Ranks
from physiglot.stream import Stream

MEMBERS, TIMES, SHARD = 80, 64, 4
TRAINING = {
    "window": 16,
    "stride": None,
    "batch": 12,
    "epochs": None,
    "steps": 60,
    "optimizer": "adamw",
    "lr": 1e-3,
    "eps": 1e-8,
    "weight_decay": 0.01,
    "clip": 1.0,
    "ema": 0.99,
    "schedule": "cosine",
    "warmup": 0.1,
    "decay": 1.0,
    "restart": 14,
    "select": "best",
    "warm_start": False,
    "validation": {"split": "val", "windows": 256, "times": None},
    "in_memory": 1.0,
    "tf32": False,
}
STREAMED = 4e-5  # GiB: a part of the shards
KOOPMAN = {"channels": 4, "width": 16}
OURS = {
    **{"layers": 1, "heads": 2, "width": 8, "window": 8, "target": "increment", "linear": True},
    "rollout": {"horizons": [1, 4], "shares": [0.5, 0.5]},
}
FAITHFUL = {"layers": 1, "heads": 2, "window": 16}
NOISY = {"hidden": 8, "noise": 0.1, "rollout": {"horizons": [4], "shares": [1.0]}}
LONG = {"steps": 400, "stride": 8}
LAUNCH = [sys.executable, "-m", "physiglot.launch", "--ranks", "2", "--"]
TRAIN = [sys.executable, "-m", "physiglot.train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]


def write(path: Path) -> Path:
    """Waves of three fields, as a dataset of two splits."""
    t, rng, digests = np.arange(TIMES) * 0.2, np.random.default_rng(0), {}
    with store.new(path) as temporary:
        for split, members in [("train", MEMBERS), ("val", 8)]:
            phase = rng.uniform(0, 6, (members, 1, 3))
            state = np.sin(t[:, None] * [1, 1.5, 2] + phase) + 0.01 * rng.standard_normal((members, TIMES, 3))
            layout = {"dims": ("member", "time", "field"), "shape": state.shape, "dtype": float, "chunk": 1}
            store.allocate(temporary, split, {"state": {**layout, "shard": SHARD}})
            for i in range(0, members, SHARD):
                digests.update([store.fill(temporary, split, "state", i, state[i : i + SHARD])])
        store.finish(temporary, digests, ["train", "val"], mean=[0.0] * 3, std=[0.7] * 3)
    return path


class Training:
    """A training into a folder of its own."""

    def __init__(self, folder: Path, dataset: Path, module: str, params: dict, embedding: Path | None = None, **kw):
        self.folder, self.out = folder, folder / "weights.pt"
        self.given = {"dataset": dataset / "zarr.json", "out": self.out}
        if embedding:
            self.given |= {"weights": embedding, "embedded": embedding.parent / "embedded.zarr/zarr.json"}
        part = {"module": module, "params": params, "training": {**TRAINING, **kw}}
        self.spec = {"part": part, "seed": 3}
        folder.mkdir(exist_ok=True)

    def alone(self) -> "Training":
        """Train as one process: this one."""
        kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
        try:
            train.train(spec=self.spec, code="c", **self.given)
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
        return self

    def start(self, command: list[str]) -> subprocess.Popen:
        options = [word for name, path in self.given.items() for word in (f"--{name}", str(path))]
        line = [*command, "--spec", json.dumps(self.spec), "--code", "c", *options]
        variables = {"PYTHONPATH": str(Path(train.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        variables |= {"PHYSIGLOT_SAVE_EVERY": "0.1", "COLUMNS": "200"}
        with open(self.folder / "log", "w") as log:
            return subprocess.Popen(line, env={**environment(), **variables}, stdout=log, stderr=log)

    def together(self, command: list[str] = LAUNCH + TRAIN) -> "Training":
        """Train as two ranks."""
        assert self.start(command).wait(120) == 0, self.said
        return self

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def record(self) -> dict:
        return json.loads(self.out.with_suffix(".run.json").read_text())

    def curve(self) -> dict[int, dict[str, float]]:
        """Step -> logged values; a line that is being written does not count."""
        path = self.out.with_suffix(".metrics.jsonl")
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        points = [json.loads(line) for line in lines if line.endswith("\n")]
        assert len({p["step"] for p in points}) == len(points)
        return {p["step"]: {k: v for k, v in p.items() if "loss" in k} for p in points}

    def weights(self) -> torch.Tensor:
        state = torch.load(self.out, weights_only=True)["state"]
        return torch.cat([v.flatten() for v in state.values()])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("ranks") / "a.zarr")


@pytest.fixture(scope="module")
def embedding(dataset) -> Path:
    """Weights of a Koopman embedding trained by one process, with the embedded dataset beside them."""
    made = Training(dataset.parent / "embedding", dataset, "koopman", KOOPMAN).alone()
    embed, groups = models.load(made.out).embed, {}
    for split in ("train", "val"):
        state = torch.tensor(store.open_group(dataset, split)["state"].values, dtype=torch.float32)
        with torch.no_grad():
            groups[split] = xr.Dataset({"embedded": (("member", "time", "channel"), embed(state).numpy())})
    store.save(made.folder / "embedded.zarr", groups, chunk=4, embedding=fingerprint.of(made.out))
    return made.out


def assert_alike(one: Training, two: Training, relative: float) -> None:
    """The same curve and weights, but for rounding (1e-12 in float64).

    In float32 Adam makes much of the rounding of gradients that are almost zero, as behind a head that starts at zero.
    """
    a, b = one.curve(), two.curve()
    assert a.keys() == b.keys() and len(a) > 50
    for step, values in a.items():
        assert b[step] == pytest.approx(values, rel=relative), step
    assert (one.weights() - two.weights()).abs().max() < 2 * relative


CASES = {
    "embedding": ("koopman", KOOPMAN, False, {}, 1e-5),
    "faithful": ("transformer", FAITHFUL, True, {"stride": 8}, 1e-5),
    "ours": ("transformer", OURS, True, {}, 2e-3),
    "streamed": ("residual_map", NOISY, False, {"in_memory": STREAMED, "stride": 8}, 1e-5),
}


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_are_one_process(dataset, embedding, tmp_path, case):
    """The loss curve and the weights, started by the launcher and by torchrun."""
    module, params, embedded, training, relative = CASES[case]
    given = (dataset, module, params, embedding if embedded else None)
    one = Training(tmp_path / "one", *given, **training).alone()
    how = [*TORCHRUN, "physiglot.train"] if case == "faithful" else LAUNCH + TRAIN
    two = Training(tmp_path / "two", *given, **training).together(how)
    assert two.said.count("2 ranks (cpu, …), 1 threads") == two.said.count("train: finished in") == 1
    assert two.record["status"] == "FINISHED" and not (two.folder / "ckpt/state.pt").exists()
    assert_alike(one, two, relative)
    if case == "streamed":
        assert isinstance(batches.open_split(dataset, None, "train", {**TRAINING, **training}, 0, "cpu"), Stream)
        assert "is finished and up to date" in two.together().said


def saved(training: Training, process: subprocess.Popen) -> list[psutil.Process]:
    """The ranks, rank 0 first, once the training has saved its state."""
    wait_for(lambda: process.poll() is not None or (training.folder / "ckpt/state.pt").exists())
    assert process.poll() is None, training.said
    found = psutil.Process(process.pid).children()
    return sorted(found, key=lambda p: p.pid != training.record["pid"])


@pytest.fixture(scope="module")
def whole(dataset) -> Training:
    """An uninterrupted training by two ranks."""
    return Training(dataset.parent / "whole", dataset, "koopman", KOOPMAN, **LONG).together()


def test_ranks_stop_together_and_go_on_as_two_or_one(dataset, whole, tmp_path):
    two = Training(tmp_path / "two", dataset, "koopman", KOOPMAN, **LONG)
    process = two.start(LAUNCH + TRAIN)
    children = saved(two, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75, two.said
    assert not any(child.is_running() for child in children)
    assert "interrupted: signal 15 at step" in two.said and "error" not in two.said and not two.out.exists()
    assert two.record["status"] == "INTERRUPTED"
    one = Training(tmp_path / "one", dataset, "koopman", KOOPMAN, **LONG)
    shutil.copytree(two.folder, one.folder, dirs_exist_ok=True)
    assert "resumed at step" in two.together().said
    assert two.out.read_bytes() == whole.out.read_bytes() and two.curve() == whole.curve()
    one.alone()
    assert_alike(whole, one, 1e-3)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_is_killed_ends_the_others(dataset, whole, tmp_path, lost):
    two = Training(tmp_path / "two", dataset, "koopman", KOOPMAN, **LONG)
    process = two.start(LAUNCH + TRAIN)
    children, began = saved(two, process), time.monotonic()
    children[lost].kill()
    assert process.wait(60) == (1 if lost else 137)
    assert time.monotonic() - began < 10 and not any(child.is_running() for child in children)
    assert f"rank {1 - lost} of 2 lost another rank" in two.said and "Traceback" not in two.said
    assert not two.out.exists() and two.record["status"] == ("FAILED" if lost else "RUNNING")
    if lost == 0:
        assert "resumed at step" in two.together().said
        assert two.out.read_bytes() == whole.out.read_bytes()


def test_a_batch_that_does_not_divide(dataset, tmp_path):
    two = Training(tmp_path / "two", dataset, "koopman", KOOPMAN, batch=9)
    assert two.start(LAUNCH + TRAIN).wait(60) == 1
    sentence = "training.batch: 9: a batch of 9 windows does not divide among 2 ranks; allowed are multiples of 2"
    assert f"error: train: {sentence}" in two.said and f"error: train: rank 1: {sentence}" in two.said
    assert "Traceback" not in two.said and two.record["error"] == sentence


@pytest.mark.parametrize("stride", [None, 8])
@pytest.mark.parametrize("in_memory", [1.0, STREAMED])
def test_the_shares_of_a_batch_make_it_up(dataset, stride, in_memory):
    training = {**TRAINING, "stride": stride, "in_memory": in_memory}
    of = lambda *r: batches.open_split(dataset, None, "train", training, 0, "cpu", *r).at(40)["state"]  # noqa: E731
    assert torch.equal(torch.cat([of(Ranks(i, 3)) for i in range(3)]), of())


def test_noise_is_shared_like_the_windows(monkeypatch):
    like = torch.zeros(4, 3, 5)[:, ::2]
    torch.manual_seed(0)
    expected = torch.randn(12, 2, 5)
    for rank in range(3):
        monkeypatch.setattr(ranks, "_share", (rank, 3))
        torch.manual_seed(0)
        assert torch.equal(ranks.normal(like), expected[4 * rank : 4 * rank + 4])
        with ranks.alone():
            assert ranks.normal(like).shape == like.shape and ranks._share == (0, 1)


# --- who a rank is, and how it is started ------------------------------------------------------


def test_a_process_of_a_slurm_job_is_a_rank_only_if_it_was_launched(monkeypatch):
    for name, value in {"PROCID": "3", "NTASKS": "4", "LOCALID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert Ranks.of_environment() == Ranks()
    monkeypatch.setenv("PHYSIGLOT_RANKS", "4")
    assert Ranks.of_environment() == Ranks(3, 4, 1)
    monkeypatch.setenv("PHYSIGLOT_RANKS", "2")
    with pytest.raises(ValueError, match="PHYSIGLOT_RANKS: 2, but SLURM_NTASKS is 4"):
        Ranks.of_environment()
    monkeypatch.delenv("SLURM_PROCID")
    with pytest.raises(ValueError, match="not all are set: start with"):
        Ranks.of_environment()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_does_not_arrive(monkeypatch, rank):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(ValueError, match=f"rank {rank} of 2 waited in vain for the others at 127.0.0.1:{port}: "):
        Ranks(rank, 2).start(patience=0.5)


SRUN = """#!{python}
import os, signal, subprocess, sys
options = [word for word in sys.argv[1:] if word.startswith("--")]
print("srun", *options, flush=True)
size = next(int(word[9:]) for word in options if word.startswith("--ntasks="))
given = {{**os.environ, "SLURM_NTASKS": str(size)}}
ranks = [{{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}} for i in range(size)]
tasks = []
signal.signal(signal.SIGUSR1, lambda number, frame: [task.send_signal(number) for task in tasks])
tasks += [subprocess.Popen(sys.argv[1 + len(options):], env={{**given, **rank}}) for rank in ranks]
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/sh
case "$2" in hostnames) printf 'nowhere.invalid\\nother\\n' ;; node) echo "NodeName=$3 NodeAddr=127.0.0.1 X=1" ;; esac
"""


@pytest.fixture
def slurm(tmp_path) -> dict[str, str]:
    """The environment of a process in a SLURM job of two nodes, with an srun that has this host alone."""
    squeue = "#!/bin/sh\necho '2|n[1-2]'\n"
    for name, text in {"srun": SRUN.format(python=sys.executable), "scontrol": SCONTROL, "squeue": squeue}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    given = {"SLURM_JOB_ID": "77", "SLURM_PROCID": "0"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {**environment(), **given, "PATH": path, "PYTHONPATH": str(Path(train.__file__).parents[1])}


def test_ranks_of_a_slurm_job_are_started_by_srun(slurm):
    """At the address of the first node; SIGTERM comes to the ranks as a signal that srun passes on."""
    say = 'trap "exit 75" USR1; echo rank $SLURM_PROCID $PHYSIGLOT_RANKS $MASTER_ADDR $MASTER_PORT; while :; do :; done'
    command = [sys.executable, "-m", "physiglot.launch", "--ranks", "2", "--nodes", "2", "--", "sh", "-c", say]
    process = subprocess.Popen(command, env=slurm, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    options = process.stdout.readline()
    assert "--ntasks=2 --nodes=2 --ntasks-per-node=1" in options and "--overlap" in options
    said = sorted(process.stdout.readline().split() for _ in range(2))
    assert [words[:4] for words in said] == [["rank", str(i), "2", "127.0.0.1"] for i in range(2)]
    assert 10000 <= int(said[0][4]) < 30000 and said[0][4] == said[1][4]
    process.terminate()
    assert process.wait(30) == 75


@pytest.mark.parametrize(
    "options, job, sentence",
    [
        ("--ranks 3 --nodes 2 -- true", True, "--ranks 3 --nodes 2 -- command: ranks must be a multiple of nodes"),
        ("--ranks 6 --nodes 3 -- true", True, "--nodes: 3: the SLURM job has 2"),
        ("--ranks 2 --nodes 2 -- true", False, "--nodes: 2: several nodes need a SLURM job"),
        ("--ranks 2 -- no-such-program", False, "no-such-program: this program is missing"),
        ("--ranks 1 -- no-such-program", False, "this program is missing"),
    ],
)
def test_what_cannot_be_launched_is_said(slurm, options, job, sentence):
    given = slurm if job else {k: v for k, v in slurm.items() if not k.startswith("SLURM")}
    command = [sys.executable, "-m", "physiglot.launch", *options.split()]
    run = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and sentence in run.stderr and len(run.stderr.splitlines()) == 1


def test_one_rank_is_the_command_itself_and_torch_is_not_imported(monkeypatch):
    monkeypatch.setattr(os, "execvp", lambda name, words: sys.exit(str((name, words))))
    with pytest.raises(SystemExit, match="'train', \\['train', '--x'\\]"):
        launch(1, 1, ["train", "--x"])
    code = "import sys, physiglot.launch, physiglot.stage; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
