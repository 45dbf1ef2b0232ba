"""The house rules: sizes, who may import what, and lists that must stay in step."""

import ast
import importlib
import re
import statistics
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOME = Path(__file__).parents[1]
SOURCE = HOME / "src/physiglot"
PARTS = ("models", "systems", "tasks")
SAFE = {
    "scheduler",
    "rerun-incomplete",
    "show-failed-logs",
    "keep-going",
    "printshellcmds",
    "retries",
    "max-checksum-file-size",
}


def tracked() -> list[Path]:
    """Text files that git knows or would take, as they stand."""
    command = ["git", "-C", HOME, "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = [HOME / line for line in done.stdout.splitlines()]
    return [p for p in paths if p.is_file() and b"\0" not in p.read_bytes()[:4096]]


def code() -> list[Path]:
    kinds = [("src", "*.py"), ("tests", "*.py"), ("benchmarks", "*.py"), ("rules", "*.smk"), ("docs", "*.py")]
    return [HOME / "Snakefile", *(p for folder, kind in kinds for p in sorted((HOME / folder).rglob(kind)))]


def imported(path: Path) -> set[str]:
    """The absolute names of everything that a source file imports, inside functions too."""
    package = ["physiglot", *path.relative_to(SOURCE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found |= {origin, *(f"{origin}.{a.name}" for a in node.names)}
    return found


def stages() -> set[str]:
    """Modules that are programs: each ends in `stage.run(itself)`."""
    return {p.stem for p in SOURCE.glob("*.py") if f"stage.run({p.stem})" in p.read_text()}


def requirements() -> list[Requirement]:
    return [Requirement(r) for r in tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["dependencies"]]


def locked() -> dict[str, str]:
    pairs = re.findall(r"^([\w.-]+)==(\S+)$", (HOME / "requirements.lock").read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pairs}


# --- sizes -------------------------------------------------------------------------------------


def test_files_are_short():
    lines = {str(p.relative_to(HOME)): len(p.read_text().splitlines()) for p in code()}
    assert {name: n for name, n in lines.items() if n > 400} == {}
    assert statistics.median(lines.values()) <= 200


# --- who knows whom ----------------------------------------------------------------------------


def test_every_rule_is_a_stage_of_the_same_name():
    text = "".join((HOME / "rules" / f"{name}.smk").read_text() for name in ("data", "learn", "report"))
    assert set(re.findall(r"^(?:rule|checkpoint) (\w+):", text, re.MULTILINE)) == stages()


def test_no_stage_knows_another_stage():
    known = {f"physiglot.{name}" for name in stages()}
    guilty = {name: imported(SOURCE / f"{name}.py") & known for name in stages()}
    assert {name: found for name, found in guilty.items() if found} == {}


@pytest.mark.parametrize("kind", PARTS)
def test_systems_models_and_tasks_know_no_stage(kind):
    known = {f"physiglot.{name}" for name in stages()}
    guilty = {p.name: imported(p) & known for p in (SOURCE / kind).glob("*.py")}
    assert {name: found for name, found in guilty.items() if found} == {}


def test_only_track_imports_mlflow():
    users = {p for p in SOURCE.rglob("*.py") if any(n.split(".")[0] == "mlflow" for n in imported(p))}
    assert users and {p.parent.name for p in users} == {"track"}


@pytest.mark.parametrize("kind", PARTS)
def test_the_package_of_a_kind_is_no_registry(kind):
    """A module is found by its name; `__init__` lists none."""
    names = {p.stem for p in (SOURCE / kind).glob("*.py")} - {"__init__"}
    text = (SOURCE / kind / "__init__.py").read_text()
    assert not {name for name in names if f'"{name}"' in text or f"import {name}" in text}


# --- lists that must stay in step --------------------------------------------------------------


def test_the_conda_environment_lists_what_pyproject_lists():
    environment = yaml.safe_load((HOME / "envs/physiglot.yaml").read_text())["dependencies"]
    pip = next(part["pip"] for part in environment if isinstance(part, dict))
    assert {str(Requirement(line)) for line in pip} == set(map(str, requirements()))


def test_the_lock_file_satisfies_pyproject():
    versions = locked()
    for r in requirements():
        assert canonicalize_name(r.name) in versions, f"{r.name} is not in requirements.lock"
        assert r.specifier.contains(versions[canonicalize_name(r.name)]), f"{r}, but the lock has another version"


def test_the_lock_file_has_the_tools():
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    for r in map(Requirement, project["optional-dependencies"]["dev"]):
        assert r.specifier.contains(locked()[canonicalize_name(r.name)]), r


def test_the_default_profile_is_safe_everywhere():
    assert set(yaml.safe_load((HOME / "profiles/default/config.yaml").read_text())) <= SAFE


def test_the_slurm_profile_is_found_and_names_no_cluster():
    assert (HOME / "slurm").is_symlink()
    profile = yaml.safe_load((HOME / "slurm/config.yaml").read_text())
    assert profile["executor"] == "physiglot"
    assert not re.search(r"slurm_(account|partition|qos)|reservation|mail-user", str(profile))


def test_nothing_tracked_is_bound_to_a_machine():
    """No absolute path of somebody's machine, no package index."""
    # Put together from pieces, so that this file does not contain what it looks for.
    folders = "|".join(("work", "home", "root", "Users", "scratch"))
    words = (
        r"index-" + "url",
        r"extra-" + "index",
        r"pypi\.org/" + "simple",
        r"download\." + "pytorch",
        "find-" + "links",
    )
    index = "|".join(words)
    bad = re.compile(rf"(?<![\w.~{{}}/*-])/(?:{folders})/\w|--(?:{index})|https?://\S*(?:{index})")
    found = [
        f"{path.relative_to(HOME)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if bad.search(line)
    ]
    assert found == []


def test_every_tracked_text_is_plain():
    """No merge marks, no trailing blanks, one newline at the end."""
    for path in tracked():
        text = path.read_text(errors="replace")
        if path.suffix in (".svg", ".csv", ".lock"):
            continue
        assert not re.search(r"^(<{7}|>{7}) ", text, re.MULTILINE), path
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), f"{path}: trailing blanks"
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), f"{path}: one newline at the end"


@pytest.mark.parametrize("path", sorted((HOME / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_a_benchmark_names_what_exists(path):
    """Nobody runs them in CI, where most of their peers are not installed."""
    tree = ast.parse(path.read_text())
    modules: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "physiglot":
            for name in node.names:
                try:
                    modules[name.asname or name.name] = importlib.import_module(f"{node.module}.{name.name}")
                except ModuleNotFoundError:
                    assert hasattr(importlib.import_module(node.module), name.name), f"{node.module}.{name.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"{path.name}:{node.lineno}: {ast.unparse(node)}"
