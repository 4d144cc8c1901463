"""Models made smaller by factors in the place of kernels, after training."""

from keras_squeeze.factorizing.factorization import factorize
from keras_squeeze.factorizing.planning import factors_of, plan_layers
from keras_squeeze.factorizing.stock_chains import to_stock

__all__ = ["factorize", "factors_of", "plan_layers", "to_stock"]
