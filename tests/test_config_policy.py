"""Configs that would run code or open files are refused before Keras."""

import keras
import pytest

from keras_squeeze.errors import UnsafeArtifactError
from keras_squeeze.saving.config_policy import check_config
from keras_squeeze.saving.model_config import build_model, describe_model
from tests import models


def nobody(name):
    return False


def node(module, class_name, config=None, registered_name=None):
    return {
        "module": module,
        "class_name": class_name,
        "config": config or {},
        "registered_name": registered_name,
    }


@pytest.mark.parametrize("kind", [k for k in models.ALL if k != "subclassed"])
def test_configs_of_keras_models_pass(kind):
    config = describe_model(models.make(kind)[0])["config"]
    check_config(config, nobody, "m.h5")


def test_compiled_models_with_custom_policies_pass():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(
                2,
                activation=keras.activations.gelu,
                kernel_regularizer="l2",
                kernel_constraint=keras.constraints.MaxNorm(2),
                dtype="mixed_bfloat16",
            ),
        ]
    )
    model.compile("adam", "mse")
    config = describe_model(model)["config"]
    assert "compile_config" not in str(config)
    check_config(config, nobody, "m.h5")


@pytest.mark.parametrize(
    "config",
    [
        node("keras.layers", "Lambda", {"function": "x"}),
        node("keras.layers", "TFSMLayer", {"filepath": "/tmp/x"}),
        node("keras.layers", "TorchModuleWrapper"),
        node("os", "system"),
        node("builtins", "eval"),
        node("subprocess", "Popen"),
        node("keras.utils", "get_file"),
        node("keras.config", "enable_unsafe_deserialization"),
        node("keras.saving", "load_model"),
        node("keras.src.utils.file_utils", "get_file"),
        node("keras.src.saving.saving_lib", "load_model"),
        node("keras.layers.os", "system"),
        node("keras_squeeze_evil", "Dense"),
        node(None, "Dense"),
        {"class_name": "Dense", "config": {}},
        {"class_name": "__lambda__", "config": {"value": "abc"}},
        {"class_name": "__typespec__", "module": "os", "config": []},
        node("os", "function", "system"),
        node("keras.utils", "function", "get_file"),
        node("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
        node("keras.layers", "TextVectorization", {"idf_weights": "http://x"}),
    ],
)
def test_hostile_configs_are_refused(config):
    wrapped = node(
        "keras",
        "Sequential",
        {"layers": [node("keras.layers", "Dense"), config]},
    )
    with pytest.raises(UnsafeArtifactError, match="Received"):
        check_config(wrapped, nobody, "m.h5")
    with pytest.raises(UnsafeArtifactError, match=r"m\.h5"):
        build_model({"class_name": "x", "config": wrapped}, "m.h5")


def test_a_stream_inside_a_config_is_refused():
    config = node(
        "keras_squeeze.saving.squeezed_model",
        "SqueezedModel",
        {"stream_bytes": 1 << 30},
        "keras_squeeze>SqueezedModel",
    )
    with pytest.raises(UnsafeArtifactError, match="SqueezedModel"):
        build_model({"class_name": "x", "config": config}, "m.h5")


def test_names_the_caller_registered_pass():
    config = node("somewhere", "Mine", {}, "pkg>Mine")
    check_config(config, lambda name: name == "pkg>Mine", "m.h5")
    with pytest.raises(UnsafeArtifactError, match="Mine"):
        check_config(config, nobody, "m.h5")
