"""Every task, found by its file, keeps the contract of docs/design.md."""

from pathlib import Path

import numpy as np
import pytest
import readings
import sampled
import xarray as xr
import yaml
from test_contracts import MADE, found, load

from physiglot import drawing, table

CONFIG = yaml.safe_load((Path(__file__).parent / "config.yaml").read_text())


# Tasks that are tried on fields by formula.
FORMULAS = {"field_forecast": ("wake", {"rollouts": {"test": {}}})}


class Asked:
    """A task with the parameters, the system and the splits that tests/config.yaml gives it, or `FORMULAS`."""

    def __init__(self, name: str):
        self.module = load("tasks", name)
        if made := (readings.READ | sampled.DRAWN).get(name):
            params, self.truth, self.prediction = made()
            self.params = self.module.Params(**params)
            return
        system, params = FORMULAS.get(name) or self._configured(name)
        self.params = self.module.Params(**params)
        self.truth, self.prediction = {}, {}
        for role, rollout in self.params.rollouts.items():
            self.truth[role] = self._series(system, rollout.split, None)
            run = self._series(system, rollout.split, rollout.steps)
            drift = np.linspace(0, 1e-3, run.sizes["time"]).reshape(-1, *[1] * (run["state"].ndim - 2))
            states = run["state"].values * (1 + drift) + rollout.nudge
            run = run.assign(prediction=(run["state"].dims, states)).drop_vars("state")
            self.prediction[role] = run

    @staticmethod
    def _configured(name: str) -> tuple[str, dict]:
        key, task = next((k, t) for k, t in CONFIG["tasks"].items() if t["module"] == name)
        return next(s for s in CONFIG["studies"].values() if s["task"] == key)["system"], task["params"]

    @staticmethod
    def _simulated(name: str, split: str, steps: int | None, members: int, rng: np.random.Generator) -> xr.Dataset:
        config = CONFIG["systems"][name]
        system = load("systems", config["module"])
        params = {**config.get("params", {}), **config["splits"][split].get("params", {})}
        params |= {"steps": steps} if steps else {}
        return system.simulate(system.Params(**params), members, rng)

    def _series(self, name: str, split: str, steps: int | None, members: int = 4) -> xr.Dataset:
        rng = np.random.default_rng(1)
        data = MADE[name](members, rng) if name in MADE else self._simulated(name, split, steps, members, rng)
        axes = [i for i in range(data["state"].ndim) if i != 2]
        moments = {m: getattr(data["state"].values, m)(axis=tuple(axes)).tolist() for m in ("mean", "std")}
        return data.assign_attrs(moments)

    def study(self, name: str, metrics: dict):
        return self.module.Study(
            name=name,
            label=name.title(),
            variant="ours",
            dataset="clean",
            truth=self.truth,
            predictions=[self.prediction],
            metrics=[metrics],
            published={},
            params=self.params,
        )


@pytest.fixture(scope="module", params=found("tasks"))
def asked(request) -> Asked:
    return Asked(request.param)


@pytest.fixture(scope="module")
def metrics(asked) -> dict[str, float]:
    return asked.module.evaluate(asked.truth, asked.prediction, asked.params)


def drawn(figures: dict, folder: Path) -> None:
    """Every figure can be written, and is no empty page."""
    for name, figure in figures.items():
        drawing.save(figure, folder / name)
        assert (folder / f"{name}.svg").stat().st_size > 2000
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_a_task_evaluates(asked, metrics):
    values = {k: v for k, v in metrics.items() if not k.endswith("_reason") and f"{k}_reason" not in metrics}
    assert all(isinstance(name, str) and np.isfinite(value) for name, value in values.items())
    assert table.columns(list(metrics), asked.module.METRICS), "none of its metrics has a heading"
    again = asked.module.evaluate(asked.truth, asked.prediction, asked.params)
    assert list(again) == list(metrics) and {k: again[k] for k in values} == values


def test_a_task_measures_a_failure(asked, metrics):
    """A prediction that blows up has metrics too, and they are not better."""
    if not hasattr(asked.params, "rollouts"):
        pytest.skip("it predicts nothing")
    failed = {role: run.where(run["time"] < run["time"][3]) for role, run in asked.prediction.items()}
    found = asked.module.evaluate(asked.truth, failed, asked.params)
    assert all(np.isfinite(found[name]) for name in table.columns(list(found), asked.module.METRICS))
    assert found != metrics


def test_a_task_draws_its_figures(asked, metrics, tmp_path):
    figures = asked.module.plot(asked.truth, asked.prediction, metrics, asked.params)
    assert set(figures) == set(asked.module.FIGURES)
    drawn(figures, tmp_path)


def test_a_task_draws_its_comparisons(asked, metrics, tmp_path):
    figures = asked.module.compare([asked.study("one", metrics), asked.study("two", metrics)])
    assert set(figures) == set(asked.module.COMPARISONS)
    drawn(figures, tmp_path)


def test_errors_larger_than_a_difference_are_drawn(tmp_path):
    """The axis of relative errors is logarithmic, and a good ground state is exact within its error."""
    params, truth, prediction = readings.ground_state(error=0.0)
    task = load("tasks", "ground_state")
    metrics = {"relative_error": -1e-6, "relative_error_stderr": 1e-4, "energy_per_site": -1.0}
    given = {"variant": "ours", "dataset": "clean", "published": {}, "label": "RBM", "params": task.Params(**params)}
    study = task.Study(name="one", truth=truth, predictions=[prediction], metrics=[metrics], **given)
    drawn(task.compare([study]), tmp_path)
