"""When groups of rules are evaluated: a hash of file and name, modulo the interval, after each multiple of it.

Prometheus 2 makes the hash of other bytes than Prometheus 3 and Narthex do.
"""

P1, P2, P3, P4, P5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
ALL = 2**64 - 1


def rotate(x, n):
    return (x << n | x >> 64 - n) & ALL


def xxh64(data):
    """XXH64 of bytes, with seed 0."""
    def lane(acc, at):
        return rotate(acc + int.from_bytes(data[at:at + 8], "little") * P2 & ALL, 31) * P1 & ALL

    n, at = len(data), 0
    h = P5
    if n >= 32:
        v = [P1 + P2 & ALL, P2, 0, -P1 & ALL]
        while at <= n - 32:
            v = [lane(v[i], at + 8 * i) for i in range(4)]
            at += 32
        h = sum(rotate(v[i], r) for i, r in enumerate((1, 7, 12, 18))) & ALL
        for x in v:
            h = (h ^ rotate(x * P2 & ALL, 31) * P1 & ALL) * P1 + P4 & ALL
    h = h + n & ALL
    while at <= n - 8:
        h = rotate(h ^ lane(0, at), 27) * P1 + P4 & ALL
        at += 8
    if at <= n - 4:
        h = rotate(h ^ int.from_bytes(data[at:at + 4], "little") * P1 & ALL, 23) * P2 + P3 & ALL
        at += 4
    for byte in data[at:]:
        h = rotate(h ^ byte * P5 & ALL, 11) * P1 & ALL
    h = (h ^ h >> 33) * P2 & ALL
    h = (h ^ h >> 29) * P3 & ALL
    return h ^ h >> 32


def at_one_moment(file, name, interval, since=0, until=None):
    """The name with a number behind it, with which a group has the same moments in both, to half a millisecond;
    these lie from `since` to `until` seconds after multiples of the interval."""
    for k in range(1000000):
        words = [w.encode() for w in ("file", file, "name", f"{name} {k}")]
        two = xxh64(b"".join(w + b"\xff" for w in words))
        if not since <= two % (interval * 10**9) / 1e9 < (interval if until is None else until):
            continue
        three = xxh64(b"".join(bytes([len(w)]) + w for w in words))
        if two % (interval * 10**9) // 500000 == three % (interval * 10**9) // 500000:
            return words[3].decode()
