"""Tests that need SLURM run on a real cluster on this machine, or are skipped and say what it lacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing
from jobs import SLURM, WEIGHTS
from workflow import Project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Called with the tests of every folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("slurm")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := missing():
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def onslurm(project: Project, cluster: Cluster) -> Project:
    """A project that has run without SLURM and is up to date."""
    project.how = SLURM
    return project


@pytest.fixture(scope="session")
def trained(grown: tuple, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A training of 20 steps, uninterrupted and without SLURM."""
    project = grown[0].copy(tmp_path_factory.mktemp("trained") / "project")
    project.change("models.faithful.training.epochs", 5)
    project.snakemake(WEIGHTS)
    yield project
    project.stop()
