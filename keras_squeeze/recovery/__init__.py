"""What brings accuracy back after a model was made small."""

from __future__ import annotations

from keras_squeeze.recovery.distiller import Distiller, distill
from keras_squeeze.recovery.output_distillation import OutputDistillation
from keras_squeeze.recovery.rewarming import recovery_optimizer

__all__ = [
    "Distiller",
    "OutputDistillation",
    "distill",
    "recovery_optimizer",
]
