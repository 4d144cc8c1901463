"""Which weights of a kernel go: criteria rank them, patterns choose.

A *criterion* turns a kernel into scores (the higher, the more it matters); a
*pattern* turns scores and a sparsity into a mask that is true where a weight
stays. Both are plain NumPy, and both are found by name in a registry.
"""

from keras_squeeze.pruning import criteria, patterns
from keras_squeeze.pruning.criteria import Criterion
from keras_squeeze.pruning.magnitude import Magnitude
from keras_squeeze.pruning.patterns import Pattern
from keras_squeeze.pruning.unstructured import Unstructured

criteria.registry.register("magnitude", Magnitude)
patterns.registry.register("unstructured", Unstructured)

__all__ = [
    "Criterion",
    "Magnitude",
    "Pattern",
    "Unstructured",
    "criteria",
    "patterns",
]
