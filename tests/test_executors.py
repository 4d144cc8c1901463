"""The bytes of a file do not depend on who coded its tensors, or when."""

import random
import threading
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)

import numpy as np
import pytest

from keras_squeeze import artifact
from keras_squeeze.artifact import TensorInput, coding

MODEL = {"class_name": "Sequential", "name": "m", "config": None}


class Shuffling(Executor):
    """Runs what waits in random order, once a few tasks have come."""

    _max_workers = 3

    def __init__(self, seed=0):
        self._random = random.Random(seed)
        self._waiting = []
        self.most = 0

    def submit(self, task, *args):
        future = Future()
        future.result = lambda timeout=None: self._result(future)
        self._waiting.append((future, task, args))
        self.most = max(self.most, len(self._waiting))
        return future

    def _result(self, wanted):
        self._random.shuffle(self._waiting)
        while not wanted.done():
            future, task, args = self._waiting.pop()
            future.set_result(task(*args))
        return Future.result(wanted)


def tensors():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(14, 3000)).astype("f4")
    sparse = np.where(rng.random((4, 2000)) < 0.1, 1.5, 0).astype("f4")
    arrays = [*normal, *sparse, np.zeros(()), np.arange(7), rng.random(9) < 0.5]
    return [
        TensorInput.from_values(f"t{i}", np.asarray(array))
        for i, array in enumerate(arrays)
    ]


def write(path, executor=None):
    artifact.write(
        path, tensors(), MODEL, keras_version="3", executor=executor
    ).close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return write(tmp_path_factory.mktemp("expected") / "a.h5")


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_threads(tmp_path, expected, workers):
    with ThreadPoolExecutor(workers) as executor:
        assert write(tmp_path / "a.h5", executor) == expected


def test_processes(tmp_path, expected):
    with ProcessPoolExecutor(2) as executor:
        assert write(tmp_path / "a.h5", executor) == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_any_order(tmp_path, expected, seed):
    executor = Shuffling(seed)
    assert write(tmp_path / "a.h5", executor) == expected
    assert 1 < executor.most <= 2 * executor._max_workers


def test_a_dask_cluster(tmp_path, expected):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        assert write(tmp_path / "a.h5", executor) == expected


def test_large_tensors_are_in_flight_one_a_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(coding, "WINDOW_BYTES", 1)
    executor = Shuffling()
    write(tmp_path / "a.h5", executor)
    assert executor.most == executor._max_workers


def test_a_failing_worker_leaves_no_file(tmp_path, monkeypatch):
    seen = []

    def fail(tensor, *args):
        seen.append(tensor.name)
        if tensor.name == "t3":
            raise MemoryError("no room")
        return encode(tensor, *args)

    encode = coding.encode_tensor
    monkeypatch.setattr(coding, "encode_tensor", fail)
    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(MemoryError, match="no room"),
    ):
        write(tmp_path / "a.h5", executor)
    assert "t20" not in seen, "what waits is not begun"
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() < 20
