import numpy as np
import pytest

from keras_squeeze.calibration import windows
from keras_squeeze.calibration.windows import Windows


def gathered(geometry, array):
    return list(geometry.gather(array))


def test_what_lies_outside_is_zero(rng):
    array = rng.normal(size=(2, 3, 1))
    [found] = gathered(Windows((3,), (1,), (1,), "same"), array)
    padded = np.pad(array, [(0, 0), (1, 1), (0, 0)])
    for place in range(3):
        np.testing.assert_array_equal(found[:, place], padded[:, place:][:, :3])


def test_a_causal_window_ends_at_its_position():
    array = np.arange(1.0, 5.0).reshape(1, 4, 1)
    [found] = gathered(Windows((2,), (1,), (2,), "causal"), array)
    assert found[0, :, :, 0].tolist() == [[0, 1], [0, 2], [1, 3], [2, 4]]


def test_taps_come_before_channels_and_the_first_axis_first():
    array = np.arange(8.0).reshape(1, 2, 2, 2)
    [found] = gathered(Windows((2, 2), (1, 1), (1, 1), "valid"), array)
    np.testing.assert_array_equal(found, array.reshape(1, 1, 4, 2))


@pytest.mark.parametrize("limit", [1, 40, 200, 600])
def test_parts_of_any_size_hold_the_same(limit, monkeypatch, rng):
    array = rng.normal(size=(5, 6, 7, 2))
    for transposed in (False, True):
        geometry = Windows((3, 2), (2, 2), (1, 1), "same", transposed)
        whole = np.concatenate(
            [p.reshape(-1, 12) for p in geometry.gather(array)]
        )
        with monkeypatch.context() as patch:
            patch.setattr(windows, "_MOST_VALUES", limit)
            parts = gathered(geometry, array)
        assert len(parts) > 1
        assert max(p.size for p in parts) <= max(limit, 7 * 2 * 12)
        joined = np.concatenate([p.reshape(-1, 12) for p in parts])
        order = np.lexsort(joined.T), np.lexsort(whole.T)
        np.testing.assert_array_equal(joined[order[0]], whole[order[1]])


def test_a_window_larger_than_the_input_has_no_position():
    parts = gathered(Windows((4,), (1,), (1,), "valid"), np.zeros((2, 3, 1)))
    assert sum(part.shape[1] for part in parts) == 0
