"""Rollouts that get longer as the training goes on."""

from itertools import accumulate
from typing import Annotated, Self

from pydantic import Field, model_validator

from .strict import Strict


class Curriculum(Strict):
    """How many steps a loss unrolls, by the fraction of the training that is done."""

    horizons: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 8, 24, 48], min_length=1, description="steps unrolled, in order"
    )
    shares: list[Annotated[float, Field(ge=0)]] = Field(
        [0.15, 0.15, 0.3, 0.4], description="share of the training given to each horizon"
    )

    @model_validator(mode="after")
    def _one_share_each(self) -> Self:
        if len(self.shares) != len(self.horizons) or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares {self.shares} must be one number for each of {self.horizons} and sum to 1")
        return self

    def horizon(self, progress: float) -> int:
        ends = zip(self.horizons, accumulate(self.shares), strict=True)
        return next((steps for steps, end in ends if progress < end), self.horizons[-1])
