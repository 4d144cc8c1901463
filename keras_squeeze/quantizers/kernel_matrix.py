"""A kernel seen as matrices: what error feedback and output errors need."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from keras_squeeze.errors import SqueezeError


@dataclasses.dataclass(frozen=True)
class KernelMatrix:
    """How a kernel of any shape is a stack of matrices, and back.

    A layer multiplies vectors of `inputs` numbers with a matrix of `outputs`
    columns; a grouped or depthwise convolution has one for each group.

    Args:
        shape: Tuple of integers. The kernel's shape.
        split: Tuple of integers. The same with axes split where an axis holds
            groups and outputs. Of the same size.
        order: Tuple. The split axes in the order groups, inputs, outputs.
        groups: Integer.
        inputs: Integer.
        outputs: Integer.

    Raises:
        SqueezeError: If the sizes do not fit each other.

    Example:
    >>> shape = (3, 3, 8, 2)  # Of a depthwise convolution.
    >>> matrix = KernelMatrix(shape, shape, (2, 0, 1, 3), 8, 9, 2)
    >>> matrix.to_matrix(np.zeros(shape)).shape
    (8, 9, 2)
    """

    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    groups: int
    inputs: int
    outputs: int

    def __post_init__(self) -> None:
        sizes = (self.groups, self.inputs, self.outputs)
        counts = {math.prod(s) for s in (self.shape, self.split, sizes)}
        if len(counts) > 1 or sorted(self.order) != list(
            range(len(self.split))
        ):
            raise SqueezeError(
                "Expected a kernel that is as large as its matrices. "
                f"Received: {self}"
            )

    @classmethod
    def flat(cls, shape: tuple[int, ...]) -> Self:
        """The kernel as one matrix: all axes but the last are its inputs.

        Args:
            shape: Tuple of integers.

        Returns:
            A new `KernelMatrix`.
        """
        outputs = shape[-1] if shape else 1
        inputs = math.prod(shape[:-1])
        order = tuple(range(len(shape)))
        return cls(tuple(shape), tuple(shape), order, 1, inputs, outputs)

    @property
    def is_flat(self) -> bool:
        """Whether it is one matrix whose rows are all axes but the last."""
        rows = math.prod(self.shape[:-1])
        return (
            self.groups == 1
            and self.inputs == rows
            and self.order == tuple(range(len(self.split)))
        )

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        """Groups, inputs and outputs."""
        return self.groups, self.inputs, self.outputs

    def to_matrix(self, array: NDArray[Any]) -> NDArray[Any]:
        """Brings an array of the kernel's shape into the form of matrices.

        Args:
            array: Array of the kernel's shape.

        Returns:
            Array of shape `(groups, inputs, outputs)`.

        Raises:
            SqueezeError: If the array has another shape.
        """
        if array.shape != self.shape:
            raise SqueezeError(
                f"Expected an array of the kernel's shape {self.shape}. "
                f"Received: {array.shape}"
            )
        moved = array.reshape(self.split).transpose(self.order)
        return moved.reshape(self.matrix_shape)

    def from_matrix(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Undoes `to_matrix`.

        Args:
            matrix: Array of shape `(groups, inputs, outputs)`.

        Returns:
            Contiguous array of the kernel's shape.
        """
        moved = matrix.reshape([self.split[axis] for axis in self.order])
        back = moved.transpose(np.argsort(self.order))
        return np.ascontiguousarray(back).reshape(self.shape)
