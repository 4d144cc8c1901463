import dataclasses

import numpy as np
import pytest

from keras_squeeze import native
from keras_squeeze.codecs import rans_lanes, rans_lanes_native, rans_table

pytestmark = pytest.mark.skipif(
    not native.available(), reason="no compiled kernels"
)


def reference(streams, monkeypatch):
    monkeypatch.setattr(native, "function", lambda *_: None)
    found = rans_lanes.decode_lanes(streams)
    monkeypatch.undo()
    return found


def stream(lanes, steps, spread, seed=0):
    rng = np.random.default_rng([seed, lanes, steps])
    symbols = np.abs(rng.normal(0, spread, (steps, lanes))).astype(np.int64)
    table = rans_table.fit(np.bincount(symbols.reshape(-1)))
    states, words = rans_lanes.encode_lanes(
        symbols, table.frequencies, table.precision
    )
    _, slots = rans_lanes.slot_table(table.frequencies)
    return rans_lanes.LaneStream(table.precision, slots, steps, states, words)


STREAMS = [
    stream(1, 1000, 2),
    stream(7, 30, 30),
    stream(64, 4096, 0.4),
    stream(40, 900, 500),
]


def test_the_kernel_gives_what_the_reference_gives(monkeypatch):
    found = rans_lanes_native.decode_lanes(STREAMS)
    expected = reference(STREAMS, monkeypatch)
    for (slots, whole), (like, _) in zip(found, expected, strict=True):
        assert whole
        assert slots.dtype == np.uint16
        assert (slots == like).all()


def test_streams_are_not_changed():
    before = STREAMS[0].states.copy()
    rans_lanes_native.decode_lanes(STREAMS[:1])
    assert (STREAMS[0].states == before).all()


@pytest.mark.parametrize("place", range(len(STREAMS)))
def test_damage_is_noticed_as_the_reference_does(place, monkeypatch):
    whole = STREAMS[place]
    words = whole.words.copy()
    words[words.size // 2] ^= 1 << 9
    more = np.append(whole.words, np.uint16(1))
    for damaged in (words, whole.words[:-1], more, whole.words[:0]):
        broken = dataclasses.replace(whole, words=damaged)
        ((slots, fine),) = rans_lanes_native.decode_lanes([broken])
        assert int(slots.max()) < 1 << whole.precision
        assert fine == reference([broken], monkeypatch)[0][1]
        # A flipped bit may end well by chance; a wrong length cannot.
        assert not fine or damaged is words


def test_without_kernels_there_is_no_result(monkeypatch):
    monkeypatch.setattr(native, "function", lambda *_: None)
    assert rans_lanes_native.decode_lanes(STREAMS) is None
