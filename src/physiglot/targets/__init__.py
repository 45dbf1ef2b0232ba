"""What a generative model is measured by: a distribution known up to a constant, or a quantum Hamiltonian.

A system offers it as `target(params)` beside its `simulate`. The reduced energy is u = beta E, ln Z = ln Σ e^(−u) over
all configurations (∫ for real ones), F = −ln Z / beta.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from .. import fingerprint, symbols

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Target:
    """The distribution e^(−beta E(x)) / Z over configurations of one shape."""

    shape: tuple[int, ...]
    support: Literal["spin", "real"]  # spins are ±1
    beta: float
    closed_form: bool = False  # exact_logZ takes milliseconds, so that curves may be drawn of it
    particles: bool = False  # shape is (particle, coordinate), no lattice

    def configurations(self, state: Tensor) -> Tensor:
        """The states of a data set (…, field[, y, x]) as configurations (n, *shape): systems that pack them unpack."""
        return state.reshape(-1, *self.shape)

    def energy(self, x: Tensor) -> Tensor:
        """E (batch) of x (batch, *shape), float64 for float64; differentiable for real x; +inf allowed, NaN never."""
        raise NotImplementedError

    def exact_logZ(self, beta: float | None = None) -> float | None:
        """ln Z at `beta` (its own if omitted), or None where no exact value is known; never an approximation."""
        return None

    @property
    def symmetries(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Maps of configurations that leave the energy unchanged, by name."""
        return {}

    @property
    def observables(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Name -> function of x (batch, *shape) with one value per configuration."""
        return {}

    def exact_observables(self, beta: float | None = None) -> dict[str, float]:
        """The exact means of those observables for which they are known."""
        return {}


class Hamiltonian:
    """A quantum system on spins ±1; energies in its own units."""

    shape: tuple[int, ...]
    moves: Literal["flip", "exchange"]  # the spins that a sampler may change together; exchanges keep Σ σᶻ

    def connected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x' (batch, k, *shape) and ⟨x|H|x'⟩ (batch, k): all configurations reached from x, itself first; 0 pads."""
        raise NotImplementedError

    def exact_E0(self) -> float | None:
        """The exact ground-state energy, or None where it is not known."""
        return None


def described(module: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """`{module, params}` of the target of a system with these parameters; None if the system offers no target.

    A system that lists the parameters of its target in `TARGET` has no others there: they cannot change it.
    """
    defined = symbols.parse(f"{symbols.ROOT}.systems.{module}").definitions
    if "target" not in defined:
        return None
    named = fingerprint.constant(f"systems.{module}", "TARGET") if "TARGET" in defined else tuple(params)
    return {"module": module, "params": {name: value for name, value in params.items() if name in named}}


def build(system: dict[str, Any]) -> Any:
    """The target or Hamiltonian of `system` (module, params)."""
    module = import_module(f"physiglot.systems.{system['module']}")
    return module.target(module.Params(**system["params"]))
