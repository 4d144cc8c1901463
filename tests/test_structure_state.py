"""A training that changed its model is killed, and goes on."""

import warnings

import h5py
import keras
import numpy as np
import pytest

from keras_squeeze.errors import (
    CorruptArtifactError,
    LimitExceededError,
    SqueezeError,
    UnsafeArtifactError,
)
from keras_squeeze.masking.training_state import TrainingState
from keras_squeeze.surgery.layer_tree import to_numpy
from keras_squeeze.surgery.structure_state import (
    StructureState,
    find_backup,
    read_structure,
)
from tests.splitting import fit, make_model, split

GROUP = "_keras_squeeze_structure_0"


class Resuming(keras.callbacks.Callback):
    """Splits at the end of epochs; makes the structure of a backup first."""

    def __init__(self, ranks):
        super().__init__()
        self.ranks = ranks

    def on_train_begin(self, logs=None):
        self.found = find_backup(self)
        self.state = StructureState()
        if self.found is not None:
            self.state.structure = read_structure(self.found)
            for entry in self.state.structure:
                split(self.model, entry["rank"])
        self.state.attach(self.model)

    def on_epoch_end(self, epoch, logs=None):
        if epoch in self.ranks:
            split(self.model, self.ranks[epoch])
            entry = {"path": "middle", "rank": self.ranks[epoch]}
            self.state.structure = [entry]

    def on_train_end(self, logs=None):
        self.state.detach(self.model)


class Crash(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt


def values(variables):
    return [to_numpy(variable) for variable in variables]


def assert_equal(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_resumed_training_equals_the_uninterrupted(tmp_path):
    ranks = {1: 3, 2: 2}

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    whole = make_model()
    history = fit(whole, [Resuming(ranks)], epochs=4).history
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), [Resuming(ranks), backup(), Crash()], epochs=4)
    resumed = make_model(seed=8)
    callback = Resuming(ranks)
    last = fit(resumed, [callback, backup()], epochs=4).history
    assert callback.found.endswith("latest.weights.h5")
    assert callback.state.restored
    assert last == {key: logged[3:] for key, logged in history.items()}
    assert_equal(values(whole.weights), values(resumed.weights))
    assert_equal(
        values(whole.optimizer.variables), values(resumed.optimizer.variables)
    )
    assert not [name for name in vars(resumed) if "squeeze" in name]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model = make_model(rank=2)
    model.optimizer.build(model.trainable_variables)
    structure = [{"path": "middle", "method": "svd", "ranks": [2]}, {"x": "é"}]
    states = [StructureState(structure), StructureState([{"y": None}])]
    for state in states:
        state.attach(model)
    model.save_weights(folder / "m.weights.h5")
    model.save(folder / "m.keras")
    for state in states:
        state.detach(model)
    return model, folder, states


def test_the_structure_is_read_without_a_model(saved):
    _, folder, (first, second) = saved
    structure = read_structure(folder / "m.weights.h5")
    assert structure == first.structure + second.structure
    assert structure[1] == {"x": "é"}


def test_plain_keras_ignores_the_structure(saved, tmp_path):
    model, folder, _ = saved
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = keras.models.load_model(folder / "m.keras")
        other = make_model(rank=2, seed=3)
        other.optimizer.build(other.trainable_variables)
        other.load_weights(folder / "m.weights.h5")
    for one in (again, other):
        assert_equal(values(one.weights), values(model.weights))
        assert not [name for name in vars(one) if "squeeze" in name]
    model.save_weights(tmp_path / "plain.weights.h5")
    assert read_structure(tmp_path / "plain.weights.h5") is None


def test_loading_tells_whether_the_structure_is_the_same(saved):
    _, folder, (first, _) = saved
    model = make_model(rank=2)
    states = StructureState(first.structure), StructureState()
    for state in states:
        state.attach(model)
    model.load_weights(folder / "m.weights.h5")
    assert states[0].restored and not states[1].restored
    assert states[1].structure == []


def test_an_empty_structure_is_a_structure(tmp_path):
    model = make_model()
    StructureState().attach(model)
    model.save_weights(tmp_path / "m.weights.h5")
    assert read_structure(tmp_path / "m.weights.h5") == []


def test_the_structure_is_a_copy():
    entry = {"ranks": [1]}
    state = StructureState([entry])
    entry["ranks"].append(2)
    state.structure[0]["ranks"].append(3)
    assert state.structure == [{"ranks": [1]}]
    for wrong in ("x", [1], [{"a": np.ones(2)}], [{"a": float("nan")}]):
        with pytest.raises(SqueezeError, match=r"Received: "):
            state.structure = wrong
    assert state.structure == [{"ranks": [1]}]


def test_states_of_an_interrupted_training_are_dropped():
    class Attach(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for kind in (StructureState, TrainingState):
                kind().attach(self.model)

    model = make_model()
    fit(model, [Attach()])
    names = {name for name in vars(model) if "squeeze" in name}
    assert names == {GROUP, "_keras_squeeze_training_state_0"}
    fit(model, [Attach()])
    assert {name for name in vars(model) if "squeeze" in name} == names


def finding(tmp_path, *around, **arguments):
    """What a callback finds that stands before and behind others."""
    found = []

    class Find(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            found.append(find_backup(self))

    before, after = around
    callbacks = keras.callbacks.CallbackList(
        [*before, Find(), *after], model=make_model()
    )
    # Restoring itself is not at stake here.
    for callback in callbacks.callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            callback._load_model = lambda: None
    callbacks.on_train_begin()
    return found[0]


def test_the_backup_is_found_behind_the_callback_only(tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path / "a")
    empty = keras.callbacks.BackupAndRestore(tmp_path / "b")
    assert finding(tmp_path, [], [backup]) is None
    backup.set_model(make_model())
    backup._save_model()
    expected = str(tmp_path / "a" / "latest.weights.h5")
    assert finding(tmp_path, [], [backup]) == expected
    assert finding(tmp_path, [], [empty, backup]) == expected
    assert finding(tmp_path, [backup], []) is None
    assert finding(tmp_path, [], [keras.callbacks.History()]) is None
    assert find_backup(keras.callbacks.Callback()) is None


def test_a_damaged_backup_gives_way_to_the_one_before(tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path, double_checkpoint=True)
    model = make_model()
    backup.set_model(model)
    StructureState([{"number": 1}]).attach(model)
    backup._save_model()
    backup._save_model()
    latest = tmp_path / "latest.weights.h5"
    assert finding(tmp_path, [], [backup]) == str(latest)
    latest.write_bytes(latest.read_bytes()[:2000])
    found = finding(tmp_path, [], [backup])
    assert found == str(latest) + ".bkp"
    assert read_structure(found) == [{"number": 1}]


def bytes_of(text):
    return np.frombuffer(text.encode(), np.uint8)


def write_group(file, content):
    file.create_group(f"{GROUP}/vars")["json"] = content


BAD = {
    "json": (CorruptArtifactError, lambda f: write_group(f, bytes_of("[{"))),
    "deep": (
        CorruptArtifactError,
        lambda f: write_group(f, bytes_of("[" * 200_000)),
    ),
    "kind": (CorruptArtifactError, lambda f: write_group(f, bytes_of("[3]"))),
    "dtype": (CorruptArtifactError, lambda f: write_group(f, np.ones(3))),
    "empty": (CorruptArtifactError, lambda f: f.create_group(GROUP)),
    "link": (
        UnsafeArtifactError,
        lambda f: (
            f.update({GROUP: h5py.SoftLink("/other")})
            or f.create_group("other/vars")
        ),
    ),
    "large": (
        LimitExceededError,
        lambda f: f.create_dataset(
            f"{GROUP}/vars/json", (1 << 25,), "u1", chunks=True
        ),
    ),
    "many": (
        LimitExceededError,
        lambda f: [f.create_group(GROUP[:-1] + str(i)) for i in range(1001)],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_lies_is_refused(name, tmp_path):
    error, write = BAD[name]
    path = tmp_path / "bad.weights.h5"
    with h5py.File(path, "w") as file:
        write(file)
    with pytest.raises(error, match="Received: "):
        read_structure(path)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_structure(tmp_path / "missing.weights.h5")
    path = tmp_path / "text.weights.h5"
    path.write_text("no")
    with pytest.raises(CorruptArtifactError, match=r"Received: .*text\.w"):
        read_structure(path)
