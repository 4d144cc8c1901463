"""The state machine of trellis-coded quantization.

Codes of such a tensor are ordinary integers: multiplied by their scale they
are the weights, and any codec can hold them. They lie on two interleaved
grids, though, and a machine driven by the codes before decides which grid the
next one lies on: `Q0`, the even integers, or `Q1`, the odd integers and zero.
A codec that follows the machine codes the *level* `k`, which is half as large:
`2k` on `Q0`, `2k - sign(k)` on `Q1`. The parity of `k` drives the machine.

A tensor is cut into chains that all start in state 0: chain `c` runs through
the channels `c, c + chains, c + 2 chains, ...` of its canonical form, each
channel tap by tap, input by input.

References:
    - Ungerboeck, Channel coding with multilevel/phase signals, 1982.
    - Marcellin and Fischer, Trellis coded quantization of memoryless and
      Gauss-Markov sources, 1990.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

# Parity-check polynomials (h0, h1) by the logarithm of the number of states.
_PARITY_CHECKS = {
    2: (0o5, 0o2),
    3: (0o13, 0o4),
    4: (0o23, 0o4),
    5: (0o45, 0o10),
    6: (0o103, 0o24),
    7: (0o235, 0o126),
    8: (0o515, 0o362),
}

#: The numbers of states a trellis may have.
STATES = tuple(1 << memory for memory in _PARITY_CHECKS)


@dataclass(frozen=True, slots=True)
class Trellis:
    """What a codec must know to follow the machine.

    Args:
        states: Integer, one of `STATES`.
        geometry: String, a kind of `kernel_geometry.KINDS`: the order in which
            the chains run through the tensor.
        chains: Integer, at least 1. Defaults to `32`.
    """

    states: int
    geometry: str
    chains: int = 32


@functools.cache
def next_states(states: int) -> np.ndarray:
    """The machine: the state after a level of a given parity.

    The lowest bit of a state says on which grid the next code lies.

    Args:
        states: Integer, one of `STATES`.

    Returns:
        uint8 array of shape `(states, 2)`, indexed by state and parity of the
        level; read-only.

    Raises:
        ValueError: If there is no such machine.
    """
    memory = states.bit_length() - 1
    if states not in STATES:
        raise ValueError(f"a trellis has {STATES} states, got {states}")
    h0, h1 = _PARITY_CHECKS[memory]
    table = np.zeros((states, 2), np.uint8)
    for state in range(states):
        for parity in range(2):
            table[state, parity] = _advance(state, parity, memory, h0, h1)
    table.setflags(write=False)
    return table


def _advance(state: int, parity: int, memory: int, h0: int, h1: int) -> int:
    grid = state & 1
    after = 0
    for place in range(1, memory + 1):
        bit = state >> place & 1 if place < memory else 0
        bit ^= (h0 >> place & 1) & grid
        bit ^= (h1 >> place & 1) & (parity ^ grid)
        after |= bit << (place - 1)
    return after
