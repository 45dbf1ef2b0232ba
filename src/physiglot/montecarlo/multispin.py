"""Exact multispin Metropolis for Ising spins: one bit a spin, 512 chains side by side, all independent.

A site has eight words of 64 chains, and the sites of one colour move one after the other. The acceptance e^(−ΔE/T) of
a chain is compared with a uniform number bit by bit, from the least significant of ten random bits: with r the random
bit and m that of the threshold, `accepted = majority(accepted, r, m)`. Each chain has bits m, hence a temperature, of
its own. What `planes` bits cannot express is left to rare events: a (site, chain) is one with probability 2^(−planes),
and its acceptance is then drawn anew, with the probability that makes the whole exact.
Random bits are never shared between chains: chains that share them coalesce.

Bits come from xoshiro256++ (D. Blackman, S. Vigna, 2021), eight generators side by side, seeded by Philox for every
sweep of every group of chains.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from .philox import JIT, fill
from .vectors import aligned_stack, entry, left, load, pointer, rotate, store

LANES, WORDS, PLANES, TOGETHER = 512, 8, 10, 16
MULTISPIN = np.uint64(2)
EVENT_BITS = np.uint64(51)


class Acceptance(NamedTuple):
    """What a group accepts, for d = 0, 1, 2 neighbours that differ: see `acceptance`."""

    bits: np.ndarray
    again: np.ndarray
    events: np.ndarray


def acceptance(temperatures: np.ndarray, degree: int, planes: int = PLANES) -> Acceptance:
    """Thresholds of the 512 chains of a group.

    `bits` (11 · 3 · 8 words): the result before the first bit, then the bits from the least significant; `again`
    (3, chain): acceptance × 2⁵¹ of an event; `events`: distribution function × 2⁶⁴ of the number of events among
    16 · 512 spins.
    """
    rare = 0.5**planes
    change = 2.0 * (degree - 2 * np.arange(3))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        accept = np.where(change > 0, np.exp(-change / np.asarray(temperatures)), 1.0)
    # (1 − rare) · rare · whole + rare · again = accept, with again in [0, 1] and whole up to 1 / rare.
    whole = np.clip(np.ceil((accept / rare - 1) / (1 - rare)), 0, 1 / rare)
    again = np.clip(accept / rare - (1 - rare) * whole, 0, 1)
    always = whole == 1 / rare
    number = np.where(always, 1 / rare - 1, whole).astype(np.int64) << (PLANES - planes)
    number[always] = 2**PLANES - 1
    rows = [always, *((number >> j & 1).astype(bool) for j in range(PLANES))]
    bits = np.packbits(np.stack(rows), axis=-1, bitorder="little").view(np.uint64).reshape(-1)
    spins, probability = TOGETHER * LANES, [(1 - rare) ** (TOGETHER * LANES)]
    while sum(probability) < 1 - 2**-50 and len(probability) < 400:
        n = len(probability)
        probability.append(probability[-1] * (spins - n + 1) / n * rare / (1 - rare))
    events = (np.minimum(np.cumsum(probability), 1 - 2**-53) * 2.0**64).astype(np.uint64)
    return Acceptance(bits, np.floor(again * 2.0 ** int(EVENT_BITS)).astype(np.uint64), events)


@njit(inline="always")
def _next(state):
    """One output of eight xoshiro256++ and their next states."""
    a, b, c, d = state
    out = rotate(a + d, 23) + a
    t = left(b, 17)
    c = c ^ a
    d = d ^ b
    return out, (a ^ d, b ^ c, c ^ t, rotate(d, 45))


@njit(inline="always")
def _majority(p, r, m):
    return (p & r) | (m & (p | r))


@njit(inline="always")
def _turned(x, n):
    return (x << np.uint64(n)) | (x >> np.uint64(64 - n))


@njit(inline="always")
def _scalar(state):
    """One output of a xoshiro256++ with its state in an array (4)."""
    a, b, c, d = state[0], state[1], state[2], state[3]
    out = _turned(a + d, 23) + a
    c, d = c ^ a, d ^ b
    state[0], state[1], state[2], state[3] = a ^ d, b ^ c, c ^ (b << np.uint64(17)), _turned(d, 45)
    return out


@njit(**JIT)
def _draw_events(mask, again, events, state):
    """Fills `mask` (4, 16 · 8): which spins of a block are events, and what they accept for d = 0, 1, 2."""
    number, draw = 0, _scalar(state)
    while number < events.size and draw >= events[number]:
        number += 1
    while number > 0:
        draw = _scalar(state)
        place = np.int64(draw >> EVENT_BITS)
        word, bit = place >> 6, np.uint64(1) << np.uint64(place & 63)
        if mask[0, word] & bit == 0:
            mask[0, word] |= bit
            uniform, chain = draw & ((np.uint64(1) << EVENT_BITS) - np.uint64(1)), place & (LANES - 1)
            for d in range(3):
                if uniform < again[d, chain]:
                    mask[1 + d, word] |= bit
            number -= 1


@njit(inline="always")
def _plane2(both, one, two, bits, j):
    """Bit j of a pair of sites for two thresholds: the comparisons so far and the states of two generators."""
    p, q, u, v = both
    r, one = _next(one)
    s, two = _next(two)
    m, n = load(bits, 24 * j), load(bits, 24 * j + 8)
    return (_majority(p, r, m), _majority(q, r, n), _majority(u, s, m), _majority(v, s, n)), one, two


@njit(inline="always")
def _plane3(both, one, two, bits, j):
    """The same for three thresholds."""
    p, q, t, u, v, w = both
    r, one = _next(one)
    s, two = _next(two)
    k, m, n = load(bits, 24 * j), load(bits, 24 * j + 8), load(bits, 24 * j + 16)
    p, q, t = _majority(p, r, k), _majority(q, r, m), _majority(t, r, n)
    return (p, q, t, _majority(u, s, k), _majority(v, s, m), _majority(w, s, n)), one, two


@njit(inline="always")
def _compared(plane, both, one, two, bits):
    both, one, two = plane(both, one, two, bits, 1)
    both, one, two = plane(both, one, two, bits, 2)
    both, one, two = plane(both, one, two, bits, 3)
    both, one, two = plane(both, one, two, bits, 4)
    both, one, two = plane(both, one, two, bits, 5)
    both, one, two = plane(both, one, two, bits, 6)
    both, one, two = plane(both, one, two, bits, 7)
    both, one, two = plane(both, one, two, bits, 8)
    both, one, two = plane(both, one, two, bits, 9)
    return plane(both, one, two, bits, 10)


@njit(inline="always")
def _overlaid(p, overlay, d, place):
    """Acceptances with those of the events put in."""
    return (p & ~load(overlay, place)) | load(overlay, 128 * (1 + d) + place)


@njit(inline="always")
def _differs(spins, s, table, place):
    return s ^ load(spins, 8 * entry(table, place))


@njit(inline="always")
def _move(spins, order, table, k, degree, overlay, place, p, q, t):
    """Moves a site: always if enough neighbours differ, by p, q and t if 0, 1 and 2 of six do, else by p and q."""
    p, q = _overlaid(p, overlay, 0, place), _overlaid(q, overlay, 1, place)
    here, there = 8 * entry(order, k), degree * k
    s = load(spins, here)
    a, b, c = (
        _differs(spins, s, table, there),
        _differs(spins, s, table, there + 1),
        _differs(spins, s, table, there + 2),
    )
    odd, two = a ^ b ^ c, _majority(a, b, c)
    if degree == 6:
        t = _overlaid(t, overlay, 2, place)
        d, e, f = (
            _differs(spins, s, table, there + 3),
            _differs(spins, s, table, there + 4),
            _differs(spins, s, table, there + 5),
        )
        other, second = d ^ e ^ f, _majority(d, e, f)
        third, odd = odd & other, odd ^ other
        some = two | second | third
        accepted = _majority(two, second, third) | (some & (odd | t)) | (~some & ((odd & q) | (~odd & p)))
    else:
        if degree == 4:
            d = _differs(spins, s, table, there + 3)
            two, odd = two | (odd & d), odd ^ d
        accepted = two | (odd & q) | (~odd & p)
    store(spins, here, s ^ accepted)


@njit(**JIT)
def _colour(spins, order, table, degree, bits, again, events, mask, state, single):
    """Moves the sites `order` of one colour, two at a time; `table` (order · degree) are their neighbours."""
    aligned_stack()
    count, word, site, near = order.size, pointer(spins), pointer(order), pointer(table)
    threshold, overlay, seeds = pointer(bits), pointer(mask), pointer(state)
    one = load(seeds, 0), load(seeds, 8), load(seeds, 16), load(seeds, 24)
    two = load(seeds, 32), load(seeds, 40), load(seeds, 48), load(seeds, 56)
    for first in range(0, count, TOGETHER):
        mask[:] = np.uint64(0)
        _draw_events(mask, again, events, single)
        for place in range(0, min(TOGETHER, count - first), 2):
            p, q, t = load(threshold, 0), load(threshold, 8), load(threshold, 16)
            u, v, w = p, q, t
            if degree == 6:
                (p, q, t, u, v, w), one, two = _compared(_plane3, (p, q, t, u, v, w), one, two, threshold)
            else:
                (p, q, u, v), one, two = _compared(_plane2, (p, q, u, v), one, two, threshold)
            k = first + place
            _move(word, site, near, k, degree, overlay, 8 * place, p, q, t)
            if k + 1 < count:
                _move(word, site, near, k + 1, degree, overlay, 8 * place + 8, u, v, w)
    for j in range(4):
        store(seeds, 8 * j, one[j])
        store(seeds, 32 + 8 * j, two[j])


@njit(**JIT)
def _seeded(state, seed, group, number):
    """Fills the states of 17 generators."""
    draws = np.empty((4, state.size // 2), np.uint32)
    fill(draws, np.uint64(0), number, group, MULTISPIN, seed)
    for j in range(state.size // 2):
        for half in range(2):
            state[2 * j + half] = np.uint64(draws[2 * half, j]) | (np.uint64(draws[2 * half + 1, j]) << np.uint64(32))
    return state


@njit(**JIT)
def sweep(spins, order, table, degree, ends, bits, again, events, seed, group, number):
    """One sweep of a group: `order` lists the sites colour by colour, which end at `ends`; `table` is in that order."""
    state = _seeded(np.empty(68, np.uint64), seed, group, number)
    mask = np.empty((4, TOGETHER * WORDS), np.uint64)
    first = 0
    for last in ends:
        near = table[degree * first : degree * last]
        _colour(spins, order[first:last], near, degree, bits, again, events, mask, state[:64], state[64:])
        first = last
