"""The weight of a rate penalty, steered so that a size is reached."""

from __future__ import annotations

import dataclasses
import math

#: The proportional and the integral gain, per whole training. An octave more
#: weight takes about half an octave of bytes after a tenth of a training.
PROPORTIONAL = 4.0
INTEGRAL = 15.0
#: When the size sought has fallen to the target, as a share of the training.
#: Later the learning rate is too low for the weights to follow.
SETTLED = 0.5
#: The controller aims a little below the target.
AIM = 0.97

_LOG_RANGE = (math.log(1e-4), math.log(1e4))


@dataclasses.dataclass
class WeightController:
    """A proportional-integral controller of a weight's logarithm.

    The size sought falls geometrically from the first one seen to the target,
    which it reaches well before the training ends. The weight grows while the
    model is larger than that, and shrinks while it is smaller.

    Args:
        target_bytes: Float. The size to reach.
        initial_weight: Float above 0. Where the weight begins.
        integral: Float. Logarithm of what the weight has been multiplied by.
        share: Float in [0, 1]. The share of the training that has passed.
        first_bytes: Float. The first size seen; 0 while there is none.

    Example:
    >>> controller = WeightController(1000.0, 0.1)
    >>> first = controller.update(8000.0, 0.0)
    >>> controller.update(8000.0, 0.5) > first
    True
    """

    target_bytes: float
    initial_weight: float
    integral: float = 0.0
    share: float = 0.0
    first_bytes: float = 0.0

    def sought_bytes(self, share: float) -> float:
        """The size that the model should have after a share of the training.

        Args:
            share: Float in [0, 1].

        Returns:
            Float. Bytes.
        """
        aim = AIM * self.target_bytes
        if self.first_bytes <= aim:
            return aim
        left = max(0.0, 1 - share / SETTLED)
        return float(aim * (self.first_bytes / aim) ** left)

    def update(self, num_bytes: float, share: float) -> float:
        """Looks at the size and chooses the weight from here on.

        Args:
            num_bytes: Float. The size of the model as it is.
            share: Float in [0, 1]. The share of the training that has passed.

        Returns:
            Float. The weight.
        """
        if not self.first_bytes:
            self.first_bytes = num_bytes
        error = math.log(num_bytes / self.sought_bytes(share))
        passed = max(0.0, share - self.share)
        self.integral += INTEGRAL * passed * error
        low, high = _LOG_RANGE
        self.integral = min(high, max(low, self.integral))
        self.share = share
        return self.initial_weight * math.exp(
            min(high, max(low, self.integral + PROPORTIONAL * error))
        )
