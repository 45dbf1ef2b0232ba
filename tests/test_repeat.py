"""Entries of the configuration that stand for many."""

import pytest

from physiglot import config, repeat
from physiglot.strict import ConfigError


def unrolled(**studies):
    return repeat.unrolled({"studies": studies})["studies"]


def test_lists_are_walked_together():
    entry = {"each": {"n": [2, 10], "t": [None, 2.27]}, "model": "net_{n}", "published": {"t_c": "{t}"}, "steps": "{n}"}
    assert unrolled(**{"net_{n}": entry}) == {
        "net_2": {"model": "net_2", "published": {}, "steps": 2},
        "net_10": {"model": "net_10", "published": {"t_c": 2.27}, "steps": 10},
    }


def test_several_axes_give_all_combinations():
    found = unrolled(**{"{a}_{b}": {"each": [{"a": ["x", "y"]}, {"b": [1, 2]}], "label": "{a} of {b}, {c}"}})
    assert list(found) == ["x_1", "x_2", "y_1", "y_2"]
    assert found["y_1"] == {"label": "y of 1, {c}"}


def test_other_entries_stay_as_they_are():
    entry = {"label": "{x}", "weights": None, "seeds": [0, 1]}
    assert unrolled(plain=entry) == {"plain": entry}
    assert repeat.unrolled({"papers": {"a": {"each": 1}}}) == {"papers": {"a": {"each": 1}}}


def test_it_may_be_done_twice():
    once = repeat.unrolled({"models": {"a_{n}": {"each": {"n": [1]}, "x": "{n}"}}})
    assert repeat.unrolled(once) == once == {"models": {"a_1": {"x": 1}}}


@pytest.mark.parametrize(
    ("name", "each", "message"),
    [
        ("a_{n}", {"n": [1, 2], "t": [1]}, "studies.a_{n}.each: lists .* equally long: n has 2, t has 1"),
        ("a_{n}", {"n": 3}, "studies.a_{n}.each: .*allowed: names with lists"),
        ("a", {"n": [1, 2]}, "studies.a: 'a': this name is given twice"),
    ],
)
def test_a_wrong_one_is_told(name, each, message):
    with pytest.raises(ConfigError, match=message.replace("{", r"\{")):
        unrolled(**{name: {"each": each}})


def test_an_overlay_changes_no_other_entry_that_shares_an_anchor(tmp_path):
    (tmp_path / "base.yaml").write_text("systems:\n  a: &a {params: {size: 1}}\n  b: {<<: *a}\n  c: *a\n")
    laid = config.expand({"base": "base.yaml", "systems": {"a": {"params": {"size": 2}}}}, tmp_path)
    assert {name: s["params"]["size"] for name, s in laid["systems"].items()} == {"a": 2, "b": 1, "c": 1}


def test_a_file_is_laid_over_several(tmp_path):
    (tmp_path / "one.yaml").write_text("systems:\n  a: {seed: 1, block: 1}\n")
    (tmp_path / "two.yaml").write_text("base: one.yaml\nsystems:\n  b: {seed: 2}\n  a: {block: 2}\n")
    (tmp_path / "top.yaml").write_text("base: [one.yaml, two.yaml]\nsystems: {b: {seed: 3}}\n")
    assert config.load(tmp_path / "top.yaml") == {"systems": {"a": {"seed": 1, "block": 2}, "b": {"seed": 3}}}
    (tmp_path / "top.yaml").write_text("base: [one.yaml, three.yaml]\n")
    with pytest.raises(ConfigError, match=r"base: 'three\.yaml': no such file"):
        config.load(tmp_path / "top.yaml")


def test_only_some_studies(tmp_path):
    values = {
        "systems": {"a": {}, "b": {}},
        "studies": {
            "x_1": {"system": "a", "paper": "p"},
            "x_2": {"system": "a", "paper": "p", "weights": "x_1"},
            "y": {"system": "b", "paper": "q"},
        },
        "papers": {"p": {}, "q": {}},
    }

    def kept(only):
        found = config.expand({**values, "only": only}, tmp_path)
        assert found["systems"] == values["systems"] and "only" not in found
        return list(found["studies"]), list(found["papers"])

    assert kept("a") == (["x_1", "x_2"], ["p"])
    assert kept("x_2") == (["x_1", "x_2"], ["p"])
    assert kept("*_1") == (["x_1"], ["p"])
    assert kept(["b", "x_1"]) == (["x_1", "y"], ["p", "q"])
    with pytest.raises(ConfigError, match="only: 'c': no study or its system"):
        kept(["a", "c"])
