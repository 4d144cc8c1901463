"""What quantizers to a fixed codebook share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.quantizers.absmax import largest_magnitude
from keras_squeeze.quantizers.fixed_codebooks import fixed_codebook
from keras_squeeze.quantizers.nearest_level import nearest_codes
from keras_squeeze.quantizers.quantizer import Quantizer, in_scale_units
from keras_squeeze.quantizers.scale import codebook_scale


class FixedCodebookQuantizer(Quantizer):
    """A quantizer to the nearest level of the codebook named by its `id`.

    The largest magnitude of a block goes to the largest level; a subclass may
    choose the scale otherwise. Arguments are those of `Quantizer`.
    """

    @property
    def codebook_name(self) -> str:
        """Name of the codebook, for `fixed_codebook`."""
        return self.id

    @property
    def levels(self) -> NDArray[np.float32]:
        """The codebook, a float32 array of shape `(2 ** bits,)`."""
        return fixed_codebook(self.codebook_name, self.bits)

    def choose_scale(
        self, blocks: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Chooses the largest magnitude over the largest level.

        Args:
            blocks: float32 array of shape `(blocks, size)`.
            counts: int64 array of shape `(blocks,)`.

        Returns:
            float32 array of shape `(blocks,)`.
        """
        levels = self.levels
        return codebook_scale(largest_magnitude(blocks) / levels.max(), levels)

    def _codes(
        self, blocks: NDArray[np.float32], scale: NDArray[np.float32]
    ) -> NDArray[Any]:
        steps = in_scale_units(blocks, scale)
        return nearest_codes(steps, self.levels[None], self.bits)
