"""The size of a model's file as a part of its loss."""

from keras_squeeze.rate.estimate import estimated_bits
from keras_squeeze.rate.live_rate import LiveRate, RateGoal

__all__ = ["LiveRate", "RateGoal", "estimated_bits"]
