"""Where the transitions are: exact, accepted, or nowhere. Used after a fit to tell how far it is off, never in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ISING = {
    "square": 2 / np.log(1 + np.sqrt(2)),
    "triangular": 4 / np.log(3),
    "honeycomb": 2 / np.log(2 + np.sqrt(3)),
}
XY_SQUARE = 0.8929
HUBBARD_HONEYCOMB = 3.85


def transition(attributes: Mapping[str, Any]) -> float | None:
    """T_c in units of J/k_B (U_c in units of t) of the system that made the data; None where there is none.

    Ising: exact (Onsager 1944; Houtappel 1950); Potts: exact, 1/ln(1 + √q) on the square lattice; XY: the accepted
    Kosterlitz–Thouless temperature; Hubbard: M. Otsuka, S. Yunoki, S. Sorella, Phys. Rev. X 6, 011029 (2016), 3.85(2).
    """
    system, lattice = attributes.get("system"), attributes.get("lattice")
    if system == "ising" and lattice in ISING:
        return float(ISING[lattice])
    if system == "potts" and lattice == "square":
        return float(1 / np.log(1 + np.sqrt(attributes["states"])))
    if system == "xy" and lattice in ("square", None):
        return XY_SQUARE
    return HUBBARD_HONEYCOMB if system == "hubbard" and lattice == "honeycomb" else None
