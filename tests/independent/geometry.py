"""Views of an array and trellises, as docs/class_rans_format.md says."""

import math

import numpy as np

VIEWS = (
    "matrix",
    "matrix_transposed",
    "convolution",
    "convolution_transposed",
    "matrix_first_axis",
)
MACHINES = {
    2: (1, 2),
    3: (2, 5),
    4: (2, 9),
    5: (4, 18),
    6: (10, 33),
    7: (43, 78),
    8: (121, 166),
}


def places(view, shape):
    """Where the elements are: (channels, taps, inputs), and a row's taps."""
    shape, width = tuple(shape) or (1,), 1
    index = np.arange(math.prod(shape)).reshape(shape)
    if view.startswith("convolution"):
        width = shape[-3]
        index = index.reshape(-1, *shape[-2:])
        axes = (2, 0, 1) if view == "convolution" else (1, 0, 2)
        return index.transpose(axes), width
    if view == "matrix":
        index = index.reshape(-1, shape[-1]).T
    else:
        index = index.reshape(shape[0], -1)
    if view == "matrix_first_axis":
        index = index.T
    return index[:, None], width


def next_state(state, level, memory):
    """The machine's state after a level, of `2 ** memory` states."""
    b, a = MACHINES[memory]
    a ^= b
    return state >> 1 ^ (a if state & 1 else 0) ^ (b if level & 1 else 0)
