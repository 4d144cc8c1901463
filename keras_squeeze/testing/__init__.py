"""Checks for the authors of plug-ins: does a class keep its contract?

Each check raises `AssertionError` with what was wrong.
"""

from keras_squeeze.testing.codec_checks import check_codec, sample_arrays
from keras_squeeze.testing.criterion_checks import check_criterion
from keras_squeeze.testing.decompositions import check_decomposition
from keras_squeeze.testing.pattern_checks import check_pattern
from keras_squeeze.testing.quantizer_checks import check_quantizer
from keras_squeeze.testing.schedule_checks import check_schedule

__all__ = [
    "check_codec",
    "check_criterion",
    "check_decomposition",
    "check_pattern",
    "check_quantizer",
    "check_schedule",
    "sample_arrays",
]
