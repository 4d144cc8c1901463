"""The file: manifest, stream and container; reading, writing, inspecting.

No part of it imports Keras or TensorFlow.
"""

from keras_squeeze.artifact.access import Access
from keras_squeeze.artifact.applying import apply
from keras_squeeze.artifact.chain import open_chain
from keras_squeeze.artifact.differences import diff
from keras_squeeze.artifact.inspection import describe, inspect, verify
from keras_squeeze.artifact.isolation import Isolation
from keras_squeeze.artifact.limits import Limits
from keras_squeeze.artifact.listing import contents
from keras_squeeze.artifact.manifest import Manifest, Part, TensorRecord
from keras_squeeze.artifact.packing import write
from keras_squeeze.artifact.reading import Artifact, read, read_manifest
from keras_squeeze.artifact.recoding import recode
from keras_squeeze.artifact.signing import generate_keys, sign
from keras_squeeze.artifact.tensor_input import TensorInput

__all__ = [
    "Access",
    "Artifact",
    "Isolation",
    "Limits",
    "Manifest",
    "Part",
    "TensorInput",
    "TensorRecord",
    "apply",
    "contents",
    "describe",
    "diff",
    "generate_keys",
    "inspect",
    "open_chain",
    "read",
    "read_manifest",
    "recode",
    "sign",
    "verify",
    "write",
]
