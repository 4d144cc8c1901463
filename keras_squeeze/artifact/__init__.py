"""The file: manifest, stream and container; reading, writing, inspecting.

No part of it imports Keras or TensorFlow.
"""

from keras_squeeze.artifact.inspection import describe, inspect, verify
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.manifest import Manifest, Part, TensorRecord
from keras_squeeze.artifact.packing import write
from keras_squeeze.artifact.reading import Artifact, read, read_manifest
from keras_squeeze.artifact.recoding import recode
from keras_squeeze.artifact.tensor_input import TensorInput

__all__ = [
    "Artifact",
    "Limits",
    "Manifest",
    "Part",
    "TensorInput",
    "TensorRecord",
    "describe",
    "inspect",
    "read",
    "read_manifest",
    "recode",
    "verify",
    "write",
]
