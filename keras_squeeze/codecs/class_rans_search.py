"""Choosing the contexts of `class_rans` for a tensor by their estimated cost.

Only the encoder comes here. Estimates may use floats: they decide how small
the stream is, never whether it can be decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from keras_squeeze.codecs import kernel_geometry
from keras_squeeze.codecs.class_rans_alphabet import Tokens
from keras_squeeze.codecs.class_rans_choice import Choice, Machines, judged
from keras_squeeze.codecs.class_rans_contexts import Contexts
from keras_squeeze.codecs.class_rans_trial import Source, Trial

_SMALL = 400


def choose(
    array: np.ndarray,
    tokens_of: Tokens,
    escapes: bool,
    machines: Machines | None = None,
) -> list[Choice]:
    """The contexts with the shortest expected code.

    Args:
        array: Integer array; codes of a trellis, if there are machines.
        tokens_of: `Tokens` of its values, of the levels with a trellis.
        escapes: Boolean. Whether some values have no token.
        machines: Optional `Machines`, which fix the view.

    Returns:
        List of `Choice`: without contexts, and if that may be smaller, the
        best with scale classes and the best with neighbour classes.
    """
    alphabet = tokens_of.alphabet(escapes)
    source = Source(array, tokens_of, alphabet, machines)
    states = machines.states if machines else 0
    kinds = [machines.layout.view] if machines else list(_views(array.shape))
    flat = machines.layout.view if machines else "flat"
    first = Trial(source, flat)
    plain = Choice(first.plain_bits(), flat, Contexts(states=states))
    if array.size < _SMALL:
        return [plain]
    best: dict[bool, Choice] = {}
    for kind in kinds:
        trial = first if kind == flat else Trial(source, kind)
        for choice in trial.choices(plain.bits):
            near = choice.contexts.neighbour is not None
            best[near] = min(best.get(near, plain), choice, key=judged)
    return [plain, *(c for c in best.values() if c is not plain)]


def _views(shape: Sequence[int]) -> Iterator[str]:
    if len(shape) < 2:
        return
    kind = kernel_geometry.default_kind(shape)
    yield kind
    if len(shape) == 3 and kind == "convolution":
        yield "matrix_first_axis"
    if len(shape) == 2 and kind == "matrix":
        # Neighbouring outputs may resemble each other.
        yield "matrix_transposed"
