"""What a task asks of a model's `predict`: from which states, for how many steps."""

from pathlib import Path
from typing import Any

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


def open_rollouts(dataset: Path, prediction: Path, rollouts: dict) -> tuple[dict[str, Any], dict[str, Any]]:
    """(truth, prediction) by rollout, lazy: the truth is cut to the members of the rollout."""
    truth, predicted = {}, {}
    for name, rollout in rollouts.items():
        data = store.open_group(dataset, rollout.get("split", "test"))
        truth[name] = data.isel(member=slice(rollout.get("members")))
        predicted[name] = store.open_group(prediction, name)
    return truth, predicted
