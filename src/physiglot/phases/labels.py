"""The keys that all classifiers of series share: what they see, and how temperatures become labels."""

from typing import Literal

from pydantic import Field, model_validator

from ..strict import Strict


class Labelled(Strict):
    variant: Literal["faithful", "sound"] = Field(
        "sound", description="as published, defects included, or with the defects removed; see docs/phases.md"
    )
    quantity: Literal["spin", "angle", "real"] = Field(
        "spin", description="Ising spins ±1, XY angles in radians, or real numbers (entries of a Green's function)"
    )
    series: int = Field(20, ge=1, description="sites, or pairs of sites, that the model sees at once")
    steps: int = Field(10, ge=2, description="Monte Carlo steps that it sees, from the first one on")
    windows: list[list[float]] = Field(
        [[0.0, 1.0], [4.0, 5.0]],
        description="parameter ranges [low, high] of label 0 and of label 1; what lies elsewhere is not trained on",
    )
    labels: Literal["windows", "random"] = Field(
        "windows", description="those of the windows, or random ones: the control that must find nothing"
    )
    reference: float | None = Field(
        None,
        ge=0,
        description="faithful only: the transition by which the authors label the data that choose the epoch",
    )

    @model_validator(mode="after")
    def _two_windows_and_no_answer(self) -> "Labelled":
        if len(self.windows) != 2 or any(len(w) != 2 for w in self.windows):
            raise ValueError(f"windows {self.windows}: give two, [low, high] each")
        low, high = self.windows
        if not low[0] <= low[1] < high[0] <= high[1]:
            raise ValueError(f"windows {self.windows}: they must be ordered and must not overlap")
        if low[0] < 0:
            raise ValueError(f"windows {self.windows}: the parameter is not negative")
        if self.reference is not None and self.variant == "sound":
            raise ValueError(f"reference {self.reference}: a sound model is never told where the transition is")
        return self
