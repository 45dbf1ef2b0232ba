"""What runs again, and what does not: the promise of the workflow, row by row, on the real Snakefile."""

import pytest

pytestmark = pytest.mark.workflow


def test_a_new_system_is_one_file_and_a_block_and_runs_only_what_is_new(grown):
    project, first, second = grown
    assert first == project.matching("*/lorenz*", "table/chaos")
    assert second == project.matching("*/decay*", "table/rest")


def test_nothing_changed(project):
    assert project.ran() == set()
