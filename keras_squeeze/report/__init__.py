"""What a call did: one report object, its table, and plots of sparsity.

Importing this brings neither Keras nor matplotlib; the plots need the extra
`keras_squeeze[plot]`.
"""

from keras_squeeze.report.schedule_plot import plot_schedules
from keras_squeeze.report.sparsity_plot import plot_sparsity
from keras_squeeze.report.table import Report

__all__ = ["Report", "plot_schedules", "plot_sparsity"]
