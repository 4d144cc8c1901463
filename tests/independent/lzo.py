"""One LZO1X stream, from https://docs.kernel.org/staging/lzo.html alone."""


def decompress(data):
    out, place, state = bytearray(), 0, 0

    def byte():
        nonlocal place
        place += 1
        return data[place - 1]

    def long(short, most):
        """A length that goes on in further bytes if its bits are zero."""
        if short:
            return short
        zeros = 0
        while not (more := byte()):
            zeros += 1
        return most + 255 * zeros + more

    def literals(count):
        nonlocal place, out
        out += data[place : place + count]
        place += count

    if data[0] > 17:
        count = byte() - 17
        literals(count)
        state = min(count, 4)
    while True:
        code = byte()
        if code < 16 and state == 0:
            literals(long(code, 15) + 3)
            state = 4
            continue
        if code < 16:
            distance = (byte() << 2) + (code >> 2) + (2049 if state == 4 else 1)
            size, state = 3 if state == 4 else 2, code & 3
        elif code >= 64:
            size, state = (code >> 5) + 1, code & 3
            distance = (byte() << 3) + (code >> 2 & 7) + 1
        else:
            few = 31 if code >= 32 else 7
            size = long(code & few, few) + 2
            more = byte() | byte() << 8
            distance, state = more >> 2, more & 3
            if code < 32:
                distance += (code & 8) << 11
                if distance == 0:
                    assert place == len(data)
                    return bytes(out)
                distance += 16383
            distance += 1
        for _ in range(size):
            out.append(out[-distance])
        literals(state)
