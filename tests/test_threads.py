import threading

import pytest

from keras_squeeze.codecs.threads import map_threads, usable_cores


def test_results_keep_the_order_of_the_items():
    items = list(range(50))
    assert map_threads(lambda n: n * n, items) == [n * n for n in items]
    assert map_threads(str, []) == []


def test_the_work_is_spread_over_threads():
    barrier = threading.Barrier(2, timeout=30)
    # Each call waits for the other: one thread alone would never come back.
    assert map_threads(lambda n: barrier.wait() >= 0, [1, 2], threads=2)


def test_one_thread_is_the_callers():
    here = threading.get_ident()
    found = map_threads(lambda _: threading.get_ident(), [1, 2, 3], threads=1)
    assert found == [here] * 3


def test_the_earliest_failure_is_raised():
    def fail(item):
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 1"):
        map_threads(fail, [1, 2, 3])


def test_there_is_a_core():
    assert usable_cores() >= 1
