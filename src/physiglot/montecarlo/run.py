"""Keys that all lattice systems share: steps, and the temperatures of the chains. Nothing heavy is imported here."""

from itertools import pairwise

import numpy as np
from pydantic import Field, model_validator

from ..strict import Strict


class Grid(Strict):
    """Values first, first + step, …, last: temperatures in units of J/k_B, or Hubbard interactions in units of t."""

    first: float = Field(ge=0, allow_inf_nan=False, description="lowest value")
    last: float = Field(ge=0, allow_inf_nan=False, description="highest value")
    step: float = Field(gt=0, allow_inf_nan=False, description="distance of two values")

    def values(self) -> np.ndarray:
        return np.round(self.first + self.step * np.arange(round((self.last - self.first) / self.step) + 1), 12)


class Run(Strict):
    """Keys of every lattice system. Temperatures come from `windows` or from `temperatures`."""

    steps: int = Field(10, ge=1, description="saved steps; index 0 is the state after the first, not the start")
    sweeps: int = Field(1, ge=1, description="sweeps between saved steps; a sweep is as many attempts as sites")
    thermalisation: int = Field(0, ge=0, description="sweeps before the first saved step is begun")
    windows: list[list[float]] | None = Field(
        None, description="[low, high] each: members alternate over the windows and draw T uniformly within"
    )
    temperatures: Grid | list[float] | None = Field(
        None, description="instead of windows: n values of T in units of J/k_B; member i of a block has number i mod n"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Run":
        check_source(self.windows, self.temperatures, "temperatures")
        return self

    def drawn(self, members: int, rng: np.random.Generator, default: list[list[float]]) -> np.ndarray:
        """Temperature of each member; `default` are the windows where the configuration has neither."""
        return drawn(self.windows or default, self.temperatures, members, rng, "temperatures")


def check_source(windows: list[list[float]] | None, given: Grid | list[float] | None, name: str) -> None:
    """Windows or the values `name` of the members: not both, and valid."""
    if windows is not None and given is not None:
        raise ValueError(f"windows and {name} are both given: give one of them")
    if windows is not None:
        _check_windows(windows)
    values = given.values() if isinstance(given, Grid) else given
    if values is not None and (len(values) == 0 or not np.all(np.isfinite(values)) or min(values) < 0):
        raise ValueError(f"{name} {given}: give at least one, all finite and not negative")


def drawn(
    windows: list[list[float]], given: Grid | list[float] | None, members: int, rng: np.random.Generator, name: str
) -> np.ndarray:
    """The parameter of each member: the values `given` in turn, or a uniform draw within the windows in turn."""
    if given is None:
        low, high = np.array(windows).T
        window = np.arange(members) % len(low)
        return low[window] + (high - low)[window] * rng.random(members)
    values = np.asarray(given.values() if isinstance(given, Grid) else given, dtype=np.float64)
    if members % len(values):
        raise ValueError(
            f"a block of {members} members over {len(values)} {name}: "
            f"the members of a block must be a multiple of {len(values)}."
        )
    return np.tile(values, members // len(values))


def _check_windows(windows: list[list[float]]) -> None:
    for window in windows:
        if len(window) != 2 or not np.all(np.isfinite(window)) or not 0 <= window[0] <= window[1]:
            raise ValueError(f"window {window}: it must be [low, high], 0 ≤ low ≤ high, both finite")
    ordered = sorted(windows)
    for one, two in pairwise(ordered):
        if two[0] < one[1]:
            raise ValueError(f"windows {one} and {two} overlap")
    if not windows:
        raise ValueError("windows is empty: give at least one [low, high]")
