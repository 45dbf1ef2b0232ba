"""docs/cluster.md word for word: a fresh user in a fresh clone, with a paper of one small study."""

import copy
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
import yaml
from cluster import Cluster, run
from tracking import all_runs, until
from workflow import CONFIG, HOME, PARTS, PATIENCE, Project, wait_for

PAGE = (HOME / "docs/cluster.md").read_text()
# The environment is there already; tmux needs a terminal, ssh another machine.
STANDS_FOR = f"""
make() {{
    if [ "$1" != setup ]; then command make "$@"; return; fi
    mkdir .venv && ln -s {shlex.quote(sys.prefix)}/* .venv && touch .venv/.installed
}}
tmux() {{ :; }}
ssh() {{ :; }}
"""
NAME = f"physiglot-test-{os.getpid()}"
QUICK = " --seconds-between-status-checks 2"


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of code of a section."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


INSTALL, DRY_RUN, RUN, LOOK = blocks("From an account to the table", "bash")
(EDIT,) = blocks("From an account to the table", "yaml")
(SERVER,) = blocks("MLflow", "bash")


class User(Project):
    """Whose shell reads the page in the clone."""

    def type(self, text: str, where: str = "physiglot") -> subprocess.Popen:
        # PYTHONPATH is what an environment of the clone's own would know.
        home = {"HOME": str(self.folder), "USER": NAME, "PYTHONPATH": "src"}
        text = re.sub(r"^snakemake --profile slurm", rf"\g<0>{QUICK}", text, flags=re.MULTILINE)
        activate = "source .venv/bin/activate" if where else ""
        user = User(self.folder / where)
        user.started = self.started
        return user.launch(["bash", "-ec", f"{STANDS_FOR}{activate}\n{text}"], **home, **self.variables)

    def says(self, text: str, where: str = "physiglot") -> str:
        process = self.type(text, where)
        said = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0, said
        return said


def paper() -> dict:
    """The paper of the page with one study, of a polynomial that is fitted in a moment."""
    config = copy.deepcopy(CONFIG)
    del config["models"]["faithful"]
    study = {**config["studies"]["lorenz_cubic"], "paper": "koopman"}
    return {**config, "studies": {"ours_clean": study}, "papers": {"koopman": config["papers"]["chaos"]}}


@pytest.fixture(scope="module")
def user(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """The page as far as the edited profile."""
    if not (HOME / ".git").exists():
        pytest.skip("not a git checkout")
    user = User(tmp_path_factory.mktemp("home"))
    user.says(INSTALL.replace("<this repository>", str(HOME)), where="")
    clone = Project(user.folder / "physiglot")
    for part in (*PARTS, "Makefile"):  # as they stand here, committed or not
        subprocess.run(["cp", "-aT", HOME / part, clone.folder / part], check=True)
    (clone.folder / "paper.yaml").write_text(yaml.safe_dump(paper()))
    profile = clone.folder / "profiles/slurm/config.yaml"
    for line in EDIT.splitlines()[1:4]:
        assert f"# {line.strip()} " in profile.read_text().replace("\n", " \n")
        profile.write_text(profile.read_text().replace(f"# {line.strip()}", line.strip()))
    run("sacctmgr", "--immediate", "add", "account", "myproject", "cluster=physiglot")
    run("sacctmgr", "--immediate", "add", "user", "root", "account=myproject")
    yield user
    user.stop()
    shutil.rmtree(f"/var/tmp/{NAME}", ignore_errors=True)


def test_the_one_file_to_edit_is_as_the_page_says(user):
    profile = yaml.safe_load((user.folder / "physiglot/profiles/slurm/config.yaml").read_text())
    asked = yaml.safe_load(EDIT)
    assert profile["default-resources"] == asked["default-resources"]
    assert asked["set-resources"].items() <= profile["set-resources"].items()


def test_from_an_account_to_the_table(user, cluster):
    clone = Project(user.folder / "physiglot")
    said = user.says(DRY_RUN)
    assert "This was a dry-run" in said and {"simulate", "collect", "dataset", "table"} <= set(said.split())
    assert "train" not in said.split()
    workflow = user.type(RUN)
    ask, tail, report, mlflow, _ = LOOK.splitlines()
    wait_for(lambda: re.search(r"RUNNING .* rule_\w+", user.says(ask)))
    os.killpg(workflow.pid, signal.SIGINT)
    said = workflow.communicate(timeout=PATIENCE)[0]
    assert not run("squeue", "--me", "--noheader"), said
    user.says(RUN)
    assert (clone.folder / "papers/koopman/table.md").is_file()
    assert "finished" in user.says(tail)
    user.says(report)
    assert (clone.folder / "report.html").is_file()
    looks_at_mlflow(user, mlflow)
    assert "Nothing to be done" in user.says(RUN)
    partitions = {(j["partition"], j["workdir"]) for j in cluster.jobs()}
    assert ("cpu", str(clone.folder)) in partitions
    assert "myproject" in run("sacct", "-X", "--noheader", "--format=account%20")


def looks_at_mlflow(user: User, command: str) -> None:
    """The UI answers on this host alone."""
    assert free(5000), "the page's port 5000 is in use"
    ui = user.type(f"exec &> mlflow.out\n{command}")
    until(lambda: not free(5000), PATIENCE)
    listens = [c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == 5000]
    assert set(listens) == {"127.0.0.1"}
    names = until(lambda: all_runs("http://localhost:5000"), PATIENCE)
    os.killpg(ui.pid, signal.SIGKILL)
    ui.wait()
    assert len(names) == len(Project(user.folder / "physiglot").records())


def free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_data_are_added_and_a_server_gets_the_runs(user):
    """Only the new block is simulated; the runs of before are published as well."""
    clone = Project(user.folder / "physiglot")
    config = yaml.safe_load((clone.folder / "paper.yaml").read_text())
    config["systems"]["lorenz"]["splits"]["train"]["members"] += 4
    (clone.folder / "paper.yaml").write_text(yaml.safe_dump(config))
    before = clone.records()
    assert free(5000), "the page's port 5000 is in use"
    start, rest = SERVER.replace("login1", "localhost").split("export", 1)
    server = user.type(f"exec &> mlflow.out\n{start}")
    until(lambda: not free(5000), PATIENCE)
    user.says(f"export{rest}")
    ran = {name for name, record in clone.records().items() if record != before.get(name)}
    assert {name for name in ran if name.startswith("simulate")} == {"simulate/lorenz/train/2"}
    assert "table/koopman" in ran
    states = [r.info.status for r in all_runs("http://localhost:5000").values()]
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    assert states == ["FINISHED"] * len(clone.records())


def test_the_keys_of_the_page_are_keys_of_the_configuration():
    """Ranks, nodes, Dask."""
    from physiglot import config

    asked = [yaml.safe_load(blocks(name, "yaml")[0]) for name in ("Several GPUs and nodes", "Dask")]
    values = paper()
    values["studies"]["ours_clean"] |= asked[0]["studies"]["ours_clean"]
    config.Config.model_validate({**values, "dask": asked[1]["dask"]})
