"""Which weights of a model go: ranked, chosen, shared out, exchanged.

A *criterion* turns a kernel into scores (the higher, the more it matters); a
*pattern* turns scores and a sparsity into a mask that is true where a weight
stays; an *allocation* gives each kernel its sparsity; a *regrowth* lets pruned
weights come back. All are plain NumPy, and all are found by name in a
registry. `apply` and `Pruner`, which prune live models, import Keras when
they are touched.
"""

from __future__ import annotations

import importlib
from typing import Any

from keras_squeeze.pruning import allocations, criteria, patterns, regrowths
from keras_squeeze.pruning.activation import Activation
from keras_squeeze.pruning.allocations import Allocation
from keras_squeeze.pruning.batch_norm_scale import BatchNormScale
from keras_squeeze.pruning.block import Block
from keras_squeeze.pruning.channel import Channel
from keras_squeeze.pruning.criteria import Criterion
from keras_squeeze.pruning.erdos_renyi_kernel import ErdosRenyiKernel
from keras_squeeze.pruning.global_allocation import Global
from keras_squeeze.pruning.gradient import GradientL1, GradientL2
from keras_squeeze.pruning.magnitude import Magnitude, WeightL2
from keras_squeeze.pruning.movement import Movement
from keras_squeeze.pruning.n_of_m import NOfM
from keras_squeeze.pruning.patterns import GroupedPattern, Pattern
from keras_squeeze.pruning.per_layer import PerLayer
from keras_squeeze.pruning.present_sparsity import PresentSparsity
from keras_squeeze.pruning.random_scores import Random
from keras_squeeze.pruning.regrowths import Regrowth
from keras_squeeze.pruning.rigl import RigL
from keras_squeeze.pruning.set_regrowth import SET
from keras_squeeze.pruning.snip import SNIP
from keras_squeeze.pruning.splicing import Splicing
from keras_squeeze.pruning.taylor import Taylor
from keras_squeeze.pruning.uniform import Uniform
from keras_squeeze.pruning.unstructured import Unstructured

criteria.registry.register("magnitude", Magnitude)
criteria.registry.register("weight_l1", Magnitude)
criteria.registry.register("weight_l2", WeightL2)
criteria.registry.register("gradient_l1", GradientL1)
criteria.registry.register("gradient_l2", GradientL2)
criteria.registry.register("taylor", Taylor)
criteria.registry.register("movement", Movement)
criteria.registry.register("snip", SNIP)
criteria.registry.register("activation", Activation)
criteria.registry.register("batch_norm_scale", BatchNormScale)
criteria.registry.register("random", Random)

patterns.registry.register("unstructured", Unstructured)
patterns.registry.register("n_of_m", NOfM)
patterns.registry.register("block", Block)
patterns.registry.register("channel", Channel)

allocations.registry.register("uniform", Uniform)
allocations.registry.register("global", Global)
allocations.registry.register("erdos_renyi_kernel", ErdosRenyiKernel)
allocations.registry.register("per_layer", PerLayer)
allocations.registry.register("present_sparsity", PresentSparsity)

regrowths.registry.register("splicing", Splicing)
regrowths.registry.register("rigl", RigL)
regrowths.registry.register("set", SET)

_LIVE = ("Pruner", "apply")

__all__ = [
    "SET",
    "SNIP",
    "Activation",
    "Allocation",
    "BatchNormScale",
    "Block",
    "Channel",
    "Criterion",
    "ErdosRenyiKernel",
    "Global",
    "GradientL1",
    "GradientL2",
    "GroupedPattern",
    "Magnitude",
    "Movement",
    "NOfM",
    "Pattern",
    "PerLayer",
    "PresentSparsity",
    "Random",
    "Regrowth",
    "RigL",
    "Splicing",
    "Taylor",
    "Uniform",
    "Unstructured",
    "WeightL2",
    "allocations",
    "criteria",
    "patterns",
    "regrowths",
]


def __getattr__(name: str) -> Any:
    if name in _LIVE:
        return getattr(importlib.import_module("keras_squeeze.masking"), name)
    raise AttributeError(
        f"module 'keras_squeeze.pruning' has no attribute {name!r}; it has "
        f"{', '.join(sorted((*__all__, *_LIVE)))}"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LIVE})
