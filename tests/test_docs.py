"""The documentation is true: its examples run, its tables are those of the results, its links lead somewhere."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from workflow import HOME, Project, environment

from physiglot import checks, config
from physiglot.symbols import PACKAGE

PAGES = sorted([*HOME.glob("*.md"), *(HOME / "docs").glob("*.md")])
EXAMPLES = {
    "rossler.yaml": "add_a_system",
    "perceptron.yaml": "add_a_model",
    "noise10.yaml": "add_a_study",
    "well.yaml": "generative",
}
SOURCES = {
    "systems/rossler.py": "add_a_system",
    "models/perceptron.py": "add_a_model",
    "systems/double_well.py": "generative",
}


def block(page: str, language: str) -> str:
    """The first block of code of a language in a page of docs/."""
    return re.search(rf"^```{language}\n(.*?)^```", (HOME / f"docs/{page}.md").read_text(), re.DOTALL | re.MULTILINE)[1]


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def script(name: str):
    """The script docs/<name>.py as a module."""
    spec = importlib.util.spec_from_file_location(name, HOME / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def refresh():
    return script("refresh")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project with the files of the pages, as they stand there."""
    project = Project.create(tmp_path_factory.mktemp("docs") / "project", config.load(HOME / "config.yaml"))
    for name, page in SOURCES.items():
        project.source(name).write_text(block(page, "python"))
    for name, page in EXAMPLES.items():
        (project.folder / name).write_text(block(page, "yaml"))
    return project


# --- what is taken from elsewhere --------------------------------------------------------------


def test_the_tables_of_the_readme_are_those_of_the_results(refresh):
    assert "<!-- table:koopman -->" in refresh.readme()
    assert (HOME / "README.md").read_text() == refresh.readme(), "run: python docs/refresh.py"


def test_results_are_kept_in_parts():
    results = script("results")
    old = [["study", "value"], ["a", "1"], ["a", "2"], ["b", "3"]]
    new = [["study", "value"], ["c", "9"], ["a", "7"]]
    assert results.merged(old, new) == [["study", "value"], ["a", "7"], ["b", "3"], ["c", "9"]]
    parts = [{"command": "x", "studies": ["a", "b"]}, {"command": "y", "studies": ["a"]}]
    assert results.without(parts, ["a", "c"]) == [{"command": "x", "studies": ["b"]}]


@pytest.mark.parametrize("table", sorted((HOME / "docs/results").glob("*.csv")), ids=lambda path: path.stem)
def test_every_row_of_the_results_has_its_command(table):
    made = [s for part in json.loads(table.with_suffix(".json").read_text())["parts"] for s in part["studies"]]
    rows = [line.split(",")[0] for line in table.read_text().splitlines()[1:]]
    assert sorted(made) == sorted(set(rows))


def test_the_page_of_all_keys_is_up_to_date(refresh):
    assert (HOME / "docs/configuration.md").read_text() == refresh.configuration(), "run: python docs/refresh.py"


def test_every_key_says_what_it_means(refresh):
    schemas = {s.__name__: s for s in refresh.nested([config.Config])}
    for folder in ("systems", "models", "tasks"):
        for path in (PACKAGE / folder).glob("[!_]*.py"):
            schemas[f"{folder}/{path.stem}"] = checks.params_of(folder, path.stem, "")
    silent = [f"{name}.{key}" for name, s in schemas.items() for key, f in s.model_fields.items() if not f.description]
    assert silent == []


def test_a_result_is_shown_with_its_error_and_the_published_value(refresh):
    row = {"value": "0.000123456", "error": "2.1e-05", "published": "0.0003"}
    assert refresh.number(row) == "0.000123 ± 2e-05 [0.0003]"
    assert refresh.number({"value": "", "error": "", "published": "2.03"}) == "failed [2.03]"
    assert refresh.number(None) == ""


# --- links and commands ------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not target.startswith(("http://", "https://")):
            path, _, anchor = target.partition("#")
            there = page.parent / path if path else page
            assert there.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_commands_exist(page):
    """What the pages tell to run: targets of make, modules, files in the folders of the repository."""
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (HOME / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for module in re.findall(r"python -m physiglot\.(\w+)", text):
        assert any((PACKAGE / name).is_file() for name in (f"{module}.py", f"{module}/__main__.py")), module
    for path in re.findall(r"`((?:src|tests|docs|rules|profiles|envs|benchmarks|\.ci)/[\w./-]+)`", text):
        made = any(path.endswith(name) for name in SOURCES)
        assert made or (HOME / path).exists(), f"{page.name}: {path}"


def test_the_citation_is_that_of_this_version():
    cited = yaml.safe_load((HOME / "CITATION.cff").read_text())
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    keys = ("version", "license")
    assert cited["title"] == project["name"] and [cited[k] for k in keys] == [project[k] for k in keys]


# --- examples ----------------------------------------------------------------------------------


VALIDATE = """
import sys
from pathlib import Path
from physiglot import config
config.validate(config.load(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_configuration_of_a_page_is_valid(project, name):
    """Laid over the demo's, in the project that has the modules of the pages."""
    given = {"cwd": project.folder, "env": {**environment(), "PYTHONPATH": "src"}}
    done = subprocess.run([sys.executable, "-c", VALIDATE, name], **given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tiny(values: dict) -> dict:
    """The study of the two pages that needs both, as small as it still runs."""
    rossler = values["systems"]["rossler"]
    sizes = {"train": 64, "val": 64, "test": 192, "long": 600}
    for name, steps in sizes.items():
        rossler["splits"][name] = {"members": 4, "params": {"steps": steps}}
    rossler |= {"block": 4, "chunk": 4}
    values["models"]["perceptron"]["training"] |= {"steps": 20, "batch": 4}
    values["tasks"]["forecast_rossler"]["params"] |= {"transient": 10.0, "resamples": 10}
    values["studies"] = {"rossler_perceptron": values["studies"]["rossler_perceptron"]}
    return values | {"tracking": {"uri": None}}


@pytest.mark.workflow
def test_the_examples_run(project):
    """The Rössler system and the perceptron, from the code on the pages to the table and the figures."""
    values = tiny(config.load(project.folder / "perceptron.yaml"))
    project.config = values
    ran = project.ran("rossler")
    assert {"simulate/rossler/train/0", "train/rossler_perceptron/0/model", "table/rossler"} <= ran
    for study in values["studies"]:
        folder = project.folder / f"runs/{study}/0"
        metrics = yaml.safe_load((folder / "metrics.json").read_text())
        assert 0 <= metrics["relative_mse_0_64"] < 2
        assert {p.name for p in (folder / "figures").glob("*.svg")} == {
            "rollouts.svg",
            "attractor.svg",
            "lorenz_map.svg",
            "animation.svg",
        }
    table = (project.folder / "papers/rossler/table.md").read_text()
    assert "Perceptron" in table and "The Rössler attractor" in table


@pytest.mark.workflow
def test_the_command_of_a_page_is_understood(project):
    said = project.snakemake("-n", "rossler", "--configfile", "rossler.yaml")
    assert "simulate" in said and "error" not in said.lower().replace("error_growth", "")
