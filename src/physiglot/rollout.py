"""What a task asks of a trained model: rollouts from first states, or what it reads in whole series."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from . import fingerprint, store
from .strict import Strict


class Rollout(Strict):
    split: str = Field("test", description="the split whose first states are the starts")
    members: int | None = Field(None, ge=1, description="how many of its series; all if omitted")
    steps: int | None = Field(None, ge=1, description="steps to predict; as many as the truth has if omitted")
    nudge: float = Field(
        0.0,
        ge=0,
        description="offset added to every field of the start, in its units: a twin to measure chaos by",
    )
    batch: int | None = Field(None, ge=1, description="series predicted at a time; all if omitted")
    precision: Literal["float64", "float32"] = Field("float64", description="arithmetic of the prediction")


class Reading(Strict):
    split: str = Field("test", description="the split whose series are read")
    members: int | None = Field(None, ge=1, description="how many of its series; all if omitted")
    batch: int | None = Field(None, ge=1, description="series read at a time; all if omitted")
    precision: Literal["float64", "float32"] = Field("float64", description="arithmetic of the reading")


class Samples(Strict):
    count: int = Field(10_000, ge=1, description="configurations to draw")
    batch: int = Field(1000, ge=1, description="configurations drawn at a time")
    seed: int = Field(0, ge=0, description="seed of the draws")
    precision: Literal["float64", "float32"] = Field(
        "float32", description="arithmetic of the model; logarithms of weights are always float64"
    )
    split: str | None = Field(None, description="the split that stands beside them, as samples of the target")
    stages: int = Field(0, ge=0, description="rows of what the model makes step by step, by its method `stages`")
    members: int | None = Field(None, ge=1, description="how many of its series; all if omitted")


ASKED = ("rollouts", "readings", "samples")


def asked(params: dict) -> dict[str, dict]:
    """What the parameters of a task ask for, by name."""
    return {name: ask for kind in ASKED for name, ask in params.get(kind, {}).items()}


def open_asked(
    dataset: Path | None, prediction: Path, params: dict, target: dict | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(truth, prediction) by name, lazy: the truth is cut to the members that were asked for.

    Samples have a truth only if they name a split and the study a data set. Those of another target than `target`
    are a ValueError. What they cost is in their attributes.
    """
    truth, predicted = {}, {}
    for name, ask in asked(params).items():
        split = ask.get("split") if name in params.get("samples", {}) else ask.get("split", "test")
        if dataset is not None and split is not None:
            truth[name] = store.open_group(dataset, split).isel(member=slice(ask.get("members")))
        predicted[name] = store.open_group(prediction, name)
        if name in params.get("samples", {}):
            _check_target(prediction, predicted[name].attrs, target)
            predicted[name].attrs["cost"] = store.attributes(prediction)["notes"].get(name, {})
    return truth, predicted


def _check_target(prediction: Path, attributes: dict, target: dict | None) -> None:
    made, asked_for = attributes.get("target"), fingerprint.canonical(target)
    if made != asked_for:
        raise ValueError(f"{prediction}: made for the target {made}, but the study has {asked_for}: run predict again")
