import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_squeeze import native
from keras_squeeze.codecs import (
    class_rans_decoding,
    class_rans_native,
    class_rans_table,
)
from keras_squeeze.codecs.class_rans import ClassRans
from keras_squeeze.codecs.class_rans_decoding import decode_blocks
from keras_squeeze.codecs.trellis import Trellis
from keras_squeeze.errors import CorruptArtifactError
from tests.class_rans_samples import (
    damaged_streams,
    int8,
    kernel,
    trellis_codes,
)

pytestmark = pytest.mark.skipif(
    not native.available(), reason="no compiled kernels"
)

CODEC = ClassRans()


def isas():
    """What this processor can run."""
    best = class_rans_native.ISAS.index(class_rans_native.best_isa())
    return class_rans_native.ISAS[: best + 1]


def encode_both(array, codec, monkeypatch):
    fast = codec.encode(array)
    with monkeypatch.context() as patch:
        patch.setattr(class_rans_native, "available", lambda: False)
        slow = codec.encode(array)
    assert fast == slow
    return fast


def check_decoders(data, array):
    parsed = CODEC.parse(data, array.shape, array.dtype)
    if parsed.stream is None:
        return None
    outs = [class_rans_decoding.decode_reference([parsed])[0]]
    outs += [
        class_rans_decoding.decode_native([parsed], isa)[0] for isa in isas()
    ]
    for out in outs:
        assert out.dtype == array.dtype and (out == array).all()
    return parsed.stream


def walk(shape, scale, seed=0):
    rng = np.random.default_rng(seed)
    return int8(np.cumsum(rng.normal(0, scale, shape), 0), 120)


def tensors():
    rng = np.random.default_rng(0)
    sparse = int8(kernel((300, 333), 30))
    sparse[rng.random(sparse.shape) < 0.97] = 0
    wide = kernel((200, 250), 4000).round().clip(-32768, 32767)
    return {
        "4 bits": int8(kernel((500, 650), 2.0), 7),
        "8 bits": int8(kernel((400, 320), 30.0)),
        "convolution": int8(kernel((3, 3, 40, 200), 3.0), 7),
        "neighbours": walk((4000, 64), 3.0),
        "neighbours of few lanes": walk((300, 40), 3.0),
        "sparse": sparse,
        "16 bits": wide.astype("int16"),
        "16 bits of int32": wide.astype("int32"),
        "far from zero": wide.astype("int64") + 2**40,
        "unsigned": (wide + 32768).astype("uint16"),
        "not a whole row": int8(rng.laplace(0, 3, 70_001)),
        "remaining channels": int8(kernel((5000, 72), 2.0), 7),
        "transposed": int8(kernel((72, 5000), 2.0, 1), 7).T.copy(),
        "booleans": rng.random((90, 500)) < 0.1,
    }


@pytest.mark.parametrize("name", tensors())
def test_kernels_and_reference_agree(name, monkeypatch):
    array = tensors()[name]
    data = encode_both(array, CODEC, monkeypatch)
    check_decoders(data, array)


def test_the_tensors_above_use_everything():
    streams = [
        CODEC.parse(CODEC.encode(a), a.shape, a.dtype).stream
        for a in tensors().values()
    ]
    lanes = {s.layout.lanes for s in streams}
    assert 32 in lanes and len(lanes) > 2
    assert any(s.contexts.neighbour and s.layout.lanes == 32 for s in streams)
    assert any(s.contexts.scale.classes > 4 for s in streams)
    assert any(s.escape < 256 and s.layout.lanes == 32 for s in streams)
    assert any(s.shift for s in streams)
    assert any(len(s.states) > 2 for s in streams)
    assert {s.layout.view for s in streams} >= {"flat", "matrix", "convolution"}


@pytest.mark.parametrize("states", [4, 8, 32, 128, 256])
@pytest.mark.parametrize(
    "shape, geometry, chains",
    [
        ((1000, 100), "matrix", 32),
        ((3, 3, 16, 40), "convolution", 8),
        ((90, 70), "matrix_transposed", 32),
        ((1500, 48), "matrix", 32),
    ],
)
def test_trellis(states, shape, geometry, chains, monkeypatch):
    trellis = Trellis(states, geometry, chains)
    levels = (kernel(shape, 1.5)).round().astype("int32")
    codes = trellis_codes(levels, trellis)
    codec = ClassRans(trellis=trellis)
    data = encode_both(codes, codec, monkeypatch)
    assert check_decoders(data, codes).contexts.states == states


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_random_models(data):
    draw = data.draw
    rows, channels = draw(st.integers(1, 60)), draw(st.integers(1, 130))
    scale = draw(st.floats(0.2, 3000))
    seed = draw(st.integers(0, 1000))
    array = kernel((rows, channels), scale, seed)
    if draw(st.booleans()):
        array = np.cumsum(array, draw(st.integers(0, 1)))
    array = array.round().clip(-32000, 32000).astype("int32")
    array[
        np.random.default_rng(seed).random(array.shape)
        < draw(st.sampled_from([0, 0.5, 0.95]))
    ] = 0
    with pytest.MonkeyPatch.context() as patch:
        check_decoders(encode_both(array, CODEC, patch), array)


@pytest.mark.parametrize("number", range(6))
def test_damaged_streams_fare_the_same(number):
    data, array = damaged_streams()[number]
    rng = np.random.default_rng(number)
    for _ in range(10):
        hostile = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 3)):
            hostile[place] = rng.integers(256)
        try:
            parsed = CODEC.parse(bytes(hostile), array.shape, array.dtype)
        except CorruptArtifactError:
            continue
        if parsed.stream is None:
            continue
        ((_, whole),) = decode_blocks([parsed.stream])
        for isa in isas():
            (out,) = class_rans_native.decode(
                [parsed.stream], [array.dtype], [parsed.origin], isa
            )
            assert (out is not None) == whole


def test_words_end_where_memory_ends():
    """Kernels that read ahead must stop before the end of the words."""
    array = int8(kernel((64, 3200), 2.0), 7)
    data = CODEC.encode(array)
    stream = CODEC.parse(data, array.shape, "int8").stream
    ends = stream.ends
    assert ends[-1] == stream.words.size
    for isa in isas():
        (out,) = class_rans_native.decode([stream], [array.dtype], [-7], isa)
        assert out is not None


@pytest.mark.slow
def test_more_than_two_to_the_31_bits():
    rng = np.random.default_rng(0)
    piece = rng.integers(-128, 128, 1 << 20, dtype=np.int8)
    array = np.tile(piece, 280).reshape(280 * 1024, 1024)
    array[-1, -1] = 77
    data = CODEC.encode(array)
    assert 8 * len(data) > 1 << 31
    out = CODEC.decode(data, array.shape, "int8")
    assert (out == array).all()


def test_tables_are_expanded_as_in_numpy():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(4096, rng.dirichlet(np.full(200, 0.1)), 9)
    out = class_rans_table.expand(counts)
    assert (out == class_rans_table.expand_reference(counts)).all()


def test_kernels_multiply_as_they_go():
    assert ClassRans().decodes_scaled is class_rans_native.available()


@pytest.mark.parametrize("contexts", ["none", "neighbours", "trellis"])
def test_floats_written_past_the_caches(contexts):
    """Many rows of whole lines, in several blocks."""
    array, trellis = int8(kernel((2500, 128), 1.5), 7), None
    if contexts == "neighbours":
        array = walk((2500, 128), 3.0)
    elif contexts == "trellis":
        trellis = Trellis(8, "matrix", 32)
        array = trellis_codes(array.astype("int32"), trellis)
    parsed = CODEC.parse(
        ClassRans(trellis).encode(array), array.shape, array.dtype
    )
    assert len(parsed.stream.states) > 1
    scale = np.linspace(0.1, 1, parsed.stream.layout.channels, dtype="float32")
    out = np.zeros(array.size + 16, "float32")
    for skipped in (0, -out.ctypes.data % 64 // 4):
        part = out[skipped : skipped + array.size]
        for isa in isas():
            part[:] = np.nan
            matrix = class_rans_native.decode_float(
                parsed.stream, parsed.origin, scale, isa, part
            )
            assert np.shares_memory(matrix, part)
            wanted = array.reshape(matrix.shape).astype("float32") * scale
            assert (matrix == wanted).all()
