"""Energies within 3 σ of the exact ones at more than 2·10⁸ updates, five temperatures a lattice (phases.md §12)."""

import pytest

from physiglot.montecarlo import energies


@pytest.mark.slow
@pytest.mark.parametrize("lattice", energies.SIZES)
def test_energies_are_exact(lattice):
    rows = [energies.row(lattice, ratio) for ratio in energies.RATIOS]
    for row in rows:
        assert row.updates >= 2e8 and abs(row.deviation) < 3, row
    assert max(row.error for row in rows) < 5e-4
