"""A real SLURM cluster on this one machine, for tests: controller, four nodes, accounting, own ports, no systemd.

By hand: `python tests/slurm/cluster.py start [folder]`, then `sbatch`, `squeue`, `sacct` as anywhere, then `stop`.
There is one such cluster to a machine, since jobs read /etc/slurm whatever SLURM_CONF says. What runs is known by
process ids in one file, so a session that was killed leaves nothing that the next one cannot stop.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

NAME = "physiglot"
CONFIGURATION = Path("/etc/slurm")
STATE = Path(f"/run/{NAME}-slurm.json")
OURS = "# Written by physiglot's tests/slurm/cluster.py, which removes it."
NEEDED = ("munged", "mariadb-install-db", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
PORTS = {"slurmctld": 27817, "slurmdbd": 27818, "n1": 27821, "n2": 27822, "n3": 27823, "n4": 27824}
NODES = ("n1", "n2", "n3", "n4")

# A requeued job waits for cred_expire (120 s unless said) + 1 s: its old credential must not outlive the requeue.
FILES = {
    "slurm.conf": """
ClusterName={NAME}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/pgid
JobAcctGatherType=jobacct_gather/linux
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
EnforcePartLimits=ALL
JobRequeue=1
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
KillWait=10
MinJobAge=300
AccountingStoreFlags=job_comment
AccountingStorageType=accounting_storage/slurmdbd
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=DEFAULT CPUs=8 RealMemory=32000
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2}
NodeName=n3 NodeHostname={host} NodeAddr=127.0.0.1 Port={n3}
NodeName=n4 NodeHostname={host} NodeAddr=127.0.0.1 Port={n4} Gres=gpu:2
PartitionName=cpu Nodes=n1,n2,n3 Default=YES DefaultTime=10
PartitionName=gpu Nodes=n4 DefaultTime=10
PartitionName=urgent Nodes=n4 DefaultTime=10 PriorityTier=2
""",
    "gres.conf": "\nNodeName=n4 Name=gpu File={folder}/gpu[0-1]\n",
    "cgroup.conf": "\nCgroupPlugin=cgroup/v1\nCgroupAutomount=no\n",
    "slurmdbd.conf": """
DbdHost=localhost
DbdPort={slurmdbd}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageLoc=slurm
""",
}


def missing() -> str | None:
    """Why no test cluster can run here, or None."""
    if os.geteuid():
        return "the test cluster needs root"
    if "SLURM_CONF" in os.environ:
        return "SLURM_CONF points at another cluster"
    if absent := [name for name in NEEDED if not shutil.which(name)]:
        return f"the test cluster needs {', '.join(absent)}"
    if foreign := [p for name in FILES if (p := CONFIGURATION / name).exists() and OURS not in p.read_text()]:
        return f"{foreign[0]} belongs to another cluster, which the test cluster must not replace"
    return None


def run(*command: str | Path, **more: Any) -> str:
    """What a command prints; if it fails, an error that says what it said."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stderr or done.stdout}")
    return done.stdout.strip()


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What `condition` returns once that is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {subprocess.getoutput('squeue --states=all')}")
        time.sleep(0.1)
    return value


class Cluster:
    """Partitions `cpu` (n1 to n3, eight CPUs each), `gpu` (n4, two GPUs that are only counted), and `urgent` (n4 too),
    for whose jobs those of `gpu` go back into the queue."""

    def __init__(self, folder: Path | str | None = None):
        self.folder = Path(folder or tempfile.mkdtemp(prefix=f"{NAME}-slurm-")).resolve()
        self._children: list[subprocess.Popen] = []  # kept, since Python warns of those it drops while they run

    def __enter__(self) -> "Cluster":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all and return when every node is idle. A cluster that a killed session left behind is stopped."""
        if reason := missing():
            raise RuntimeError(reason)
        if owner := _alive(_state()["owner"]):
            raise RuntimeError(f"the test cluster is in use by process {owner.pid}")
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise RuntimeError(f"{self.folder} is not empty")
        self.stop()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        folder = self.folder
        for name in ("state", "database", *NODES):
            (folder / name).mkdir()
        for gpu in (0, 1):
            run("mknod", folder / f"gpu{gpu}", "c", "1", "3")
        values = {"NAME": NAME, "folder": folder, "host": socket.gethostname().split(".")[0], **PORTS}
        CONFIGURATION.mkdir(exist_ok=True)
        for name, text in FILES.items():
            (CONFIGURATION / name).write_text(OURS + text.format(**values))
            (CONFIGURATION / name).chmod(0o600 if name == "slurmdbd.conf" else 0o644)
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._spawn("munged", "munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
        where = ["--no-defaults", "--user=root", f"--datadir={folder}/database", "--innodb-log-file-size=8M"]
        run("mariadb-install-db", *where, "--skip-test-db", "--auth-root-authentication-method=normal")
        where += [f"--socket={folder}/database.socket", f"--pid-file={folder}/database.pid"]
        self._spawn("mariadbd", "mariadbd", *where, "--skip-networking", "--skip-grant-tables")
        wait_for((folder / "database.socket").exists)
        self._spawn("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=f"{folder}/database.socket")
        wait_for(lambda: self._listens("slurmdbd"))
        run("sacctmgr", "--immediate", "add", "cluster", NAME)
        run("sacctmgr", "--immediate", "add", "account", NAME, f"cluster={NAME}")
        run("sacctmgr", "--immediate", "add", "user", "root", f"account={NAME}", f"defaultaccount={NAME}")
        for node in NODES:
            self.start_node(node)
        self.restart_controller()
        wait_for(lambda: {self.node(node) for node in NODES} == {"idle"})

    @staticmethod
    def stop() -> None:
        """Stop the cluster of this machine, whoever started it, with the jobs that run on it. The logs stay."""
        state = _state()
        _kill(_alive(p) for p in state["processes"].values())
        _kill_jobs(state["folder"], NODES)
        shutil.rmtree(f"{state['folder']}/database", ignore_errors=True)
        for name in FILES:
            if (path := CONFIGURATION / name).exists() and OURS in path.read_text():
                path.unlink()
        STATE.unlink(missing_ok=True)

    def start_node(self, node: str) -> None:
        """Start the daemon of a node, if it is not running; the controller uses it as soon as it has registered."""
        if not _alive(_state()["processes"].get(node)):
            self._spawn(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str, tell: bool = True) -> None:
        """A node that is lost: nothing that runs on it gets a last word. Untold, the controller sees it in 30 s."""
        _kill([_alive(_state()["processes"].get(node))])
        _kill_jobs(str(self.folder), [node])
        if tell:
            run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def drain(self, node: str) -> None:
        """No further jobs on a node; those that run go on."""
        run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")

    def resume(self, node: str) -> None:
        run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def restart_controller(self, sigkill: bool = False) -> None:
        """Stop the controller and start it with the state that it saved: if killed, all but the last 5 s or so."""
        _kill([_alive(_state()["processes"].get("slurmctld"))], gently=not sigkill)
        self._spawn("slurmctld", "slurmctld", "-D")
        wait_for(lambda: self._listens("slurmctld"))
        wait_for(lambda: not any(self.node(node).startswith("unk") for node in NODES))

    def jobs(self) -> list[dict[str, str]]:
        """Every job that the controller remembers, finished ones included; each task of an array is one."""
        names = ("id", "name", "state", "partition", "node", "workdir", "comment")
        rows = run("squeue", "--noheader", "--array", "--states=all", "--format=%i\t%j\t%T\t%P\t%N\t%Z\t%k")
        return [dict(zip(names, row.split("\t"), strict=True)) for row in rows.splitlines()]

    def node(self, name: str) -> str:
        """The state of a node, such as idle, mixed, down, draining; with a * if it does not answer."""
        return run("sinfo", "--noheader", f"--nodes={name}", "--format=%T")

    def _listens(self, daemon: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", PORTS[daemon])) == 0

    def _spawn(self, name: str, *command: str | Path, **environment: str) -> None:
        """Start a daemon in the foreground, in a session of its own, and write down its process."""
        folder = self.folder / name if name in NODES else self.folder
        how: dict[str, Any] = {"cwd": folder, "env": {**os.environ, **environment}, "start_new_session": True}
        with (self.folder / f"{name}.out").open("ab") as log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **how)
        self._children.append(child)
        state = _state() | {"folder": str(self.folder), "owner": _identity(os.getpid())}
        state["processes"][name] = _identity(child.pid)
        STATE.with_suffix(".new").write_text(json.dumps(state))
        STATE.with_suffix(".new").replace(STATE)


def _state() -> dict[str, Any]:
    """The cluster that runs here: its folder, the process that uses it and the processes that make it up."""
    return json.loads(STATE.read_text()) if STATE.exists() else {"folder": None, "owner": None, "processes": {}}


def _identity(pid: int) -> list:
    return [pid, psutil.Process(pid).create_time()]


def _alive(identity: list | None) -> psutil.Process | None:
    """The process that was written down, unless it is gone and its id perhaps another's."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if identity and _identity(identity[0]) == identity and _runs(process := psutil.Process(identity[0])):
            return process
    return None


def _runs(process: psutil.Process) -> bool:
    """Whether a process is more than an entry that its parent has not cleared yet, as in a container it may never."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _kill(processes: Iterable[psutil.Process | None], gently: bool = False) -> None:
    """End processes, and wait until they have ended."""
    alive = [p for p in processes if p]
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate() if gently else process.kill()
    wait_for(lambda: not any(_runs(p) for p in alive), 10)


def _kill_jobs(folder: str, nodes: Sequence[str]) -> None:
    """Kill the step daemons of some nodes, each of which stands in its node's folder, and the jobs' processes."""

    def belongs(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("slurm") and process.cwd() in [f"{folder}/{node}" for node in nodes]:
                return True
            there = process.environ()
            return there.get("SLURM_CLUSTER_NAME") == NAME and there.get("SLURMD_NODENAME") in nodes
        return False

    while found := [p for p in psutil.process_iter() if _runs(p) and belongs(p)]:
        _kill(found)


if __name__ == "__main__":
    verb, *where = sys.argv[1:] or ["status"]
    if verb == "start":
        (cluster := Cluster(*where)).start()
        print(cluster.folder)
    elif verb == "stop":
        Cluster.stop()
    else:
        print(json.dumps(_state()), run("sinfo"), run("squeue"), sep="\n")
