"""What a task asks of a trained model: rollouts from first states, or what it reads in whole series."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from . import store
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


ASKED = ("rollouts", "readings")


def asked(params: dict) -> dict[str, dict]:
    """What the parameters of a task ask for, by name."""
    return {name: ask for kind in ASKED for name, ask in params.get(kind, {}).items()}


def open_asked(dataset: Path, prediction: Path, params: dict) -> tuple[dict[str, Any], dict[str, Any]]:
    """(truth, prediction) by name, lazy: the truth is cut to the members that were asked for."""
    truth, predicted = {}, {}
    for name, ask in asked(params).items():
        data = store.open_group(dataset, ask.get("split", "test"))
        truth[name] = data.isel(member=slice(ask.get("members")))
        predicted[name] = store.open_group(prediction, name)
    return truth, predicted
