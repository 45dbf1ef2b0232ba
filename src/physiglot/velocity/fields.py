"""Which field suits a target: that of lattices or that of particles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import lattice, particles

if TYPE_CHECKING:
    from ..targets import Target


def of(target: Target, params: Any) -> Any:
    """The untrained field for the configurations of `target`. Raises ValueError where there is none."""
    if target.support != "real":
        raise ValueError(f"velocity: configurations of {type(target).__name__} are {target.support}: must be real")
    shape, centred = tuple(target.shape), getattr(target, "centred", None)
    if centred is not None:
        given = params.model_dump(include={"times", "radial", "reach", "hidden"})
        return particles.Field((shape[0], shape[1]), centred=centred, **given)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"velocity: configurations of shape {shape}: must be square lattices or particles")
    return lattice.Field(shape[0], **params.model_dump(include={"times", "frequencies", "highest"}))
