"""Keys that all models of coupling flows share. Nothing heavy is imported here."""

from typing import Literal

from pydantic import Field

from ..strict import Strict


class FlowParams(Strict):
    univariate: Literal["affine", "spline"] = Field(
        "affine", description="what is done to a variable: real NVP's affine map, or a rational-quadratic spline"
    )
    bins: int = Field(8, ge=2, description="of a spline")
    bound: float = Field(5.0, gt=0, description="splines act on [−bound, bound] standard deviations; identity outside")
    width: float = Field(
        1.0, gt=0, description="first width of the samples, in standard deviations of the data; it is learnt"
    )
    z2: bool = Field(True, description="the mixture of q(x) and q(−x) in equal parts")
    shift: float = Field(0.0, ge=-100, le=100, description="mean of the noise; not 0: a model bent to one mode")
    anneal: float | None = Field(None, gt=0, description="beta_t = beta (1 − exp(−progress/anneal)) in training")
