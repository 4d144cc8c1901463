"""The stock door: what `keras.models.load_model` makes of an artifact.

Keras finds in the file a model of this class with one `uint8` weight, the
stream. It assigns the weight and calls `finalize_state()`, which decodes the
stream and turns the object into the model it holds.

What this door cannot do: Keras has parsed the file before any of this runs, so
that nothing about the file itself is checked first, neither its layout nor a
signature; the digests of the stream are checked and the config is held to the
same rules. The stream is held in memory whole, up to 1 GiB. Files that are
encrypted are no HDF5 for Keras, and files that hold changes to a base find no
base here: both are opened by `ks.load_model`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import keras

from keras_squeeze.artifact.increments import check_base
from keras_squeeze.artifact.limits import check_limit
from keras_squeeze.artifact.reading import parse_stream

# Keras allocates the stream before the file's size can be seen from here.
MAX_STREAM_BYTES = 1 << 30


@keras.saving.register_keras_serializable(package="keras_squeeze")
class SqueezedModel(keras.Model):
    """A model that is still a stream; `ks.load_model` never needs it.

    Args:
        stream_bytes: Integer. Size of the stream in bytes.
        custom_objects: Optional mapping of names to classes or functions.
    """

    def __init__(
        self,
        stream_bytes: int,
        custom_objects: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_limit("a stream in bytes", stream_bytes, MAX_STREAM_BYTES)
        self.stream_bytes = stream_bytes
        self._custom_objects = dict(custom_objects or {})
        self.stream = self.add_weight(
            name="stream",
            shape=(stream_bytes,),
            dtype="uint8",
            initializer="zeros",
            trainable=False,
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """The size of the stream."""
        return {"stream_bytes": self.stream_bytes}

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: Mapping[str, Any] | None = None,
    ) -> SqueezedModel:
        """Makes the empty model that Keras assigns the stream to."""
        return cls(config["stream_bytes"], custom_objects)

    def finalize_state(self) -> None:
        """Decodes the stream and becomes the model it holds."""
        # Imported here because loading needs the layers, which are registered
        # in the same moment as this class.
        from keras_squeeze.saving.loading import revive

        stream = keras.ops.convert_to_numpy(self.stream.value).tobytes()
        opened = parse_stream(stream, keras.__version__)
        check_base(opened.manifest, None)
        model = revive(opened, self._custom_objects)
        self._become(model)

    def _become(self, model: Any) -> None:
        self.__class__ = type(model)
        with contextlib.suppress(AttributeError):
            self._tracker.unlock()
        self.__dict__.clear()
        self.__dict__.update(model.__dict__)
