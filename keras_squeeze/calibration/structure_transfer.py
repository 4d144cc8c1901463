"""What calibration did to a copy, done to the model itself."""

from __future__ import annotations

from typing import Any

import keras

from keras_squeeze.calibration.batch_norm_folding import become_identity
from keras_squeeze.calibration.channels import add_bias
from keras_squeeze.surgery.layer_tree import named_variables, walk_layers


def transfer_structure(source: Any, target: Any) -> None:
    """Gives a model the structure and the state of its calibrated copy.

    Args:
        source: A copy of `target` in which batch normalization was folded,
            biases were added and variables changed.
        target: `keras.Model`, changed in place.
    """
    pairs = zip(walk_layers(source), walk_layers(target), strict=True)
    for (_, new), (_, old) in pairs:
        if type(new) is not type(old) and type(new) is keras.layers.Identity:
            become_identity(old)
        elif getattr(new, "use_bias", None) is True and old.use_bias is False:
            add_bias(old)
    there = named_variables(target)
    for path, variable in named_variables(source).items():
        there[path].assign(variable.value)
