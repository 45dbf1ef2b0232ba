"""What is known of the sources: read again by the next run, forgotten after an edit."""

import json
from pathlib import Path

import pytest

from physiglot import config, findings
from physiglot.findings import Findings
from physiglot.strict import ConfigError

HOME = Path(__file__).parents[1]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """One source file, in place of ours."""
    monkeypatch.setattr(findings, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(findings, "LOCK", tmp_path / "lock")
    path = tmp_path / "package/a/b.py"
    path.parent.mkdir(parents=True)
    path.write_text("x = 1\n")
    return path


def never():
    raise AssertionError("asked again")


def test_a_run_reads_what_the_last_one_found(source, tmp_path):
    kept = tmp_path / "found.json"
    found = Findings(kept)
    assert found("hash", lambda: "one") == found("hash", never) == "one"
    assert Findings(kept)("hash", never) == "one"


@pytest.mark.parametrize("edit", ["content", "new", "gone", "lock"])
def test_an_edit_forgets(source, tmp_path, edit):
    kept = tmp_path / "found.json"
    Findings(kept)("hash", lambda: "one")
    if edit == "content":
        source.write_text("x = 2\n")
    elif edit == "new":
        (source.parent / "c.py").write_text("")
    elif edit == "gone":
        source.unlink()
    else:
        (tmp_path / "lock").write_text("numpy==2\n")
    assert Findings(kept)("hash", lambda: "two") == "two"


def test_what_is_found_during_an_edit_counts_for_that_run_only(source, tmp_path):
    kept = tmp_path / "found.json"
    found = Findings(kept)
    found("before", lambda: "kept")
    source.write_text("x = 'edited'\n")
    assert found("after", lambda: "edited") == found("after", never) == "edited"
    source.write_text("x = 1\n")
    assert Findings(kept)("before", never) == "kept"
    assert Findings(kept)("after", lambda: "one") == "one"


def test_a_job_believes_the_main_process_and_writes_nothing(source, tmp_path):
    kept = tmp_path / "found.json"
    Findings(kept)("hash", lambda: "one")
    before = kept.read_bytes()
    source.write_text("x = 2\n")
    job = Findings(kept, owner=False)
    assert job("hash", never) == "one"
    assert job("other", lambda: "found") == "found"
    assert kept.read_bytes() == before


def test_a_configuration_passes_once(tmp_path, monkeypatch):
    values = config.expand({"base": "config.yaml", "only": "ours_clean"}, HOME)
    kept = tmp_path / "found.json"
    config.validate(values, Findings(kept))
    monkeypatch.setattr(config.checks, "everything", lambda _: never())
    config.validate(values, Findings(kept))
    assert any(q.startswith("checked ") for q in json.loads(kept.read_text())["answers"])
    values["tracking"] = {"uri": "sqlite:///other.db"}
    with pytest.raises(AssertionError, match="asked again"):
        config.validate(values, Findings(kept))


def test_a_configuration_that_fails_is_asked_again(tmp_path):
    values = config.expand({"base": "config.yaml", "only": "ours_clean"}, HOME)
    values["studies"]["ours_clean"]["model"] = "nothing"
    for _ in range(2):
        with pytest.raises(ConfigError, match="nothing"):
            config.validate(values, Findings(tmp_path / "found.json"))
