"""Periodic lattices in one frame: rows of sites, numbered row by row.

| lattice | rows × width | neighbours of (row, column) |
|---|---|---|
| chain | 1 × L | left, right |
| square | L × L | left, right, up, down |
| triangular | L × L | those of the square and, along one diagonal, up-right and down-left |
| honeycomb | L × 2L | left, right; up-right in an even column, down-left in an odd one |

The honeycomb of L × L cells has two sites a cell side by side. At L = 2 the pairs of the others share two bonds;
both count.
"""

import numpy as np

CODE = {"chain": 0, "square": 1, "triangular": 2, "honeycomb": 3}
DEGREE = {"chain": 2, "square": 4, "triangular": 6, "honeycomb": 3}
COLOURS = {"chain": 2, "square": 2, "triangular": 3, "honeycomb": 2}


def shape(lattice: str, size: int) -> tuple[int, int]:
    """Rows and width of a lattice of linear size `size`."""
    if lattice not in CODE:
        raise ValueError(f"lattice {lattice!r} is unknown; allowed: {', '.join(CODE)}.")
    if size < 2:
        raise ValueError(f"size {size}: a periodic lattice needs at least 2 sites a side.")
    return {"chain": (1, size), "honeycomb": (size, 2 * size)}.get(lattice, (size, size))


def sites(lattice: str, size: int) -> int:
    rows, width = shape(lattice, size)
    return rows * width


def neighbours(lattice: str, size: int) -> np.ndarray:
    """Sites next to each site, (site, degree) int32."""
    rows, width = shape(lattice, size)
    row, column = np.divmod(np.arange(rows * width), width)

    def at(down: np.ndarray | int, right: np.ndarray | int) -> np.ndarray:
        return (row + down) % rows * width + (column + right) % width

    found = [at(0, -1), at(0, 1)]
    if lattice in ("square", "triangular"):
        found += [at(-1, 0), at(1, 0)]
    if lattice == "triangular":
        found += [at(-1, 1), at(1, -1)]
    if lattice == "honeycomb":
        odd = column % 2
        found.append(at(2 * odd - 1, 1 - 2 * odd))
    return np.stack(found, axis=1).astype(np.int32)


def colouring(lattice: str, size: int) -> np.ndarray:
    """A colour per site, (site) int8, such that neighbours differ: sites of one colour may move at once."""
    rows, width = shape(lattice, size)
    row, column = np.divmod(np.arange(rows * width), width)
    if lattice == "triangular":
        if size % 3:
            raise ValueError(f"size {size}: three colours need a triangular lattice whose size is a multiple of 3.")
        return ((column + 2 * row) % 3).astype(np.int8)
    if lattice != "honeycomb" and size % 2:
        raise ValueError(f"size {size}: a checkerboard on the {lattice} lattice needs an even size.")
    rows_count = 0 if lattice == "honeycomb" else 1
    return ((column + rows_count * row) % 2).astype(np.int8)


def bonds(lattice: str, size: int) -> np.ndarray:
    """Every bond once, (bond, 2) int32; the two bonds of a pair that shares two are two."""
    table = neighbours(lattice, size)
    sites = np.arange(len(table), dtype=np.int32)
    # Every second neighbour looks forward; on the honeycomb, every bond has one end in an even column.
    one, other = (sites[::2], table[::2]) if lattice == "honeycomb" else (sites, table[:, 1::2])
    return np.stack(np.broadcast_arrays(one[:, None], other), axis=-1).reshape(-1, 2)


def by_colour(lattice: str, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sites colour by colour, int32; their neighbours, (site, degree); and where each colour ends in the list."""
    colour = colouring(lattice, size)
    order = np.argsort(colour, kind="stable").astype(np.int32)
    return order, np.ascontiguousarray(neighbours(lattice, size)[order]), np.cumsum(np.bincount(colour))
