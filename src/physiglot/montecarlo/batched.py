"""Checkerboard Metropolis of many Ising chains in torch, for a GPU or any other device of torch.

The same physics as `multispin`, but other random numbers: they come from torch's generator on the device, in batches
over all chains, so a chain depends on the number of its companions. Tested on the CPU.
"""

import numpy as np
import torch

from . import chains, lattices


def evolve(
    lattice: str,
    size: int,
    temperatures: np.ndarray,
    seed: np.uint64,
    start: np.ndarray,
    states: np.ndarray,
    observables: np.ndarray,
    *,
    sweeps: int,
    thermalisation: int,
    device: str,
) -> None:
    """Fills packed `states` (chain, step, byte) and `observables` (chain, step, 3) as random_site.run does."""
    order, table, ends = lattices.by_colour(lattice, size)
    count, degree = table.shape
    random = torch.Generator(device).manual_seed(int(seed >> np.uint64(1)))
    spins = torch.as_tensor(chains.unpack(start, count), dtype=torch.float32, device=device).T.contiguous()
    accept = _acceptance(temperatures, degree).to(device)
    places = torch.as_tensor(np.stack(np.split(order, ends[:-1])), dtype=torch.long, device=device)
    near = torch.as_tensor(np.stack(np.split(table, ends[:-1])), dtype=torch.long, device=device)
    bonds = torch.as_tensor(lattices.bonds(lattice, size).T, dtype=torch.long, device=device)
    before = spins.clone()
    for step in range(observables.shape[1]):
        for s in range(thermalisation + sweeps if step == 0 else sweeps):
            if step == 0 and s == thermalisation:
                before = spins.clone()
            for place, neighbours in zip(places, near, strict=True):
                _move(spins, place, neighbours, accept, degree, random)
        energy = -(spins[bonds[0]] * spins[bonds[1]]).sum(0) / count
        seen = torch.stack([energy, spins.mean(0), (spins != before).float().mean(0)], -1)
        observables[:, step] = seen.double().cpu().numpy()
        states[:, min(step, states.shape[1] - 1)] = chains.pack(spins.T.cpu().numpy())
        before = spins.clone()


def _acceptance(temperatures: np.ndarray, degree: int) -> torch.Tensor:
    """min(1, e^(−ΔE/T)) in float32, (degree + 1, chain), by the number of neighbours that are equal."""
    change = 2.0 * (2 * np.arange(degree + 1) - degree)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return torch.as_tensor(np.where(change > 0, np.exp(-change / temperatures), 1.0), dtype=torch.float32)


def _move(spins, place, neighbours, accept, degree, random) -> None:
    """One update of the sites `place` of a colour; `spins` is (site, chain)."""
    old = spins[place]
    equal = ((old * spins[neighbours].sum(1) + degree) / 2).long()
    uniform = torch.rand(old.shape, generator=random, device=spins.device)
    spins[place] = torch.where(uniform < accept.gather(0, equal), -old, old)
