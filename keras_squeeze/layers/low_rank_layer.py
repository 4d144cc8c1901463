"""The mixin that lets a Keras layer hold its kernel as a chain of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from keras_squeeze.errors import SqueezeError
from keras_squeeze.layers.factor_chain import build_chain
from keras_squeeze.layers.low_rank_arguments import (
    check_arguments,
    checked_method,
    checked_ranks,
)

# Their variables live in the factors.
_FACTORIZED = frozenset({"kernel", "embeddings", "bias"})


class LowRankLayer(keras.layers.Layer):
    """Mixin: a Keras layer whose kernel is the product of its factors.

    Stands before a Keras layer in the bases. The factors are plain Keras
    layers, called one after the other; the last holds bias and activation.
    The layer has no variable of its own, so whatever works on the plain
    layers (masks, quantization, export) works on the factors.

    `ranks` is a tuple of the ranks between the factors and `method` the
    decomposition's name. The attribute is not called `rank`: Keras'
    convolutions mean their number of spatial axes by that.

    Args:
        *args: What the Keras layer takes.
        rank: Integer, or a list of two for `method="tucker2"`. The size of
            the axes between the factors.
        method: Optional string. A name among the class' `methods`. Defaults
            to the first of these.
        factors: Optional list of the factors, as they come from a config.
            Defaults to new ones.
        **kwargs: What the Keras layer takes.

    Raises:
        SqueezeError: If an argument is out of its range, or is one that a
            factorized layer cannot have (LoRA, groups, a kernel constraint,
            a quantized dtype, a layer as activation).
    """

    methods: ClassVar[tuple[str, ...]] = ("svd",)
    kernel_name: ClassVar[str] = "kernel"

    def __init__(
        self,
        *args: Any,
        rank: Any = None,
        method: str | None = None,
        factors: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.method = checked_method(self, method)
        self.ranks = checked_ranks(self.name, self.method, rank)
        check_arguments(self)
        if factors is None:
            factors = self.chain(self, self.method, self.ranks)
        self.hold(factors)

    def hold(self, factors: Sequence[Any]) -> None:
        """Makes these layers the factors; for an unlocked layer.

        Args:
            factors: Keras layers in the order of their calls.
        """
        self.factors = list(factors)
        # Checkpoints of TensorFlow pass over what Keras finds in a list.
        if hasattr(self, "_track_trackable"):
            for factor in self.factors:
                self._track_trackable(factor, name=factor.name, overwrite=True)

    @staticmethod
    def reason_not_possible(layer: Any, method: str) -> str | None:
        """Why a layer with these arguments has no such chain.

        Args:
            layer: The layer, factorized or not.
            method: String. The decomposition's name.

        Returns:
            String, or `None` if it has one.
        """
        return None

    @staticmethod
    def chain(layer: Any, method: str, ranks: tuple[int, ...]) -> list[Any]:
        """Makes the factors of a layer, not built.

        Args:
            layer: The layer, factorized or not, whose arguments they take.
            method: String. The decomposition's name.
            ranks: Tuple of integers.

        Returns:
            List of Keras layers.
        """
        raise NotImplementedError

    @staticmethod
    def compose(layer: Any, method: str, kernels: Sequence[Any]) -> Any:
        """The kernel that the factors' kernels stand for, by `keras.ops`.

        Args:
            layer: The layer, factorized or not.
            method: String. The decomposition's name.
            kernels: The factors' kernels as tensors.

        Returns:
            Tensor of the kernel's shape in Keras.
        """
        raise NotImplementedError

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a variable; none for kernel and bias, the factors have them."""
        if kwargs.get("name") in _FACTORIZED:
            return None
        return super().add_weight(*args, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Checks the input as the Keras layer does, and builds the factors."""
        if self.built:
            return
        super().build(input_shape)
        build_chain(self.factors, input_shape)
        if not self.trainable:
            for factor in self.factors:
                factor.trainable = False

    @property
    def kernel(self) -> Any:
        """The product of the factors' kernels, in Keras' shape.

        Computed at each access; the layer's own computations never need it.
        """
        return self._composed("kernel")

    def _composed(self, name: str) -> Any:
        if not self.built:
            raise AttributeError(
                f"You must build the layer {self.name!r} before accessing "
                f"`{name}`."
            )
        kernels = [
            keras.ops.convert_to_tensor(
                getattr(factor, "embeddings", None)
                if isinstance(factor, keras.layers.Embedding)
                else factor.kernel
            )
            for factor in self.factors
        ]
        return self.compose(self, self.method, kernels)

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Calls the factors one after the other."""
        for factor in self.factors:
            inputs = factor(inputs)
        return inputs

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        """Not for a factorized layer: it has no kernel of its own."""
        raise SqueezeError(
            "LoRA adds to a kernel, and a factorized layer has none of its "
            "own: enable it on one of its `factors`. Received: the layer "
            f"{self.name!r}"
        )

    def quantize(
        self, mode: Any = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Quantizes the factors, each as Keras quantizes such a layer."""
        for factor in self.factors:
            factor.quantize(mode, config=config)

    def save_own_variables(self, store: Any) -> None:
        """Saves nothing: the factors save themselves."""

    def load_own_variables(self, store: Any) -> None:
        """Loads nothing: the factors load themselves."""
        found = len(store.keys())
        if found:
            raise SqueezeError(
                f"Expected no variable for {self.name!r} itself: it is "
                f"factorized ({self.method}, rank {list(self.ranks)}) and the "
                "weights of a layer that is not do not fit; load them before "
                f"factorizing. Received: {found} variables"
            )

    def get_config(self) -> dict[str, Any]:
        """The Keras layer's config, rank, method and the factors' configs.

        Returns:
            JSON-ready dictionary.
        """
        ranks = [int(rank) for rank in self.ranks]
        return {
            **super().get_config(),
            "rank": ranks[0] if len(ranks) == 1 else ranks,
            "method": self.method,
            "factors": [_unbuilt_config(factor) for factor in self.factors],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes the layer with the factors of its config."""
        factors = config.get("factors")
        if factors is not None:
            factors = [
                keras.saving.deserialize_keras_object(factor)
                for factor in factors
            ]
        return super().from_config({**config, "factors": factors})


class LowRankOutput(LowRankLayer):
    """Mixin: a `LowRankLayer` that has a bias and an activation."""

    @property
    def bias(self) -> Any:
        """The last factor's bias; `None` if it has none."""
        factors = self.__dict__.get("factors")
        return factors[-1].bias if factors and factors[-1].built else None

    @bias.setter
    def bias(self, value: Any) -> None:
        # `build` of the Keras layer assigns what `add_weight` returned.
        if value is not None:
            raise SqueezeError(
                f"The bias of {self.name!r} is held by its last factor: set "
                "it there. Received: an assignment to `bias`"
            )

    @property
    def activation(self) -> Any:
        """The last factor's activation."""
        factors = self.__dict__.get("factors")
        return factors[-1].activation if factors else self._activation

    @activation.setter
    def activation(self, value: Any) -> None:
        factors = self.__dict__.get("factors")
        if factors:
            factors[-1].activation = value
        else:
            self._activation = value


def _unbuilt_config(factor: Any) -> dict[str, Any]:
    # The layer builds its factors itself, inside its own name scope.
    config = keras.saving.serialize_keras_object(factor)
    config.pop("build_config", None)
    return dict(config)
