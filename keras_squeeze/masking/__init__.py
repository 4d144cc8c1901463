"""Masks on the kernels of a live model, for the length of a training.

`Pruner` drives them in any loop, `apply` prunes once; the callbacks are thin
wrappers. What a criterion needs besides the weights is gathered inside the
compiled step.
"""

from keras_squeeze.masking.one_shot import apply
from keras_squeeze.masking.pruner import Pruner

__all__ = ["Pruner", "apply"]
