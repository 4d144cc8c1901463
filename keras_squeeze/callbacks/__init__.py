"""Callbacks that compress a model while it trains."""

from keras_squeeze.callbacks.magnitude_pruning import MagnitudePruning

__all__ = ["MagnitudePruning"]
