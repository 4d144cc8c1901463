"""Element-wise arithmetic on large kernels, in one pass over the memory.

TensorFlow runs every operation of a graph as a pass of its own. A kernel that
is rounded in every step of a training costs a dozen of them; compiled together
they are one or two, at about an eighth of the time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras.src.backend.common import global_state

# Below, the start of a compiled function costs what it saves.
_LEAST_SIZE = 256


def fused(function: Callable[..., Any], size: int) -> Callable[..., Any]:
    """A function of tensors that is compiled as a whole, where that pays.

    It is left as it is outside of a training, so that what a model becomes
    when it is exported holds plain operations only, and on backends that
    compile all of a step anyway.

    Args:
        function: Callable of tensors and floats, without side effects. It has
            to be a function of a module, of which one is compiled for all.
        size: Integer. The number of elements of the largest tensor.

    Returns:
        Callable with the same arguments and results.
    """
    return _compiled(function) if _fuses(size) else function


def runs_loops(size: int) -> bool:
    """Whether `fused` makes a loop over strips of a tensor a pass of its own.

    On a processor; on other devices each turn of a loop is work of its own.

    Args:
        size: Integer, as for `fused`.
    """
    return _fuses(size) and _has_processors_only()


def _fuses(size: int) -> bool:
    return size >= _LEAST_SIZE and _is_training() and _can_compile()


def _is_training() -> bool:
    context = global_state.get_global_attribute("current_call_ctx")
    return context is not None and bool(context.training)


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    compiled: Callable[..., Any] = tf.function(
        function, jit_compile=True, autograph=False, reduce_retracing=False
    )
    return compiled


@functools.cache
def _has_processors_only() -> bool:
    import tensorflow as tf

    kinds = {device.device_type for device in tf.config.list_logical_devices()}
    return kinds <= {"CPU", "XLA_CPU"}


@functools.cache
def _can_compile() -> bool:
    """Whether TensorFlow has a compiler for the devices that are there."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    try:
        with tf.init_scope():
            tf.function(_double, jit_compile=True)(tf.ones(2))
    except (tf.errors.OpError, ValueError):
        return False
    return True


def _double(values: Any) -> Any:
    return values + values
