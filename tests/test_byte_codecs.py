import subprocess
import sys

import numpy as np
import pytest

from keras_squeeze.codecs.brotli import Brotli
from keras_squeeze.codecs.byte_codec import ByteCodec
from keras_squeeze.codecs.byte_cursor import varint
from keras_squeeze.codecs.bzip2 import Bzip2
from keras_squeeze.codecs.lz4 import Lz4
from keras_squeeze.codecs.lzo import Lzo
from keras_squeeze.codecs.lzw import Lzw
from keras_squeeze.codecs.snappy import Snappy
from keras_squeeze.codecs.xz import Xz
from keras_squeeze.codecs.zstd import Zstd
from keras_squeeze.errors import CorruptArtifactError, SqueezeError
from keras_squeeze.testing import check_codec

ALL = [Brotli, Bzip2, Lz4, Lzo, Lzw, Snappy, Xz, Zstd]


@pytest.fixture(params=ALL, ids=lambda codec_class: codec_class.id)
def codec_class(request):
    if not request.param.is_available():
        pytest.skip(f"{request.param.library} is not installed")
    return request.param


def odd_arrays():
    rng = np.random.default_rng(0)
    return [
        rng.normal(0, 1, (5, 6)).astype("float32"),
        rng.integers(-99, 99, 700).astype("int16"),
        np.zeros((40, 30), "int8"),
        np.zeros((3, 0)),
        np.array(True),
        np.frombuffer(rng.bytes(48), "complex64"),
    ]


@pytest.mark.parametrize("shuffle", [False, True])
def test_keeps_the_contract_of_codecs(codec_class, shuffle):
    check_codec(codec_class(shuffle=shuffle), odd_arrays())


def test_a_bomb_is_not_expanded(codec_class):
    codec = codec_class()
    bomb = codec.encode(np.zeros(1 << 22, "int8"))
    for size in (1, 100):
        with pytest.raises(CorruptArtifactError, match="Received"):
            codec.decode(bomb, (size,), "int8")


def test_fewer_bytes_than_declared_are_refused(codec_class):
    codec = codec_class()
    data = codec.encode(np.arange(50, dtype="uint8"))
    for size in (0, 49, 51, 1000):
        with pytest.raises(CorruptArtifactError, match="Received"):
            codec.decode(data, (size,), "uint8")
    with pytest.raises(CorruptArtifactError, match="Received"):
        codec.decode(b"", (50,), "uint8")


def test_random_bytes_are_refused(codec_class):
    rng = np.random.default_rng(1)
    for size in (1, 3, 30, 300):
        with pytest.raises(CorruptArtifactError, match="Received"):
            codec_class().decode(rng.bytes(size), (10_000,), "uint8")


def test_repetition_shrinks(codec_class):
    rows = np.tile(np.arange(200, dtype="int32"), 200)
    assert len(codec_class().encode(rows)) < rows.nbytes / 4


def test_shuffle_puts_the_bytes_of_floats_in_planes(codec_class):
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.01, 20_000).astype("float32")
    plain = len(codec_class().encode(weights))
    assert len(codec_class(shuffle=True).encode(weights)) <= plain


@pytest.mark.parametrize("level", [-1, 99, 1.5, "9"])
def test_a_level_that_does_not_exist_is_refused(level):
    with pytest.raises(SqueezeError, match=r"expected a level in 0\.\.9"):
        Xz(level=level)


def test_levels_and_shuffle_stand_in_the_config():
    assert Zstd().get_config() == {"id": "zstd", "level": 19}
    assert Snappy(shuffle=True).get_config() == {
        "id": "snappy",
        "shuffle": True,
    }
    assert repr(Bzip2(level=1)) == "Bzip2(level=1)"
    assert Lz4(level=0) != Lz4()


def test_the_levels_trade_speed_for_size():
    if not Lz4.is_available():
        pytest.skip("cramjam is not installed")
    codes = np.random.default_rng(0).normal(0, 2, 50_000).astype("int8")
    for quick, thorough in ((Lz4(0), Lz4(12)), (Zstd(1), Zstd(19))):
        assert len(thorough.encode(codes)) < len(quick.encode(codes))


class Absent(ByteCodec):
    id = "absent"
    library = "a_library_that_nobody_wrote"

    def _compress(self, plain):
        return self._import().compress(plain)

    def _decompress(self, data, size):
        return self._import().decompress(data)


def test_a_missing_library_is_named_with_its_extra():
    assert not Absent.is_available()
    for call in (
        lambda: Absent().encode(np.ones(3)),
        lambda: Absent().decode(b"x", (3,), "int8"),
    ):
        with pytest.raises(SqueezeError, match=r"keras_squeeze\[codecs\]"):
            call()


def test_importing_the_codecs_imports_no_library():
    modules = ["brotli", "bzip2", "lz4", "lzo", "lzw", "snappy", "xz", "zstd"]
    code = "".join(f"import keras_squeeze.codecs.{m};" for m in modules)
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code} import sys;"
            "print({'cramjam', 'lzallright'} & set(sys.modules))",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.stdout.strip() == "set()", child.stderr


def test_lzo_blocks_are_bounded():
    if not Lzo.is_available():
        pytest.skip("lzallright is not installed")
    data = Lzo().encode(np.zeros(200_000, "int8"))
    assert (Lzo().decode(data, (200_000,), "int8") == 0).all()
    # A block longer than any encoder makes is not even looked at.
    with pytest.raises(CorruptArtifactError, match="at most 173"):
        Lzo().decode(varint(5000) + bytes(5000), (100,), "int8")


def test_the_documented_layout_of_lzw():
    # "aaab": a, the string in the making (aa), b in 8, 9 and 9 bits.
    data = Lzw().encode(np.frombuffer(b"aaab", "uint8"))
    bits = f"{97:08b}{256:09b}{98:09b}" + "0" * 6
    assert data == int(bits, 2).to_bytes(4, "big")


def test_lzw_goes_on_when_its_dictionary_is_full():
    noise = np.random.default_rng(0).integers(0, 255, 200_000).astype("uint8")
    data = Lzw().encode(noise)
    assert len(data) > 65536 * 2
    assert (Lzw().decode(data, noise.shape, "uint8") == noise).all()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([(97, 8), (300, 9)], "a code of the dictionary"),
        ([(97, 8), (257, 9)], "a code of the dictionary"),
        ([(97, 8), (256, 9), (257, 9)], "exactly 4 bytes"),
    ],
)
def test_lzw_codes_that_stand_for_nothing(codes, message):
    bits = "".join(f"{code:0{width}b}" for code, width in codes)
    bits += "0" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    with pytest.raises(CorruptArtifactError, match=message):
        Lzw().decode(data, (4,), "uint8")
