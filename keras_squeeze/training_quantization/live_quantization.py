"""The quantization of a model in training: what is done, and what was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keras_squeeze.errors import ModelMismatchError, SqueezeError
from keras_squeeze.layers.quantization_aware import QuantizationAware
from keras_squeeze.layers.quantization_aware_conversion import (
    Preparation,
    apply_preparation,
    freeze,
    frozen_tensors,
    prepare_layer,
    reason_not_trainable_on_grid,
)
from keras_squeeze.layers.quantization_aware_parents import adopt_parent
from keras_squeeze.layers.quantizer_arguments import (
    layer_quantizer,
    quantizer_arguments,
)
from keras_squeeze.quantizers import Quantizer
from keras_squeeze.surgery.dequantization import release_parents
from keras_squeeze.surgery.layer_tree import Filters, walk_layers
from keras_squeeze.surgery.live_change import change_live
from keras_squeeze.surgery.live_structure import Entry, LiveStructure
from keras_squeeze.surgery.quantized_structure import adopt_parents
from keras_squeeze.training_quantization.candidates import find_layers
from keras_squeeze.training_quantization.figures import figures_of


class LiveQuantization(LiveStructure):
    """Rounds kernels of a model in training to grids and remembers which.

    The driver behind `ks.callbacks.QuantizationAwareTraining`, for training
    loops of one's own: functions traced before a change must be traced anew.

    Args:
        model: A `keras.Model`, compiled or not.
        number: Integer. Tells apart those that work on one model. Defaults
            to `0`.
    """

    def __init__(self, model: Any, number: int = 0) -> None:
        super().__init__(model, number)
        #: Pairs of a layer's path and the reason why it was left as it is.
        self.skipped: list[tuple[str, str]] = []

    def quantize(
        self,
        quantizer: Quantizer,
        learn_scale: bool = True,
        filters: Filters = None,
        hardening: tuple[int, int] | None = None,
    ) -> list[str]:
        """Lets the kernels be trained with rounding from now on.

        Layers that are quantized keep their grids and are trained on them;
        those that are trained so already stay as they are.

        Args:
            quantizer: `Quantizer`, which chooses the grids to begin with.
            learn_scale: Boolean. Whether steps or levels are learned.
                Defaults to `True`.
            filters: Optional regex or callable. Defaults to all kernels.
            hardening: Optional pair of integers: the step at which codebooks
                begin to harden, and after how many they are hard. Defaults
                to `None`: they are from the beginning.

        Returns:
            List of the paths of the layers in question.

        Raises:
            NoKernelMatchedError: If `filters` match no such layer.
            NonFiniteError: If a kernel holds NaN or infinity. The model is
                unchanged then.
        """
        found, self.skipped = find_layers(self.model, filters)
        prepared = {
            path: prepare_layer(layer, quantizer, learn_scale, name=path)
            for path, layer in found
            if not isinstance(layer, QuantizationAware)
        }
        self._apply(list(prepared.values()))
        # Codebooks that are trained already are hard, and stay so.
        self._state.structure = [
            self._entry(path, layer, hardening if path in prepared else None)
            for path, layer in found
        ]
        self.is_done = True
        return [path for path, _ in found]

    def _entry(
        self, path: str, layer: Any, hardening: tuple[int, int] | None
    ) -> Entry:
        entry: Entry = {
            "path": path,
            "quantizer": quantizer_arguments(layer.kernel_quantizer),
            "learn_scale": layer.learn_scale,
            "number": self._number,
        }
        if hardening is not None and layer.kernel_quantizer.learns_codebook:
            entry["hardening"] = list(hardening)
        return entry

    def _apply(self, prepared: list[Preparation]) -> None:
        if not prepared:
            return

        def convert() -> dict[int, Any]:
            for preparation in prepared:
                apply_preparation(preparation)
            self._adopt()
            return {}

        change_live(self.model, convert)

    def _adopt(self) -> None:
        release_parents(self.model)
        for _, layer in list(walk_layers(self.model)):
            adopt_parent(layer)

    def restore(self, structure: list[Entry]) -> None:
        """Gives the model a structure, with grids to be loaded.

        Args:
            structure: List of dictionaries, as `structure` holds them.

        Raises:
            ModelMismatchError: If a layer is missing or cannot have it.
        """
        entries = [entry for entry in structure if "quantizer" in entry]
        layers = dict(walk_layers(self.model))
        pending = [
            (entry, layer)
            for entry in entries
            if (layer := _found(layers.get(entry["path"]), entry)) is not None
        ]
        self._apply([_empty(layer, entry) for entry, layer in pending])
        own = [e for e in entries if e.get("number", 0) == self._number]
        self._state.structure = own
        self.is_done = self.is_done or bool(own)

    def freeze(self) -> list[str]:
        """Turns the layers into quantized ones that compute the same.

        Returns:
            List of their paths.

        Raises:
            SqueezeError: If a weight is not finite. The model is unchanged
                then.
        """
        layers = [(path, layer) for path, layer, _ in self._layers()]
        tensors = [frozen_tensors(layer) for _, layer in layers]

        def convert() -> dict[int, Any]:
            for (_, layer), made in zip(layers, tensors, strict=True):
                freeze(layer, made)
            for _, layer in list(walk_layers(self.model)):
                adopt_parent(layer)
            adopt_parents(self.model)
            return {}

        if layers:
            change_live(self.model, convert)
        self._state.structure = []
        self.is_done = False
        return [path for path, _ in layers]

    def harden(self, step: int) -> bool:
        """Draws weights further to the levels of learned codebooks.

        Args:
            step: Integer. The step of the training.

        Returns:
            Boolean: whether some are not at their levels yet.
        """
        goes_on = False
        for _, layer, entry in self._layers():
            if "hardening" in entry:
                begin, steps = entry["hardening"]
                hardness = (step - begin) / steps if steps else 1.0
                layer.assign_hardness(min(1.0, max(0.0, hardness)))
                goes_on = goes_on or hardness < 1.0
        return goes_on

    @property
    def hardens(self) -> bool:
        """Whether there are codebooks that become hard in steps."""
        return any("hardening" in entry for _, _, entry in self._layers())

    def figures(self, filters: Filters = None) -> dict[str, float]:
        """How many bits a weight has, and how near its grid it is.

        Args:
            filters: Optional regex or callable, as in `quantize`.

        Returns:
            Dictionary with `bits` and `quantization_snr_db`.
        """
        return figures_of([layer for _, layer, _ in self._layers()])

    def _layers(self) -> Iterator[tuple[str, Any, Entry]]:
        if not self.is_done:
            return
        layers = dict(walk_layers(self.model))
        for entry in self.structure:
            layer = layers[entry["path"]]
            # Another callback on the same layers may have frozen them.
            if isinstance(layer, QuantizationAware):
                yield entry["path"], layer, entry


def _found(layer: Any, entry: Mapping[str, Any]) -> Any | None:
    """The layer that an entry means; `None` if it is as it says already."""
    if isinstance(layer, QuantizationAware):
        received = quantizer_arguments(layer.kernel_quantizer)
        if received == entry["quantizer"]:
            return None
        reason = f"trained on another grid, {received}"
    elif layer is None:
        reason = (
            "no such layer. A callback that makes it must stand before this "
            "one in the list"
        )
    else:
        reason = str(reason_not_trainable_on_grid(layer))
        if reason_not_trainable_on_grid(layer) is None:
            return layer
    raise ModelMismatchError(
        f"Expected a layer {entry['path']!r} that can be trained with "
        f"quantization ({entry['quantizer']}), as the saved training has it. "
        f"Received: {reason}"
    )


def _empty(layer: Any, entry: Mapping[str, Any]) -> Preparation:
    try:
        quantizer = layer_quantizer(**entry["quantizer"])
        return prepare_layer(
            layer,
            quantizer,
            entry["learn_scale"],
            name=entry["path"],
            is_empty=True,
        )
    except SqueezeError as error:
        raise ModelMismatchError(str(error)) from error
