"""Start a stage as several ranks: `python -m physiglot.launch --ranks 2 -- python -m physiglot.train …`.

One rank is the command itself. In a SLURM job srun starts the ranks on the job's nodes, else they are processes of
this host. SIGTERM and SIGUSR1 reach every rank. What becomes of rank 0 becomes of the stage: its exit code is ours.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

KEPT = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CONF", "SLURM_CLUSTER_NAME")
GRACE = 30.0  # seconds for the other ranks to end when one has failed


def _out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def first_host(nodes: str) -> str:
    """An address of the first node of a list, where rank 0 runs."""
    name = _out("scontrol", "show", "hostnames", nodes).split()[0]
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        words = _out("scontrol", "show", "node", name, "--oneliner").split()
        return next((w.removeprefix("NodeAddr=") for w in words if w.startswith("NodeAddr=")), name)
    return name


def by_srun(ranks: int, nodes: int, command: list[str]) -> tuple[list[str], dict[str, str]]:
    """The srun that starts the ranks, and its environment.

    It overlaps with the step in which we run, which has all of the job; where one rank fails it ends the others. The
    port is between those of services and those that the system gives away.
    """
    if not (shutil.which("srun") and shutil.which("scontrol")):
        raise ValueError("srun and scontrol are not found, but this is a SLURM job (SLURM_JOB_ID is set)")
    job = os.environ["SLURM_JOB_ID"]
    where = [f"--ntasks={ranks}", f"--nodes={nodes}", f"--ntasks-per-node={ranks // nodes}"]
    where += [f"--cpus-per-task={os.environ.get('OMP_NUM_THREADS', 1)}"]
    how = ["--overlap", "--mem=0", "--export=ALL", "--cpu-bind=none", "--kill-on-bad-exit=1"]
    # What SLURM says of the job would be options of srun, such as tasks per GPU, and contradict those given here.
    other = ("TORCHELASTIC", "SLURM_", "SRUN_")
    kept = {k: v for k, v in os.environ.items() if k in KEPT or (k != "RANK" and not k.startswith(other))}
    there, names = _out("squeue", "--noheader", "--jobs", job, "--format", "%D|%N").strip().split("|")
    if nodes > int(there):
        raise ValueError(f"--nodes: {nodes}: the SLURM job has {there}")
    meet = {"MASTER_ADDR": first_host(names), "MASTER_PORT": str(10000 + (int(job) + os.getpid()) % 20000)}
    return ["srun", *where, *how, *command], {**kept, **meet}


def here(ranks: int) -> list[dict[str, str]]:
    """The environments of the ranks on this host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(ranks)}
    return [{**os.environ, **meet, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(ranks)]


def watch(command: list[str], environments: list[dict[str, str]], passes: dict[int, int]) -> int:
    """Run the command once in each environment, to the end of all; the exit code of the first.

    `passes` maps the signals that are passed on to what becomes of them. When one has failed, or the first has ended,
    the others have `GRACE` seconds.
    """
    started: list[subprocess.Popen] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in started:
            process.send_signal(passes[number])

    for number in passes:
        signal.signal(number, pass_on)
    signal.signal(signal.SIGINT, lambda *_: None)  # the terminal has told the ranks as well
    for environment in environments:
        started.append(subprocess.Popen(command, env=environment))
    end = 0.0
    while any(process.poll() is None for process in started):
        time.sleep(0.05)
        if not end and (started[0].returncode is not None or any(process.returncode for process in started)):
            end = time.monotonic() + GRACE
        if end and time.monotonic() > end:
            for process in started:
                process.kill()
    code = started[0].returncode
    return code if code >= 0 else 128 - code


def launch(ranks: int, nodes: int, command: list[str]) -> int:
    """The exit code of the command as `ranks` ranks."""
    if not command or ranks < 1 or nodes < 1 or ranks % nodes:
        raise ValueError(
            f"--ranks {ranks} --nodes {nodes} -- command: ranks must be a multiple of nodes, both 1 or more"
        )
    if ranks == 1:
        os.execvp(command[0], command)
    os.environ["PHYSIGLOT_RANKS"] = str(ranks)
    if "SLURM_JOB_ID" in os.environ:
        # srun passes SIGUSR1 on to its tasks, but takes SIGTERM as an order to cancel them.
        line, environment = by_srun(ranks, nodes, command)
        return watch(line, [environment], dict.fromkeys((signal.SIGTERM, signal.SIGUSR1), signal.SIGUSR1))
    if nodes > 1:
        raise ValueError(f"--nodes: {nodes}: several nodes need a SLURM job")
    return watch(command, here(ranks), {number: number for number in (signal.SIGTERM, signal.SIGUSR1)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m physiglot.launch", description=__doc__)
    parser.add_argument("--ranks", type=int, required=True, help="processes, one per GPU")
    parser.add_argument("--nodes", type=int, default=1, help="nodes of a SLURM job that share them evenly")
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args()
    try:
        sys.exit(launch(options.ranks, options.nodes, options.command))
    except FileNotFoundError as error:
        sys.exit(f"error: launch: {error.filename}: this program is missing")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: launch: {' '.join(error.cmd)}: {error.stderr.strip()}")
    except ValueError as error:
        sys.exit(f"error: launch: {error}")
