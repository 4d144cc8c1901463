"""Schedules: what the sparsity should be at a training step.

A schedule is a pure function of the step: it holds no state, so training that
is resumed at step 700 continues exactly where it stood.
"""

from keras_squeeze.schedules.callable_schedule import CallableSchedule
from keras_squeeze.schedules.checks import check_sparsity
from keras_squeeze.schedules.constant_sparsity import ConstantSparsity, OneShot
from keras_squeeze.schedules.cosine_decay import CosineDecay
from keras_squeeze.schedules.exponential_decay import ExponentialDecay
from keras_squeeze.schedules.identifiers import get, registry, serialize
from keras_squeeze.schedules.joined import Joined
from keras_squeeze.schedules.piecewise import Piecewise
from keras_squeeze.schedules.polynomial_decay import PolynomialDecay
from keras_squeeze.schedules.schedule import Schedule
from keras_squeeze.schedules.updates import last_update_step, next_update_step

registry.register("constant_sparsity", ConstantSparsity)
registry.register("polynomial_decay", PolynomialDecay)
registry.register("cosine_decay", CosineDecay)
registry.register("exponential_decay", ExponentialDecay)
registry.register("one_shot", OneShot)
registry.register("piecewise", Piecewise)
registry.register("joined", Joined)

__all__ = [
    "CallableSchedule",
    "ConstantSparsity",
    "CosineDecay",
    "ExponentialDecay",
    "Joined",
    "OneShot",
    "Piecewise",
    "PolynomialDecay",
    "Schedule",
    "check_sparsity",
    "get",
    "last_update_step",
    "next_update_step",
    "registry",
    "serialize",
]
