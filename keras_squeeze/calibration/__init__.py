"""What a model's layers see: statistics of their inputs on real data."""

from keras_squeeze.calibration.gram_matrices import gram_matrices

__all__ = ["gram_matrices"]
