import hashlib

import numpy as np
import pytest

from keras_squeeze.codecs.trellis import STATES, next_states


@pytest.mark.parametrize("states", STATES)
def test_every_state_is_reached_twice_and_left_two_ways(states):
    table = next_states(states)
    assert table.shape == (states, 2)
    assert (np.bincount(table.ravel(), minlength=states) == 2).all()
    assert (table[:, 0] != table[:, 1]).all()


@pytest.mark.parametrize("states", STATES)
def test_both_grids_can_be_reached_from_the_start(states):
    reached = {0}
    for _ in range(states):
        reached |= {int(s) for r in reached for s in next_states(states)[r]}
    assert reached == set(range(states))


def test_the_eight_state_machine_never_changes():
    # Streams hold levels, not codes: another machine gives other weights.
    expected = [
        *([0, 2], [7, 5], [1, 3], [6, 4]),
        *([2, 0], [5, 7], [3, 1], [4, 6]),
    ]
    assert next_states(8).tolist() == expected


@pytest.mark.parametrize("states", STATES)
def test_no_machine_ever_changes(states):
    digest = hashlib.sha256(next_states(states).tobytes()).hexdigest()
    assert digest.startswith(DIGESTS[states])


def test_the_table_is_read_only_and_the_number_of_states_checked():
    with pytest.raises(ValueError):
        next_states(8)[0, 0] = 1
    with pytest.raises(ValueError, match="12"):
        next_states(12)


DIGESTS = {
    4: "1dbb43f8de91",
    8: "a99be2ed5220",
    16: "785786969e5e",
    32: "554719017738",
    64: "2004650065d1",
    128: "02c5e101c34d",
    256: "fb29a9eeda57",
}
