"""What several tests share. Two programs with two OpenMP threads each collapse on two cores, so all have one."""

import os

for _library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "RAYON"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
from tracking import empty_store, finished  # noqa: F401 - fixtures
from workflow import CONFIG, DECAY, Project, with_decay


@pytest.fixture(scope="session")
def grown(tmp_path_factory) -> Iterator[tuple[Project, set[str], set[str]]]:
    """A project that has run with one system, and again with a second one: it, and what ran each time."""
    project = Project.create(tmp_path_factory.mktemp("workflow") / "base", CONFIG)
    try:
        first = project.ran()
        project.source("systems/decay.py").write_text(DECAY)
        project.config = with_decay(CONFIG)
        yield project, first, project.ran()
    finally:
        project.stop()


@pytest.fixture
def project(grown: tuple, tmp_path: Path) -> Iterator[Project]:
    """A copy of the project that has run, up to date and the test's own."""
    project = grown[0].copy(tmp_path / "project")
    yield project
    project.stop()
