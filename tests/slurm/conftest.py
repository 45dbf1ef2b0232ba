"""Tests that need SLURM run on a real cluster on this machine, or are skipped and say what it lacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing


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
