"""Reads a data folder with nothing but storage/FORMAT.md in hand.

Written from that page and not from the program, so that it fails when the two part ways. It checks what the page
tells a reader to check, keeps to no bound on memory, and takes the folder as it lies: nothing may write to it.
"""

import json
import os
import re
import struct

import lz4.block

ABSENT = 0x7FF4000000000A5E
STALE = 0x7FF0000000000002
M64 = (1 << 64) - 1
SPECIALS = {0: ABSENT, 1: STALE, 2: 0x7FF8000000000001, 3: 0x7FF0000000000000, 4: 0xFFF0000000000000, 5: 1 << 63}


class Damaged(Exception):
    pass


def must(true, what):
    if not true:
        raise Damaged(what)


def crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


CRC_TABLE = crc_table()


def crc32c(data):
    c = 0xFFFFFFFF
    for b in data:
        c = c >> 8 ^ CRC_TABLE[(c ^ b) & 255]
    return c ^ 0xFFFFFFFF


def signed(v):
    return v - (1 << 64) if v >> 63 else v


def wrap(v):
    return signed(v & M64)


def bits_of(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def value_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def order(bits):
    return signed(bits ^ (M64 >> 1) if bits >> 63 else bits)


def back(ordered):
    return ordered & M64 if ordered >= 0 else (ordered & M64) ^ (M64 >> 1)


class Bytes:
    """A place in bytes. Whoever reads past the end reads damage."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        must(self.left() >= n, "bytes missing")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def u8(self):
        return self.number(1)

    def u32(self):
        return self.number(4)

    def u64(self):
        return self.number(8)

    def i64(self):
        return signed(self.number(8))

    def uvarint(self):
        v = 0
        for shift in range(0, 70, 7):
            b = self.u8()
            v |= (b & 127) << shift
            if b < 128:
                must(v <= M64, "uvarint beyond 64 bits")
                return v
        raise Damaged("uvarint too long")

    def varint(self):
        v = self.uvarint()
        return v >> 1 ^ -(v & 1)

    def text(self):
        return self.take(self.uvarint()).decode()


class Bits:
    def __init__(self, data):
        self.v, self.at, self.end = int.from_bytes(data, "little"), 0, 8 * len(data)

    def take(self, n):
        must(self.at + n <= self.end, "bits missing")
        self.at += n
        return self.v >> self.at - n & (1 << n) - 1


# ---- integer streams and chunks -------------------------------------------------------------------------------


def stream_block(b, k):
    head = b.u8()
    width, base = head & 127, b.varint()
    must(width <= 64, "width")
    exceptions = {}
    if head & 128:
        count = b.u8()
        must(1 <= count <= k, "exceptions")
        places = [b.u8() for _ in range(count)]
        exceptions = {p: b.varint() for p in places}
        must(max(places) < k, "place of an exception")
    bits = Bits(b.take((k * width + 7) // 8))
    values = [wrap(base + bits.take(width)) for _ in range(k)]
    for place, more in exceptions.items():
        values[place] = wrap(base + more)
    return values


def stream(b, n):
    must(n >= 1, "an empty stream")
    head = b.u8()
    transform, zeros = head & 3, head >> 3 & 1
    must(transform < 3 and head < 16, "head of a stream")
    divisor = b.uvarint() if head & 4 else 1
    first = b.varint()
    second = transform == 2 and n >= 2
    slope = b.varint() if second else 0
    count = n - 1 - (1 if second else 0)
    coded = [0] * count if zeros else []
    while len(coded) < count:
        left = count - len(coded)
        coded += stream_block(b, 128 if left > 192 else left)
    x = [0]
    if second:
        x.append(slope)
    for c in coded:
        if transform == 0:
            x.append(c)
        elif transform == 1:
            x.append(wrap(x[-1] + c))
        else:
            slope = wrap(slope + c)
            x.append(wrap(x[-1] + slope))
    return [wrap(first + v * divisor) for v in x]


def decimal(q, e):
    return bits_of(float(q) / 10.0**e if e else float(q))


def xor_numbers(b, n):
    values = [b.u64()]
    bits = Bits(b.take(b.left()))
    lead, length = 0, 64
    while len(values) < n:
        if not bits.take(1):
            values.append(values[-1])
            continue
        if bits.take(1):
            lead, length = bits.take(6), bits.take(6) + 1
            must(lead + length <= 64, "window")
        values.append(values[-1] ^ bits.take(length) << 64 - lead - length)
    return values


def rd_numbers(b, n):
    r, f = b.u8(), b.u8()
    others, f = f >> 7, f & 127
    fronts = [b.number(2) for _ in range(f)]
    wide = (f + others - 1).bit_length()
    bits = Bits(b.take(b.left()))
    values = []
    for _ in range(n):
        i = bits.take(wide)
        front = fronts[i] if i < f else bits.take(64 - r)
        values.append(front << r | bits.take(r))
    return values


def numbers(b, kind, n):
    """The bits of the n numbers of a chunk that are as its kind says."""
    if kind in (1, 2, 3) and n == 0:
        b.u8()
        return []
    if kind == 1:
        e = b.u8()
        return [decimal(b.varint(), e)] * n
    if kind == 2:
        e = b.u8()
        return [decimal(q, e) for q in stream(b, n)]
    if kind == 3:
        e = b.u8()
        return [back(wrap(order(decimal(q, e)) + d)) for q, d in zip(stream(b, n), stream(b, n))]
    if kind == 4:
        return [back(o) for o in stream(b, n)]
    must(kind in (5, 6), "kind of a chunk")
    return xor_numbers(b, n) if kind == 5 else rd_numbers(b, n)


def special_rows(b, n):
    if b.u8():
        bitmap = int.from_bytes(b.take((n + 7) // 8), "little")
        return [i for i in range(n) if bitmap >> i & 1]
    rows, at = [], 0
    for _ in range(b.uvarint()):
        at += b.uvarint()
        length = b.uvarint() + 1
        rows += range(at, at + length)
        at += length
    must(not rows or rows[-1] < n, "row of a special")
    return rows


def chunk(data, n):
    """Bits of n rows."""
    b = Bytes(data)
    head = b.u8()
    kind = head & 15
    must(head < 64, "head of a chunk")
    if kind == 0:
        must(head == 0, "a constant with more")
        values = [b.u64()] * n
        must(b.left() == 0, "bytes left over")
        return values
    values = [None] * n
    if head & 16:
        for _ in range(b.u8()):
            code = b.u8()
            bits = b.u64() if code == 6 else SPECIALS[code]
            for row in special_rows(b, n):
                values[row] = bits
    free = [i for i in range(n) if values[i] is None]
    if free:
        odd = {}
        if head & 32:
            places, at = [], 0
            for _ in range(b.uvarint()):
                at += b.uvarint()
                places.append(at)
            odd = {p: b.u64() for p in places}
        plain = iter(numbers(b, kind, len(free) - len(odd)))
        for i, row in enumerate(free):
            values[row] = odd[i] if i in odd else next(plain)
    must(b.left() == 0, "bytes left over")
    return values


# ---- page files -----------------------------------------------------------------------------------------------


class PageFile:
    def __init__(self, path, magic, ulid):
        with open(path, "rb") as f:
            self.data = f.read()
        b = Bytes(self.data)
        must(b.take(8) == magic and b.u32() == 1 and b.u32() == crc32c(self.data[:12]), "header")
        foot = Bytes(self.data, len(self.data) - 32)
        root, length, zero, version = foot.u64(), foot.u32(), foot.u32(), foot.u32()
        must(foot.u32() == crc32c(self.data[-32:-12]) and foot.take(8) == magic and (zero, version) == (0, 1), "footer")
        must(root + length + 32 == len(self.data), "root and footer end the file")
        b = Bytes(self.page(root, 0xFF))
        must(b.take(b.u32()).decode() == ulid, "another block's file")
        self.items, self.entries = [], []
        for tree in range(8):
            items, n, direct = b.u64(), b.u32(), b.u32()
            entries = [(b.u64(), b.u64()) for _ in range(n)]
            if not direct:
                entries = [e for _, at in entries for e in self.directory(at, tree)]
            firsts = [first for first, _ in entries]
            must(firsts == sorted(set(firsts)) and (not firsts or firsts[0] == 0) and bool(firsts) == bool(items), "order of pages")
            self.items.append(items)
            self.entries.append(entries)

    def directory(self, at, tree):
        b = Bytes(self.page(at, 0xF0 + tree))
        must(b.left() % 16 == 0 and b.left() <= 512 * 16, "directory")
        return [(b.u64(), b.u64()) for _ in range(b.left() // 16)]

    def page(self, at, tree):
        b = Bytes(self.data, at)
        packed, of, zero, length, stored, crc = b.u8(), b.u8(), b.number(2), b.u32(), b.u32(), b.u32()
        body = b.take(stored)
        must((of, zero) == (tree, 0) and packed < 2, "page of another tree")
        must(crc == crc32c(struct.pack("<Q", at) + self.data[at:at + 12] + body), "checksum of a page")
        return lz4.block.decompress(body, uncompressed_size=length) if packed else body

    def pages(self, tree):
        """Each page of a tree, with how many items it holds."""
        entries = self.entries[tree]
        for i, (first, at) in enumerate(entries):
            end = entries[i + 1][0] if i + 1 < len(entries) else self.items[tree]
            yield Bytes(self.page(at, tree)), end - first


# ---- blocks ---------------------------------------------------------------------------------------------------


class Block:
    def __init__(self, folder):
        with open(os.path.join(folder, "meta.json"), "rb") as f:
            text = f.read()
        digits = re.search(rb'"crc32c": "([0-9a-f]{8})', text)
        zeroed = text[:digits.start(1)] + b"0" * 8 + text[digits.end(1):]
        must(crc32c(zeroed) == int(digits[1], 16), "checksum of meta.json")
        self.meta = json.loads(text)
        must(self.meta["version"] == 1 and self.meta["narthex"]["format"] == 1, "a block of samples")
        ulid = self.meta["ulid"]
        must(os.path.basename(folder) == ulid, "name of a block")
        self.index = PageFile(os.path.join(folder, "index"), b"NXindex\n", ulid)
        self.chunks = PageFile(os.path.join(folder, "chunks"), b"NXchunk\n", ulid)
        self.deleted = tombstones(os.path.join(folder, "tombstones"), ulid)

    def names(self):
        """(name, number of its first value), in order."""
        found = []
        for b, n in self.index.pages(0):
            at = b.uvarint()
            for _ in range(n):
                found.append((b.text(), at))
                at += b.uvarint()
            must(b.left() == 0, "bytes left over")
        return found

    def values(self):
        found = []
        for b, n in self.index.pages(1):
            before = b""
            for _ in range(n):
                shared = b.uvarint()
                before = before[:shared] + b.take(b.uvarint())
                found.append(before.decode())
            must(b.left() == 0, "bytes left over")
        return found

    def lists(self):
        """For each value the numbers of the series that have it."""
        for page, n in self.index.pages(2):
            for _ in range(n):
                b = Bytes(page.take(page.uvarint()))
                head = b.uvarint()
                members, at = [], 0
                while len(members) < head >> 1:
                    at += b.uvarint()
                    length = b.uvarint() + 1 if head & 1 else 1
                    members += range(at, at + length)
                    at += length
                must(len(members) == head >> 1 and b.left() == 0, "list")
                yield members
            must(page.left() == 0, "bytes left over")

    def spans(self):
        found = []
        for b, n in self.index.pages(4):
            for _ in range(n):
                first = b.varint()
                found.append((first, first + b.uvarint()))
        return found

    def series(self):
        """(labels, number of the first chunk, number of chunks, span), in order."""
        names, values, spans = self.names(), self.values(), self.spans()
        for b, n in self.index.pages(3):
            first, pairs, span = b.uvarint(), [], 0
            for _ in range(n):
                head = b.uvarint()
                shared, before = head >> 1, pairs
                if head & 1:
                    more = b.uvarint()
                    pairs = before[:shared] + [(b.uvarint(), b.uvarint()) for _ in range(more)]
                else:
                    pairs = before[:shared] + [(name, b.uvarint()) for name, _ in before[shared:]]
                head = b.uvarint()
                if head & 1:
                    span = b.uvarint()
                count = (head >> 1) + 1
                yield tuple((names[i][0], values[names[i][1] + v]) for i, v in pairs), first, count, spans[span]
                first += count
            must(b.left() == 0, "bytes left over")

    def vectors(self):
        found = []
        for page, n in self.chunks.pages(1):
            for _ in range(n):
                rows = page.uvarint()
                b = Bytes(page.take(page.uvarint()))
                times = stream(b, rows)
                must(b.left() == 0 and all(x < y for x, y in zip(times, times[1:])), "timestamps")
                found.append(times)
        return found

    def all_chunks(self):
        """(times, bits) of each chunk, with what is absent left out."""
        vectors = self.vectors()
        for b, n in self.chunks.pages(0):
            must(b.uvarint() == n, "number of chunks")
            lengths = [b.uvarint() for _ in range(n)]
            vector, of = 0, []
            for _ in range(n):
                vector += b.varint()
                of.append(vector)
            firsts = [b.uvarint() for _ in range(n)]
            missing = [b.uvarint() for _ in range(n)]
            for i in range(n):
                times = vectors[of[i]][firsts[i]:len(vectors[of[i]]) - missing[i]]
                bits = chunk(b.take(lengths[i]), len(times))
                must(bits[0] != ABSENT and bits[-1] != ABSENT, "a chunk begins and ends with a sample")
                yield [(t, v) for t, v in zip(times, bits) if v != ABSENT]
            must(b.left() == 0, "bytes left over")

    def samples(self):
        """{labels: [(time, bits)]} without what is deleted. Checks that index and counts agree with it."""
        chunks, found, at, count = list(self.all_chunks()), {}, 0, 0
        members = list(self.lists())
        values = [(name, v) for (name, first), (_, end) in zip(self.names(), self.names()[1:] + [("", len(members))])
                  for v in self.values()[first:end]]
        having = dict(zip(values, members))
        numbered = list(self.series())
        for i, (labels, first, n, span) in enumerate(numbered):
            must(first == at, "chunks follow one another")
            at += n
            got = [p for c in chunks[first:at] for p in c]
            must((got[0][0], got[-1][0]) == span and all(x[0] < y[0] for x, y in zip(got, got[1:])), "span of a series")
            must(self.meta["minTime"] <= span[0] and span[1] < self.meta["maxTime"], "times of a block")
            count += len(got)
            gone = self.deleted.get(i, ())
            found[labels] = [p for p in got if not any(a <= p[0] <= z for a, z in gone)]
        for pair, have in having.items():
            must(have == [i for i, (labels, *_) in enumerate(numbered) if pair in labels], f"list of {pair}")
        stats = self.meta["stats"]
        must((stats["numSamples"], stats["numSeries"], stats["numChunks"]) == (count, len(numbered), len(chunks)) and at == len(chunks), "counts")
        return found


def read_spans(b, before):
    n = b.uvarint()
    if n == 0:
        return before
    spans, last = [], None
    for i in range(n):
        first = b.varint() if i == 0 else last + 2 + b.uvarint()
        last = first + b.uvarint()
        spans.append((first, last))
    return spans


def tombstones(path, ulid):
    """{number of a series: [(first, last)]}"""
    if not os.path.exists(path):
        return {}
    with open(path, "rb") as f:
        data = f.read()
    must(crc32c(data[:-4]) == int.from_bytes(data[-4:], "little"), "checksum of tombstones")
    b = Bytes(data[:-4])
    must(b.take(8) == b"NXtombs\n" and b.u32() == 1 and b.take(26).decode() == ulid, "head of tombstones")
    found, at, spans = {}, 0, []
    for _ in range(b.uvarint()):
        at += b.uvarint()
        members = b.uvarint() + 1
        spans = read_spans(b, spans)
        found.update({i: spans for i in range(at, at + members)})
        at += members
    must(b.left() == 0, "bytes left over")
    return found


# ---- the head: chunk files and the log -------------------------------------------------------------------------


class Group:
    def __init__(self):
        self.bound = {}  # column: [(from row, labels)]
        self.rows = {}   # number: (time, {column: bits}), of the log
        self.seals = []  # (first, how many numbers, times, {column: bits of rows}), of chunk files
        self.next = None
        self.forget()

    def forget(self):
        """What a segment says of the group begins anew."""
        self.time, self.before, self.coders = 0, {}, {}

    def labels(self, column, row):
        """Whose a column is in a row: what was said last of the newest row up to it."""
        before = [bound for bound in self.bound.get(column, ()) if bound[0] <= row]
        return max(reversed(before), key=lambda bound: bound[0])[1] if before else None


def definitions(b, with_rows):
    """(number, first row or None, labels), each told against the one before."""
    before = []
    while b.left():
        number = b.uvarint()
        row = b.uvarint() if with_rows else None
        labels = []
        for i in range(b.uvarint()):
            how = b.u8()
            if how == 0:
                labels.append(before[i])
            elif how == 1:
                labels.append((before[i][0], b.text()))
            else:
                must(how == 2, "how a label is told")
                labels.append((b.text(), b.text()))
        must([n for n, _ in labels] == sorted({n for n, _ in labels}) and all(n and v for n, v in labels), "labels")
        yield number, row, tuple(labels)
        before = labels


def record_pages(entries, members, body, place):
    """(first member, the one behind the last, what each page says of lengths, and the page)"""
    for i, (first, at, length, crc) in enumerate(entries):
        end = entries[i + 1][0] if i + 1 < len(entries) else members
        lies = body[at:at + (length & 0x7FFFFFFF)]
        must(crc == crc32c(struct.pack("<Q", place + at) + lies), "checksum of a page")
        page = Bytes(lies)
        if length >> 31:
            size = page.uvarint()
            page = Bytes(lz4.block.decompress(page.take(page.left()), uncompressed_size=size))
        yield first, end, Bytes(page.take(page.uvarint())), page


def gone_records(path):
    """{(number of a file, place of a record in it)}"""
    if not os.path.exists(path):
        return set()
    with open(path, "rb") as f:
        data = f.read()
    must(crc32c(data[:-4]) == int.from_bytes(data[-4:], "little"), "checksum of gone")
    b = Bytes(data[:-4])
    must(b.take(4) == b"NXHG" and b.number(2) == 1 and b.number(2) == 0, "head of gone")
    found, number, at = set(), 0, 0
    for _ in range(b.uvarint()):
        more = b.uvarint()
        number, at = number + more, b.uvarint() + (0 if more else at)
        found.add((number, at))
    must(b.left() == 0, "bytes left over")
    return found


class Coder:
    """What packed rows keep of a column."""

    def __init__(self):
        self.history, self.width, self.digits = 8, 8, 0


class Head:
    def __init__(self, folder):
        self.groups, self.loose, self.floor = {}, [], -(1 << 63)
        files = os.path.join(folder, "head")
        self.stored = {}  # loose samples in chunk files: {labels: {time: bits}}
        gone = gone_records(os.path.join(files, "gone"))
        for name in sorted(os.listdir(files)) if os.path.isdir(files) else []:
            if re.fullmatch(r"\d{8}", name):
                self.chunk_file(os.path.join(files, name), int(name), gone)
        log = os.path.join(folder, "wal")
        for name in sorted(os.listdir(log)) if os.path.isdir(log) else []:
            if re.fullmatch(r"\d{8}", name):
                self.segment(os.path.join(log, name), int(name))

    def group(self, number):
        return self.groups.setdefault(number, Group())

    def columns(self, b, with_rows):
        group = self.group(b.uvarint())
        for column, row, labels in definitions(b, with_rows):
            group.bound.setdefault(column, []).append((row if with_rows else group.next, labels))

    # -- chunk files

    def chunk_file(self, path, number, gone):
        with open(path, "rb") as f:
            data = f.read()
        b = Bytes(data)
        must(b.take(4) == b"NXHC" and b.number(2) in (1, 2) and b.number(2) == 0 and b.u32() == number, "head of a chunk file")
        must(b.u32() == crc32c(data[:12]), "checksum of a chunk file")
        marks = [m.start() for m in re.finditer(b"NXHR\x03\0\0\0\0\0\0\0\0\0\0\0", data)]
        sure, series = marks[-1] if marks else 16, {}
        while b.left():
            at = b.at
            try:
                must(b.take(4) == b"NXHR", "magic of a record")
                kind, zero, head, body = b.u8(), b.number(3), b.u32(), b.u32()
                crc = b.u32()
                head = b.take(head)
                must(crc == crc32c(struct.pack("<Q", at) + data[at:at + 16] + head) and zero == 0, "checksum of a record")
                place = b.at
                body = b.take(body)
                if kind == 2:
                    self.seal(Bytes(head), body, place, data)
                elif kind == 1:
                    self.columns(self.columns_payload(Bytes(head)), with_rows=True)
                elif kind == 4:
                    series.update({n: labels for n, _, labels in definitions(self.columns_payload(Bytes(head)), with_rows=False)})
                elif kind == 5:
                    if (number, at) not in gone:
                        self.stored_samples(Bytes(head), body, place, series)
                else:
                    must(kind == 3 and not head and not body, "a mark")
            except Damaged:
                if at < sure:
                    raise
                break  # torn behind the last mark: the log has those rows

    @staticmethod
    def columns_payload(b):
        length = b.uvarint()
        rest = b.take(b.left())
        return Bytes(lz4.block.decompress(rest, uncompressed_size=length) if length else rest)

    def seal(self, b, body, place, data):
        group, first, covers, rows, flags = (b.uvarint() for _ in range(5))
        low = b.varint()
        high, columns, pages = low + b.uvarint(), b.uvarint(), b.uvarint()
        entries = [(b.u32(), b.u32(), b.u32(), b.u32()) for _ in range(pages)]
        times = Bytes(b.take(b.uvarint()))
        times = stream(times, rows)
        must((min(times), max(times)) == (low, high) and 1 <= rows <= covers and flags < 8, "times of a seal")
        if flags & 1:
            must(all(x < y for x, y in zip(times, times[1:])), "ascending times")
        found = {}
        for column, end, lengths, page in record_pages(entries, columns, body, place):
            for c in range(column, end):
                n = lengths.uvarint()
                if n:
                    found[c] = chunk(page.take(n), rows)
            must(page.left() == 0 and lengths.left() == 0, "bytes left over")
        self.group(group).seals.append((first, covers, times, found))

    def stored_samples(self, b, body, place, series):
        n, count, low = b.uvarint(), b.uvarint(), b.varint()
        high, pages = low + b.uvarint(), b.uvarint()
        entries = [(b.u32(), b.u32(), b.u32(), b.u32()) for _ in range(pages)]
        number, who, total = 0, [], []
        for _ in range(n):
            number += b.uvarint()
            first = low + b.uvarint()
            who.append((number, first, first + b.uvarint()))
        must(b.left() == 0 and n >= 1, "bytes left over")
        for entry, end, lengths, page in record_pages(entries, n, body, place):
            sizes = [(lengths.uvarint(), lengths.uvarint(), lengths.uvarint()) for _ in range(entry, end)]
            for (number, first, last), (rows, bytes_of_times, bytes_of_values) in zip(who[entry:end], sizes):
                b = Bytes(page.take(bytes_of_times))
                times = stream(b, rows)
                must(b.left() == 0 and (times[0], times[-1]) == (first, last) and all(x < y for x, y in zip(times, times[1:])), "times of an entry")
                total += times
                mine = self.stored.setdefault(series[number], {})
                for t, v in zip(times, chunk(page.take(bytes_of_values), rows)):
                    mine.setdefault(t, v)
            must(page.left() == 0 and lengths.left() == 0, "bytes left over")
        must((len(total), min(total), max(total)) == (count, low, high), "samples in all")

    # -- the log

    def segment(self, path, number):
        with open(path, "rb") as f:
            data = f.read()
        if len(data) < 20 or not any(data):
            return
        b = Bytes(data)
        must(b.take(4) == b"NXWL" and b.number(2) == 2 and b.number(2) == 0 and b.u32() == number, "head of a segment")
        b.u32()
        must(b.u32() == crc32c(data[:16]), "checksum of a segment")
        self.here, self.series, self.last = set(), {}, {}
        while b.left():
            at = b.at
            try:
                kind = b.u8()
                payload = b.take(b.uvarint())
                must(crc32c(data[at:b.at]) == b.u32(), "checksum of a frame")
            except Damaged:
                break  # torn
            p = Bytes(payload)
            if kind & 128:
                size = p.uvarint()
                p = Bytes(lz4.block.decompress(p.take(p.left()), uncompressed_size=size))
            {1: self.log_group, 8: self.log_columns, 9: self.log_row, 4: self.log_series, 5: self.log_samples,
             6: lambda _: None, 7: lambda _: None}[kind & 127](p)

    def log_group(self, b):
        number = b.uvarint()
        self.here.add(number)
        group = self.group(number)
        group.forget()
        group.next = b.uvarint()

    def log_columns(self, b):
        self.columns(b, with_rows=False)

    def log_row(self, b):
        number = b.uvarint()
        must(number in self.here, "a row of a group that the segment did not define")
        g = self.groups[number]
        g.time += b.varint()
        values = packed_row(b, g)
        row, g.next = g.next, g.next + 1
        g.before = values
        g.rows.setdefault(row, (g.time, values))

    def log_series(self, b):
        while b.left():
            number = b.uvarint()
            self.series[number] = tuple((b.text(), b.text()) for _ in range(b.uvarint()))
            self.last.pop(number, None)

    def log_samples(self, b):
        newest, step, n = b.varint(), b.varint(), b.uvarint()
        number, who = 0, []
        for i in range(n):
            head = b.uvarint()
            z = head >> 1
            number += (z >> 1 ^ -(z & 1)) + 1
            who.append((number, head & 1))
        at, times = newest, []
        for number, _ in who:
            more = b.varint()
            at = self.last[number][0] + step + more if number in self.last else at + more
            times.append(at)
        before = [self.last[number][1] if number in self.last else ABSENT for number, _ in who]
        values = plain_values(b, before)
        must(b.left() == 0, "bytes left over")
        for (number, late), t, v in zip(who, times, values):
            self.last[number] = (t, v)
            self.loose.append((self.series[number], t, v, late))

    # -- all together

    def samples(self):
        """{labels: {time: bits}}"""
        found = {}
        for g in self.groups.values():
            known = set()
            for first, covers, times, columns in g.seals:
                known.update(range(first, first + covers))
                for column, bits in columns.items():
                    labels = g.labels(column, first + covers - 1)
                    for t, v in zip(times, bits):
                        if v != ABSENT:
                            found.setdefault(labels, {})[t] = v
            for row, (t, values) in g.rows.items():
                for column, v in values.items() if row not in known else ():
                    labels = g.labels(column, row)
                    if v != ABSENT and labels:
                        found.setdefault(labels, {})[t] = v
        for labels, points in self.stored.items():
            for t, v in points.items():
                found.setdefault(labels, {}).setdefault(t, v)
        for labels, t, v, late in self.loose:
            if late or labels not in self.stored or t > max(self.stored[labels]):
                found.setdefault(labels, {}).setdefault(t, v)
        return found


def scaled(bits, digits):
    """A value, times 10^digits, as an integer."""
    v = value_of(bits)
    v *= 10.0**digits
    if not abs(v) < 2.0**53:
        return 0
    return int(v + 0.5 if v >= 0 else v - 0.5)


def unzigzag(v):
    return v >> 1 ^ -(v & 1)


def packed_row(b, g):
    n, quiet, at = b.uvarint(), set(), 0
    for _ in range(b.uvarint()):
        at += b.uvarint()
        quiet.add(at)
    bits, values = Bits(b.take(b.left())), {}
    for column in range(n):
        c = g.coders.setdefault(column, Coder())
        before = g.before.get(column, ABSENT)
        told = c.history == 15
        if c.history == 1:
            told = column in quiet
        elif c.history < 15:
            told = bool(bits.take(1))
        values[column] = packed_value(bits, c, before) if told else before
        if values[column] != before:
            c.history = 5 if c.history == 1 else 15 if c.history == 15 else c.history + 1
        else:
            c.history = 12 if c.history == 15 else 1 if c.history == 1 else c.history - 1
    return values


def difference(bits, width, c, before):
    z = bits.take(width)
    need = z.bit_length()
    c.width = need if need + 1 >= c.width else need + 4 if need + 4 < c.width else c.width - 1
    q = scaled(before, c.digits) + unzigzag(z)
    return decimal(q, c.digits)


def packed_xor(bits, c, before):
    lead, trail = bits.take(3), bits.take(3)
    must(lead + trail <= 7, "an XOR without bytes")
    c.width = c.width - 1 if c.digits == 15 and c.width > 0 else 32
    c.digits = 15
    return before ^ bits.take(64 - 8 * (lead + trail)) << 8 * trail


def packed_value(bits, c, before):
    if not bits.take(1):
        return packed_xor(bits, c, before) if c.digits == 15 else difference(bits, c.width, c, before)
    if not bits.take(1):
        must(c.digits < 15, "a difference in a column of XORs")
        return difference(bits, c.width + 3, c, before)
    how = bits.take(3)
    if how == 0:
        return difference(bits, bits.take(6) + 1, c, before)
    if how == 1:
        c.digits, c.width = bits.take(4), 0
        return difference(bits, bits.take(6) + 1, c, before)
    if how == 2:
        return packed_xor(bits, c, before)
    must(how in (3, 4), "how a value is told")
    return ABSENT if how == 3 else before


def plain_values(b, before):
    packed = b.take((len(before) + 3) // 4)
    values = []
    for i, was in enumerate(before):
        how = packed[i // 4] >> i % 4 * 2 & 3
        if how == 0:
            values.append(was)
        elif how == 1:
            values.append(decimal(scaled(was, 0) + b.varint(), 0))
        elif how == 3:
            values.append(ABSENT)
        else:
            form = b.u8()
            if form < 128:
                values.append(decimal(scaled(was, form) + b.varint(), form))
            else:
                lead, trail = form >> 3 & 7, form & 7
                values.append(was ^ b.number(8 - lead - trail) << 8 * trail)
    return values


# ---- a folder -------------------------------------------------------------------------------------------------


def folder_samples(folder):
    """({labels: {time: bits}} of all blocks and of what is in none, where how many samples came from)"""
    found, counts = {}, {}

    def add(part, source):
        for labels, points in part.items():
            points = dict(points)
            counts[source] = counts.get(source, 0) + len(points)
            mine = found.setdefault(labels, {})
            for t, bits in points.items():
                mine.setdefault(t, bits)

    for name in sorted(os.listdir(folder)):
        if re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", name):
            add(Block(os.path.join(folder, name)).samples(), "blocks")
    head = Head(folder)
    counts["seals"] = sum(len(times) for g in head.groups.values() for _, _, times, _ in g.seals)
    counts["rows"] = sum(len(g.rows) for g in head.groups.values())
    counts["loose"] = len(head.loose)
    counts["stored"] = sum(len(points) for points in head.stored.values())
    add(head.samples(), "head")
    return found, counts
