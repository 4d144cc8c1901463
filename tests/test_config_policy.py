"""Configs that would run code or open files are refused before Keras."""

import base64
import marshal
import sys

import keras
import numpy as np
import pytest

import keras_squeeze as ks
from keras_squeeze import artifact
from keras_squeeze.errors import (
    LimitExceededError,
    SqueezeError,
    UnsafeArtifactError,
)
from keras_squeeze.saving.config_policy import check_config
from keras_squeeze.saving.model_config import build_model, describe_model
from tests import models

L = keras.layers


def nobody(name):
    return False


def node(module, class_name, config=None, **more):
    return {
        "module": module,
        "class_name": class_name,
        "config": {} if config is None else config,
        "registered_name": None,
        **more,
    }


def function(module, name, **more):
    return node(module, "function", name, **{"registered_name": name, **more})


def sequential(*layers):
    inputs = node("keras.layers", "InputLayer", {"batch_shape": [None, 3]})
    config = {"name": "hostile", "layers": [inputs, *layers]}
    return node("keras", "Sequential", config)


CODE = base64.b64encode(
    marshal.dumps(compile("print('pwned')", "x", "eval"))
).decode()
LAMBDA = {"class_name": "__lambda__", "config": {"value": CODE}}
URL = "http://127.0.0.1:9/x"
GET_FILE = {"fname": "x", "origin": URL, "extract": True}
REGISTERED = "keras_squeeze>DeferredInitializer"

# The vulnerabilities of Keras that concern configs, each as a layer.
CVES = {
    "CVE-2024-3660": node("keras.layers", "Lambda", {"function": LAMBDA}),
    "CVE-2024-3660 old": {"class_name": "Lambda", "config": {"function": CODE}},
    "CVE-2025-1550": function("os", "system"),
    "CVE-2025-1550 class": node("subprocess", "Popen", {"args": ["true"]}),
    "CVE-2025-1550 activation": node(
        "keras.layers",
        "Activation",
        {"activation": function("builtins", "eval")},
    ),
    "CVE-2025-8747": node(
        "keras.layers",
        "Lambda",
        {
            "function": function("keras.utils", "get_file"),
            "arguments": GET_FILE,
        },
    ),
    "CVE-2025-8747 tar": node("keras.utils", "get_file", GET_FILE),
    "CVE-2025-9906": function("keras.config", "enable_unsafe_deserialization"),
    "CVE-2025-9905": node(
        "keras.layers", "Lambda", {"function": ["code", None, None]}
    ),
    "CVE-2025-49655": node(
        "keras.layers", "TorchModuleWrapper", {"module": "gASVAAAA"}
    ),
    "CVE-2026-12484": node(
        "keras.src.utils.torch_utils", "TorchModuleWrapper", {"module": "gA"}
    ),
    "CVE-2025-12058": node(
        "keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}
    ),
    "CVE-2025-12058 URL": node(
        "keras.layers", "TextVectorization", {"vocabulary": URL}
    ),
    "CVE-2025-12058 bytes": node(
        "keras.layers",
        "IntegerLookup",
        {"vocabulary": {"class_name": "__bytes__", "config": {"value": "/x"}}},
    ),
    "CVE-2026-1462": node("keras.layers", "TFSMLayer", {"filepath": "/tmp/x"}),
    "CVE-2026-12481": node(
        "keras.src.layers.core.lambda_layer", "Lambda", {"function": LAMBDA}
    ),
}
# Ways around a list of names, and other doors of Keras.
EVASIONS = {
    "a class behind a dot": node(
        "keras", "layers.Lambda", {"function": LAMBDA}
    ),
    "a class under its full path": node(
        "keras.src.layers.core.lambda_layer", "Lambda", {"function": LAMBDA}
    ),
    "a registered name beside a builtin function": function(
        "keras.utils", "get_file", registered_name=REGISTERED
    ),
    "a function of a module that holds classes": function(
        "keras.models", "load_model"
    ),
    "a function as a class": node("keras.models", "model_from_json"),
    "a function behind a dot": function("keras", "models.load_model"),
    "a maker of objects": function("keras.layers", "deserialize"),
    "a maker without its module": function("builtins", "deserialize"),
    "a variable": node("keras", "Variable", {"initializer": [1.0]}),
    "a module inside a class": node("keras.layers.os", "system"),
    "a module that was not imported": node("keras.src.layers.evil", "Dense"),
    "a module of Keras that is no layer": node(
        "keras.src.utils.file_utils", "get_file"
    ),
    "a saved object in one": function(
        "keras.saving", "deserialize_keras_object"
    ),
    "a package of a similar name": node("keras_squeeze_evil", "Dense"),
    "a package that Keras imports by itself": node("keras_hub.models", "Task"),
    "no module": {"class_name": "Dense", "config": {"units": 1}},
    "no module and a registered name": {
        "class_name": "Lambda",
        "registered_name": REGISTERED,
        "config": {},
    },
    "an empty module": node(None, "Dense"),
    "a type of TensorFlow": {
        "class_name": "__typespec__",
        "spec_name": "TensorSpec",
        "module": "tensorflow",
        "registered_name": "TensorSpec",
        "config": [],
    },
    "a name that is a list": node("keras.layers", ["Lambda"]),
    "a module that is a list": node(["keras.layers"], "Dense"),
    "a function that is a list": node("builtins", "function", ["relu"]),
    "a stream in a stream": node(
        "x", "y", {"stream_bytes": 1 << 30}, registered_name=ks.__name__
    )
    | {"registered_name": "keras_squeeze>SqueezedModel"},
    "a stream in an old config": {
        "class_name": "keras_squeeze>SqueezedModel",
        "config": {"stream_bytes": 1 << 30},
    },
    "code for JAX": node("keras.layers", "JaxLayer", {"call_fn": "x"}),
    "inverse frequencies in a file": node(
        "keras.layers", "TextVectorization", {"idf_weights": "/etc/passwd"}
    ),
    "an array of one huge string": {
        "class_name": "__numpy__",
        "config": {"value": ["x"] * 9, "dtype": "S2147483647"},
    },
    "an array of structures": {
        "class_name": "__numpy__",
        "config": {"value": [], "dtype": {"names": ["a"], "formats": ["V9"]}},
    },
    "an array of nothing": {"class_name": "__numpy__", "config": None},
}
HOSTILE = {**CVES, **EVASIONS}
# What is below counts as harmless Keras, but for one number.
BOMBS = {
    "thresholds": node("keras.metrics", "AUC", {"num_thresholds": 10**12}),
    "n-grams": node(
        "keras.layers", "TextVectorization", {"ngrams": float("inf")}
    ),
    "unknown words": node(
        "keras.layers", "StringLookup", {"num_oov_indices": 10**10}
    ),
    "a batch": node(
        "keras.layers", "InputLayer", {"batch_shape": [10**9, 4, 4]}
    ),
    "a batch to build for": node(
        "keras.layers",
        "GRU",
        {"units": 4, "stateful": True},
        build_config={"input_shape": [1e9, 4, 4]},
    ),
}

# What a hostile config must not make happen. A hook cannot be taken back.
WATCHED = (
    "compile",
    "ctypes.",
    "exec",
    "import",
    "marshal.",
    "open",
    "os.",
    "pickle.",
    "shutil.",
    "socket.",
    "subprocess.",
    "urllib.",
)
events = None


def watch(event, arguments):
    if events is not None and event.startswith(WATCHED):
        events.append((event, *map(str, arguments[:1])))


sys.addaudithook(watch)


def watched(act, path):
    """What acting did, but for opening the artifact."""
    global events
    events = []
    try:
        act()
    finally:
        happened, events = events, None
    return [e for e in happened if e[1:] not in ((str(path),), (repr(path),))]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file that is intact, of a model with the given config."""
    path = tmp_path_factory.mktemp("hostile") / "m.h5"

    def write(config):
        model = {"class_name": "Sequential", "name": "m", "config": config}
        kernel = np.full((1, 2), 7, "float32")
        tensor = artifact.TensorInput.from_values("w/kernel", kernel)
        artifact.write(
            str(path), [tensor], model, keras_version=keras.__version__
        )
        return path

    # What is imported on the first use of either door is imported now.
    harmless = write(sequential(node("keras.layers", "Flatten")))
    for door in doors(harmless):
        with pytest.raises(SqueezeError):
            door()
    return write


def doors(path):
    return (
        lambda: ks.load_model(path),
        lambda: keras.models.load_model(path, compile=False),
        lambda: keras.models.load_model(path, safe_mode=False),
    )


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_door_lets_a_hostile_config_reach_keras(written, kind):
    path = written(sequential(node("keras.layers", "Flatten"), HOSTILE[kind]))
    for door in doors(path):

        def refused(door=door):
            with pytest.raises(UnsafeArtifactError, match="Received"):
                door()

        assert watched(refused, path) == []


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(
    "place",
    [
        lambda hostile: hostile,
        lambda hostile: [[{"x": (hostile,)}]],
        lambda hostile: node("keras.layers", "Dense", build_config=hostile),
        lambda hostile: node("keras.layers", "Dense", compile_config=hostile),
        lambda hostile: node(
            "keras_squeeze",
            "DeferredInitializer",
            {"initializer": hostile},
            registered_name=REGISTERED,
        ),
    ],
)
def test_hostile_objects_are_found_in_any_place(kind, place):
    with pytest.raises(UnsafeArtifactError, match=r"m\.h5"):
        check_config(
            place(HOSTILE[kind]), lambda name: name == REGISTERED, "m.h5"
        )


@pytest.mark.parametrize("kind", BOMBS)
def test_lists_and_batches_of_any_length_are_not_made(kind):
    with pytest.raises(LimitExceededError, match=r"m\.h5"):
        check_config(BOMBS[kind], nobody, "m.h5")
    with pytest.raises(LimitExceededError, match=r"m\.h5"):
        config = sequential(BOMBS[kind])
        build_model({"class_name": "x", "config": config}, "m.h5")


@pytest.mark.parametrize(
    "layer",
    [
        node("keras.layers", "Dense", {"units": 10**10}),
        node(
            "keras.layers", "Embedding", {"input_dim": 1 << 40, "output_dim": 1}
        ),
        node(
            "keras.layers",
            "Dense",
            build_config={"input_shape": [None, 1 << 40]},
        )
        | {"config": {"units": 1}},
    ],
)
def test_no_door_allocates_what_a_config_asks_for(written, layer):
    path = written(sequential(layer))
    for door in doors(path):
        with pytest.raises(LimitExceededError, match="ask for variables"):
            door()


def test_operations_on_constants_do_not_run():
    """Else a graph could hold numbers of any amount that Keras makes of it."""
    name = "linspace"
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {
            "shape": [None, 3],
            "dtype": "float32",
            "keras_history": ["x", 0, 0],
        },
    }
    layers = [
        node(
            "keras.layers",
            "InputLayer",
            {"batch_shape": [None, 3], "dtype": "float32", "name": "x"},
            name="x",
            inbound_nodes=[],
        ),
        node(
            "keras.src.ops.numpy",
            "Linspace",
            {"num": 10**12, "name": name},
            name=name,
            inbound_nodes=[{"args": [0.0, 1.0], "kwargs": {}}],
        ),
    ]
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [[name, 0, 0]]}
    inner = {"layers": layers, "name": "m", **ends}
    config = node("keras.src.models.functional", "Functional", inner)
    with pytest.raises(UnsafeArtifactError, match="would run at once"):
        build_model({"class_name": "Functional", "config": config}, "m.h5")
    layers[1]["inbound_nodes"][0]["args"][0] = tensor
    model = build_model({"class_name": "Functional", "config": config}, "m.h5")
    assert model.output_shape == (10**12, None, 3)


def test_weights_load_without_the_config(written):
    path = written(sequential(CVES["CVE-2024-3660"]))
    dense = L.Dense(2, use_bias=False, name="w")
    model = keras.Sequential([keras.Input((1,)), dense])
    ks.load_weights(model, path)
    assert watched(lambda: ks.load_weights(model, path), path) == []
    np.testing.assert_array_equal(dense.kernel, [[7, 7]])


def test_the_hook_sees_what_it_watches(tmp_path):
    def act():
        exec(compile("1", "x", "eval"))
        (tmp_path / "x").write_bytes(b"")

    seen = {event for event, *_ in watched(act, "m.h5")}
    assert {"compile", "exec", "open"} <= seen


@pytest.mark.parametrize("kind", [k for k in models.ALL if k != "subclassed"])
def test_configs_of_keras_models_pass(kind):
    config = describe_model(models.make(kind)[0])["config"]
    check_config(config, nobody, "m.h5")


def compiled():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(
                2,
                activation=keras.activations.gelu,
                kernel_regularizer="l2",
                kernel_constraint=keras.constraints.MaxNorm(2),
                dtype="mixed_bfloat16",
            ),
            L.Activation(keras.ops.sin),
        ]
    )
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10**7, 0.9)
    metrics = [keras.metrics.AUC(), keras.metrics.binary_accuracy]
    loss = keras.losses.MeanSquaredError()
    model.compile(keras.optimizers.SGD(schedule), loss, metrics)
    return model


def quantized():
    model = keras.Sequential([keras.Input((4,)), L.Dense(2)])
    model.quantize("int8")
    return model


def lookup():
    words = L.TextVectorization(vocabulary=["/etc/passwd", "http://x", "a"])
    inputs = keras.Input((), dtype="string")
    return keras.Model(inputs, L.Embedding(9, 2)(words(inputs)))


@pytest.mark.parametrize("make", [compiled, quantized, lookup])
def test_configs_as_keras_itself_serializes_them_pass(make):
    check_config(keras.saving.serialize_keras_object(make()), nobody, "m.h5")


def test_descriptions_hold_no_training_configuration():
    assert "compile_config" not in str(describe_model(compiled()))


def test_models_with_vocabularies_come_back(tmp_path):
    ks.export(lookup(), tmp_path / "m.h5")
    loaded = ks.load_model(tmp_path / "m.h5")
    assert loaded.layers[1].get_vocabulary()[2:] == [
        "/etc/passwd",
        "http://x",
        "a",
    ]


def test_names_the_caller_registered_pass():
    config = node("somewhere", "Mine", registered_name="pkg>Mine")
    check_config(config, lambda name: name == "pkg>Mine", "m.h5")
    with pytest.raises(UnsafeArtifactError, match="Mine"):
        check_config(config, nobody, "m.h5")
    mine = function("somewhere", "mine")
    check_config(mine, lambda name: name == "mine", "m.h5")
    with pytest.raises(UnsafeArtifactError, match="mine"):
        check_config(mine, nobody, "m.h5")
