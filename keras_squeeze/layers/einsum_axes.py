"""Which axes of an `EinsumDense` kernel are summed over, which are kept."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence

_ELLIPSIS = "..."


@dataclasses.dataclass(frozen=True)
class EinsumAxes:
    """The axis labels of an equation of `EinsumDense`.

    Args:
        inputs: String. Labels of the input, without an ellipsis.
        kernel: String. Labels of the kernel.
        output: String. Labels of the output, without an ellipsis.
        left: Boolean. Whether the equation has an ellipsis on the left.
        right: Boolean. Whether it has one on the right.
    """

    inputs: str
    kernel: str
    output: str
    left: bool
    right: bool

    @property
    def reduced(self) -> str:
        """Labels of the kernel that are summed over, in its order."""
        return "".join(a for a in self.kernel if a not in self.output)

    @property
    def kept(self) -> str:
        """Labels of the kernel that the output has, in the kernel's order."""
        return "".join(a for a in self.kernel if a in self.output)

    @property
    def order(self) -> tuple[int, ...]:
        """The kernel's axes, those summed over first."""
        return tuple(self.kernel.index(a) for a in self.reduced + self.kept)

    def reason_not_factorizable(self) -> str | None:
        """Why the contraction is no product of a matrix; `None` if it is."""
        kernel = set(self.kernel)
        if any(len(set(s)) < len(s) for s in dataclasses.astuple(self)[:3]):
            return "its equation repeats an axis within one operand"
        if kernel & set(self.inputs) & set(self.output):
            return "its kernel has batch axes: a matrix for each of them"
        if not self.reduced or not self.kept:
            return "its kernel is a vector: no axis is summed over, or all are"
        if not kernel <= set(self.inputs) | set(self.output):
            return "its equation sums an axis of the kernel alone"
        if not self.left and self.inputs[0] != self.output[0]:
            return "its output does not start with the input's first axis"
        return None

    def factor_equations(self) -> tuple[str, str]:
        """The equations of the two layers that stand for this one."""
        letter = self._new_letter()
        between = "".join(a for a in self.inputs if a in self.output) + letter
        reduce = (
            f"{self._with_ellipsis(self.inputs)},{self.reduced}{letter}"
            f"->{self._with_ellipsis(between)}"
        )
        expand = (
            f"{self._with_ellipsis(between)},{letter}{self.kept}"
            f"->{self._with_ellipsis(self.output)}"
        )
        return reduce, expand

    def between_shape(
        self, output_shape: Sequence[int | None], rank: int
    ) -> tuple[int | None, ...]:
        """The `output_shape` argument of the first of the two layers.

        Args:
            output_shape: The argument of the whole layer, as a sequence.
            rank: Integer. The size of the axis between both layers.

        Returns:
            Tuple of integers, `None` for sizes that the input tells.
        """
        # Keras adds the first axis itself, and all that an ellipsis hides.
        skipped = 0 if self.left else 1
        sizes = dict(zip(self.output[skipped:], output_shape, strict=False))
        free = [axis for axis in self.inputs if axis in self.output]
        return (*(sizes.get(axis) for axis in free[skipped:]), rank)

    def _with_ellipsis(self, labels: str) -> str:
        left, right = _ELLIPSIS * self.left, _ELLIPSIS * self.right
        return f"{left}{labels}{right}"

    def _new_letter(self) -> str:
        used = self.inputs + self.kernel + self.output
        letters = "r" + string.ascii_letters
        return next(letter for letter in letters if letter not in used)


def einsum_axes(equation: str) -> EinsumAxes:
    """Reads an equation of `EinsumDense`.

    Args:
        equation: String, as `"abc,cde->abde"` or `"...x,xy->...y"`.

    Returns:
        `EinsumAxes`.

    Example:
    >>> axes = einsum_axes("abc,cde->abde")
    >>> axes.reduced, axes.kept, axes.factor_equations()
    ('c', 'de', ('abc,cr->abr', 'abr,rde->abde'))
    """
    operands, output = equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    return EinsumAxes(
        inputs.replace(_ELLIPSIS, ""),
        kernel,
        output.replace(_ELLIPSIS, ""),
        inputs.startswith(_ELLIPSIS),
        inputs.endswith(_ELLIPSIS),
    )
