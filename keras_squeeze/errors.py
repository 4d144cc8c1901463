"""The errors keras_squeeze raises: one base, one class a cause.

Every message says what was expected, where (the layer's path, the tensor, the
file), and ends with `Received: ...`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_squeeze.report import Report


class SqueezeError(ValueError):
    """Base of every error this package raises on purpose."""


class UnbuiltModelError(SqueezeError):
    """The model has no variables yet: it was neither built nor called."""


class UnsupportedModelError(SqueezeError):
    """The model holds something that cannot be copied or written to a file."""


class NoKernelMatchedError(SqueezeError):
    """`filters` left no kernel to work on."""


class NonFiniteError(SqueezeError):
    """A lossy step met NaN or infinity."""


class UnknownIdentifierError(SqueezeError):
    """A registry holds no entry of that name."""


class ModelMismatchError(SqueezeError):
    """The weights of a file do not fit the model they are loaded into."""


class ArtifactError(SqueezeError):
    """Base of the errors that concern a file."""


class NotAnArtifactError(ArtifactError):
    """The file is not a keras_squeeze artifact."""


class ArtifactExistsError(ArtifactError, FileExistsError):
    """The target exists and `overwrite=False`."""


class CorruptArtifactError(ArtifactError):
    """The file is damaged: truncated, or a checksum does not match.

    Its `report` is set by `verify`, a row a tensor, where the file could be
    read that far.
    """

    report: Report | None = None


class UnsupportedVersionError(ArtifactError):
    """The file needs a newer version of keras_squeeze."""


class LimitExceededError(ArtifactError):
    """The file declares sizes beyond what the reader allows."""


class UnsafeArtifactError(ArtifactError):
    """The file holds something that could run code or read other files."""


class SignatureError(ArtifactError):
    """A file is not what its signature or the expected digest vouches for."""


class DecryptionError(ArtifactError):
    """An encrypted file was changed, or its key is missing or wrong."""


class BaseMismatchError(ArtifactError):
    """A file holds changes to a base, which is missing or another one."""
