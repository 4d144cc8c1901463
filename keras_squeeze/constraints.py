"""Constraints that keep weights what a compressed model needs them to be."""

from __future__ import annotations

import base64
from typing import Any

import keras
import numpy as np

from keras_squeeze.errors import SqueezeError


@keras.saving.register_keras_serializable(package="keras_squeeze")
class MaskConstraint(keras.constraints.Constraint):
    """Sets the weights outside a mask to zero.

    Keras' optimizers apply a variable's constraint right after each update,
    inside the compiled step; so the weights hold the mask at every batch.

    Args:
        mask: Boolean array or boolean `keras.Variable` of the weight's shape,
            true where a weight stays. A variable is read at every call.
        inner: Optional `keras.constraints.Constraint`, applied first.

    Raises:
        SqueezeError: If `mask` is not boolean.

    Example:
    >>> constraint = MaskConstraint(np.array([[True, False]]))
    >>> layer = keras.layers.Dense(2, kernel_constraint=constraint)
    """

    def __init__(self, mask: Any, inner: Any = None) -> None:
        if not isinstance(mask, keras.Variable):
            mask = np.asarray(mask)
        if keras.backend.standardize_dtype(mask.dtype) != "bool":
            raise SqueezeError(
                "Expected `mask` to be a boolean array or variable. "
                f"Received: dtype={mask.dtype}"
            )
        self.mask = mask
        self.inner = keras.constraints.get(inner)

    def __call__(self, w: Any) -> Any:
        """The tensor `w` with zeros outside the mask."""
        if self.inner is not None:
            w = self.inner(w)
        w = keras.ops.convert_to_tensor(w)
        mask = keras.ops.convert_to_tensor(self.mask)
        # A product would turn pruned negative weights into -0.0.
        return keras.ops.where(mask, w, keras.ops.cast(0, w.dtype))

    def get_config(self) -> dict[str, Any]:
        """The mask as packed bits in base 64, its shape, and `inner`."""
        mask = keras.ops.convert_to_numpy(self.mask)
        return {
            "bits": base64.b64encode(np.packbits(mask).tobytes()).decode(
                "ascii"
            ),
            "shape": list(mask.shape),
            "inner": keras.constraints.serialize(self.inner),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MaskConstraint:
        """Makes a constraint from what `get_config()` returned."""
        packed = np.frombuffer(base64.b64decode(config["bits"]), np.uint8)
        size = int(np.prod(config["shape"], dtype=np.int64))
        mask = np.unpackbits(packed, count=size).astype(bool)
        return cls(mask.reshape(config["shape"]), config["inner"])
