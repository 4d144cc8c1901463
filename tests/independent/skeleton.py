"""Finds the stream in a file, as docs/skeleton_format.md says."""

START = b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00"
GROUPS = "model_weights", "top_level_model_weights"


def number(data, place, size=8):
    return int.from_bytes(data[place : place + size], "little")


def messages(data, address):
    """The messages of an object header: type and body."""
    assert data[address : address + 5] == b"OHDR\x02"
    width = 1 << data[address + 5]
    start = address + 6 + width
    blocks = [(start, start + number(data, address + 6, width))]
    for place, end in blocks:
        while place < end:
            kind, size = data[place], number(data, place + 1, 2)
            body = data[place + 4 : place + 4 + size]
            place += 4 + size
            if kind == 0x10:
                first, size = number(body, 0), number(body, 8)
                assert data[first : first + 4] == b"OCHK"
                blocks.append((first + 4, first + size - 4))
            yield kind, body


def stream(data):
    assert data[:12] == START and number(data, 28) == len(data)
    address = number(data, 36)
    for name in (*GROUPS, "stream"):
        (link,) = (body for kind, body in messages(data, address) if kind == 6)
        assert link[3:-8] == name.encode()
        address = number(link, len(link) - 8)
    (layout,) = (body for kind, body in messages(data, address) if kind == 8)
    start, size = number(layout, 2), number(layout, 10)
    return data[start : start + size]
