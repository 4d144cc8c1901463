"""Sources give exactly the bytes asked for, or say what is missing."""

import os
import threading

import pytest

from keras_squeeze.artifact import sources
from keras_squeeze.artifact.sources import (
    BytesSource,
    FileSource,
    SectionSource,
    chunks,
)
from keras_squeeze.errors import CorruptArtifactError, NotAnArtifactError

DATA = bytes(range(256)) * 4


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(DATA)
    return target


@pytest.fixture(params=["bytes", "file", "section", "without pread"])
def source(request, path, monkeypatch):
    if request.param == "without pread":
        monkeypatch.delattr(os, "pread", raising=False)
    made = {
        "bytes": lambda: BytesSource(DATA, "a.bin"),
        "section": lambda: SectionSource(
            BytesSource(b"before" + DATA + b"after", "a.bin"), 6, 6 + len(DATA)
        ),
    }.get(request.param, lambda: FileSource(path))()
    yield made
    made.close()


def test_ranges(source):
    assert source.size == len(DATA)
    assert source.name.endswith("a.bin")
    for start, stop in [(0, 0), (0, 1), (5, 300), (0, 1024), (1024, 1024)]:
        assert source.read(start, stop) == DATA[start:stop]
    assert b"".join(chunks(source, 100)) == DATA


@pytest.mark.parametrize("bounds", [(-1, 3), (3, 2), (0, 1025), (1 << 70,) * 2])
def test_ranges_that_are_not_there(source, bounds):
    with pytest.raises(CorruptArtifactError, match="Received: 1024 bytes"):
        source.read(*bounds)


def test_large_ranges_are_read_piece_by_piece(path, monkeypatch):
    monkeypatch.setattr(sources, "_MOST_AT_ONCE", 100)
    with FileSource(path) as source:
        assert source.read(1, 1000) == DATA[1:1000]


def test_threads_do_not_disturb_each_other(source):
    failed = []

    def check(place):
        for _ in range(50):
            if source.read(place, place + 64) != DATA[place : place + 64]:
                failed.append(place)

    threads = [threading.Thread(target=check, args=(64 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_file_that_became_shorter(path):
    with FileSource(path) as source:
        os.truncate(path, 100)
        with pytest.raises(CorruptArtifactError, match="when it was opened"):
            source.read(50, 200)


def test_a_closed_file_is_read_no_more(path):
    source = FileSource(path)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        source.read(0, 1)


def test_a_section_closes_what_it_is_a_part_of(path):
    file = FileSource(path)
    SectionSource(file, 1, 2).close()
    with pytest.raises(ValueError, match="closed"):
        file.read(0, 1)
    with pytest.raises(CorruptArtifactError):
        SectionSource(BytesSource(DATA, "a"), 0, 2000)


def test_what_is_no_regular_file(tmp_path):
    with pytest.raises(NotAnArtifactError, match="a folder"):
        FileSource(tmp_path)
    with pytest.raises(FileNotFoundError):
        FileSource(tmp_path / "absent")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAnArtifactError, match="a pipe"):
        FileSource(tmp_path / "pipe")
    with pytest.raises(NotAnArtifactError, match="a device"):
        FileSource("/dev/zero")
