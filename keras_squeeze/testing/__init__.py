"""Checks for the authors of plug-ins: does a class keep its contract?

Each check raises `AssertionError` with what was wrong.
"""

from keras_squeeze.testing.codec_checks import check_codec, sample_arrays
from keras_squeeze.testing.quantizer_checks import check_quantizer

__all__ = ["check_codec", "check_quantizer", "sample_arrays"]
