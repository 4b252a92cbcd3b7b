"""The commands of `tsdb`, beside promtool's on a folder of Prometheus that holds the same samples."""

import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import pytest

import harness

START = 1_700_006_400_000  # ms; a multiple of two hours
ULID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="compares with the reference")


def values(rnd):
    """Numbers that are hard to print and to read back."""
    special = ["NaN", "+Inf", "-Inf", "0", "-0", "5e-324", "1.7976931348623157e+308", "1e-05", "0.0001", "999999", "1e+06", "123456789", "1e+21", "0.1"]
    while True:
        yield rnd.choice(special)
        yield repr(struct.unpack("<d", struct.pack("<Q", rnd.getrandbits(62)))[0])
        yield str(rnd.randrange(10**rnd.randrange(1, 17)))
        yield repr(round(rnd.uniform(-1000, 1000), rnd.randrange(6)))


def source():
    """OpenMetrics over three blocks: times to the millisecond, labels that need escapes, series that come and go."""
    rnd = random.Random(7)
    numbers = values(rnd)
    lines = []
    for name, n in (("requests_total", 30), ("temperature", 5), ("a:b_c", 3), ("Z_first", 2)):
        lines.append(f"# TYPE {name} unknown")
        for i in range(n):
            labels = [f'i="{i}"'] if i else []
            labels += ['Upper="caf\u00e9 \\\\ \\" \\n <&>\u2028\u00a0\t"', 'job="x"'][: i % 3]
            series = name + ("{" + ",".join(labels) + "}" if labels else "")
            at = START + rnd.randrange(17_000_000) * (i % 2)
            for _ in range(rnd.randrange(1, 120)):
                at += rnd.choice([1000, 15000, 15001, 60123, 1])
                lines.append(f"{series} {next(numbers)} {at // 1000}.{at % 1000:03}1")  # the last digit: promtool cuts
    return "\n".join(lines) + "\n# EOF\n"


class Folders:
    def __init__(self, root):
        self.root = str(root)
        self.source = self.path("in.om")
        with open(self.source, "w", encoding="utf-8", newline="") as f:
            f.write(source())
        self.tables = []
        self.ours = self.load(harness.BINARY, "ours")
        self.theirs = self.load(harness.PROMETHEUS, "theirs")

    def path(self, name):
        return os.path.join(self.root, name)

    def load(self, binary, name, text=None):
        folder = self.path(name)
        r = harness.run_tool(binary, "tsdb", "create-blocks-from", "openmetrics", text or self.source, folder)
        assert r.returncode == 0, r.stderr
        self.tables.append(r.stdout)
        if binary == harness.PROMETHEUS:
            os.makedirs(folder + "/wal", exist_ok=True)  # 2.42 wants one to dump
        return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return Folders(tmp_path_factory.mktemp("tsdb"))


def both(folders, *args, ours=(), theirs=()):
    a = harness.run_tool(harness.BINARY, "tsdb", *args, *(ours or [folders.ours]))
    b = harness.run_tool(harness.PROMETHEUS, "tsdb", *args, *(theirs or [folders.theirs]))
    return a, b


def shape(table):
    """A table of blocks without what may differ: names, sizes, and how many chunks the samples take."""
    return [re.sub(r"\d+( +\d+ +)\S+$", r"CHUNKS\1SIZE", ULID.sub("ULID", line)) for line in table.splitlines()]


def test_list_and_the_table_of_created_blocks(folders):
    assert shape(folders.tables[0]) == shape(folders.tables[1]) and len(shape(folders.tables[0])) == 4
    for flags in ([], ["-r"], ["--human-readable"]):
        a, b = both(folders, "list", *flags)
        assert a.returncode == b.returncode == 0 and shape(a.stdout) == shape(b.stdout)
    sizes = [int(line.split()[-1]) for line in harness.run_tool(harness.BINARY, "tsdb", "list", folders.ours).stdout.splitlines()[1:]]
    on_disk = [sum(os.path.getsize(os.path.join(folders.ours, d, f)) for f in os.listdir(os.path.join(folders.ours, d)))
               for d in sorted(os.listdir(folders.ours)) if ULID.fullmatch(d)]
    assert sorted(sizes) == sorted(on_disk)


@pytest.mark.parametrize("flags", [[], ["--match={job=\"x\"}"], ["--match=requests_total{i=~\"1.*\"}"], [f"--min-time={START + 100_000}"],
                                   [f"--max-time={START + 7_200_000}", f"--min-time={START + 7_100_000}"], ["--match={i=\"nothing\"}"], ["--match={__name__=~\".*\"}"],
                                   ["--min-time=0x10", "--max-time=0"]])
def test_dump(folders, flags):
    a, b = both(folders, "dump", *flags)
    assert (a.returncode, a.stderr) == (b.returncode, b.stderr) == (0, "")
    assert a.stdout == b.stdout
    if not flags:
        assert len(a.stdout.splitlines()) > 1000 and "NaN" in a.stdout


def test_dump_of_several_selectors_and_of_labels(folders):
    """What 3.x has on top of 2.42."""
    dump = harness.run_tool(harness.BINARY, "tsdb", "dump", folders.ours).stdout.splitlines()
    r = harness.run_tool(harness.BINARY, "tsdb", "dump", "--match=temperature", "--match={i=\"1\"}", folders.ours)
    assert r.stdout.splitlines() == [line for line in dump if '__name__="temperature"' in line or 'i="1"' in line]
    r = harness.run_tool(harness.BINARY, "tsdb", "dump", "--format=seriesjson", "--sandbox-dir-root=/nowhere", folders.ours)
    series = [json.loads(line) for line in r.stdout.splitlines()]
    assert len(series) == 40 and {"__name__": "Z_first"} in series
    assert "\\u003c\\u0026\\u003e\\u2028" in r.stdout and [list(s) for s in series] == [sorted(s) for s in series]
    r = harness.run_tool(harness.BINARY, "tsdb", "dump-openmetrics", "--match=Z_first", folders.ours)
    lines = r.stdout.splitlines()
    assert lines[-1] == "# EOF" and all(re.fullmatch(r'Z_first\{.*\} \S+ \d+\.\d{3}', line) for line in lines[:-1]) and len(lines) > 2


def sections(text):
    """The lists of `analyze`: sorted by number, equals in any order."""
    out = {}
    for part in text.split("\n\n"):
        title, *rows = part.rstrip("\n").split("\n")
        out[title] = rows
    return out


def counts(rows):
    return [row.split()[0] for row in rows if row[:1].isdigit()]  # a value with a line end in it goes on in the next


def test_analyze(folders):
    blocks = [[line.split()[0] for line in r.stdout.splitlines()[1:]] for r in both(folders, "list")]
    for i, (ours, theirs) in enumerate(zip(*blocks)):
        a, b = both(folders, "analyze", "--limit=1000", ours=[folders.ours, ours], theirs=[folders.theirs, theirs])
        assert a.returncode == b.returncode == 0
        a, b = ULID.sub("ULID", a.stdout), ULID.sub("ULID", b.stdout).replace("\nSeries: ", "\nTotal Series: ")
        a, b = sections(a), sections(b)
        assert list(a) == list(b)
        for title in a:
            assert sorted(a[title]) == sorted(b[title]), title
            if title.endswith(":"):
                assert counts(a[title]) == counts(b[title])
    a, b = both(folders, "analyze", "--limit=0")
    assert a.stdout.count("\n") == b.stdout.count("\n") and not any(rows for title, rows in sections(a.stdout).items() if title.endswith(":"))
    r = harness.run_tool(harness.BINARY, "tsdb", "analyze", "--match={job=\"x\"}", "--extended", folders.ours)
    assert "Matcher: {job=\"x\"}\n" in r.stdout and re.search(r"Matched series: [1-9]", r.stdout)
    assert re.search(r"samples per float chunk \(min/avg/max\): \d+/\d+/\d+\n\[ *\d+, *\d+\]: ", r.stdout), r.stdout
    assert r.stdout.endswith("buckets per histogram chunk: N/A\n\n")


def test_what_is_asked_wrongly(folders, tmp_path):
    empty = str(tmp_path / "empty")
    os.makedirs(empty)
    for args in (["dump", "/nowhere/at/all"], ["list", "/nowhere/at/all"], ["dump", "--match={x=", folders.ours], ["dump", "--min-time=x", folders.ours],
                 ["dump", "--min-time=1.5", folders.ours], ["dump", "--max-time=99999999999999999999", folders.ours], ["list", "a", "b"],
                 ["analyze", "/nowhere/at/all"], ["analyze", "--limit=x"], ["bench"], ["bench", "write", "/nowhere/at/all", "--out=" + str(tmp_path / "b")],
                 ["create-blocks-from"], ["create-blocks-from", "openmetrics"]):
        theirs = [folders.theirs if a == folders.ours else a for a in args]
        a, b = harness.run_tool(harness.BINARY, "tsdb", *args), harness.run_tool(harness.PROMETHEUS, "tsdb", *theirs)
        assert (a.returncode, a.stderr) == (b.returncode, re.sub(r"(?m)^level=.*\n", "", b.stderr)) and a.returncode == 1, args
    for args in (["analyze", empty], ["analyze", folders.ours, "bogus"], ["analyze", folders.ours, "01JGFJJZ00ABCDEFGHJKMNPQRS"]):
        r = harness.run_tool(harness.BINARY, "tsdb", *args)
        assert r.returncode == 1 and ("no blocks found" in r.stderr or "invalid block ID" in r.stderr)
    r = harness.run_tool(harness.BINARY, "tsdb", "dump", empty)
    assert (r.returncode, r.stdout) == (0, "") and os.listdir(empty) == []


def test_output_that_can_not_be_written(folders):
    for command in ("dump", "export"):
        with open("/dev/full", "w") as full:
            r = subprocess.run([harness.BINARY, "tsdb", command, folders.ours], stdout=full, stderr=subprocess.PIPE, text=True)
        assert r.returncode == 1 and "No space left" in r.stderr


def digest(folder):
    found = {}
    for at, dirs, files in os.walk(folder):
        found[at] = sorted(dirs)
        for name in files:
            with open(os.path.join(at, name), "rb") as f:
                found[os.path.join(at, name)] = (hashlib.sha256(f.read()).hexdigest(), os.stat(f.name).st_mtime_ns)
    return found


def test_a_folder_in_use(stage, folders):
    """Blocks and a log, under a server that scrapes; it stands still while bytes are compared."""
    data = os.path.join(stage.folder, "data")
    shutil.copytree(folders.ours, data)
    port = harness.free_port()
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [{"job_name": "self", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}
    server = stage.run(harness.Server(harness.BINARY, stage.folder, config, ["--storage.tsdb.retention.time=100y"], data=data, port=port))
    harness.wait_for("three scrapes", lambda: server.vector("count_over_time(up[1m])") and int(list(server.vector("count_over_time(up[1m])").values())[0]) >= 3)
    dump = harness.run_tool(harness.BINARY, "tsdb", "dump", "--match=up", data)
    assert dump.returncode == 0 and len(dump.stdout.splitlines()) >= 3, dump.stderr
    verified = harness.run_tool(harness.BINARY, "tsdb", "verify", "--json", data)
    assert verified.returncode == 0 and json.loads(verified.stdout)["blocks"] >= 3, verified.stdout
    server.send(signal.SIGSTOP)
    try:
        before = digest(data)
        for args in (["list"], ["analyze"], ["dump"], ["dump-openmetrics"], ["export", "-q"], ["verify"], ["dump", "--match=up"]):
            r = harness.run_tool(harness.BINARY, "tsdb", *args, data)
            assert r.returncode == 0 and r.stdout and not r.stderr, (args, r.stderr)
        assert digest(data) == before
        if os.getuid() == 0:  # as somebody who may not write there
            open_for_all = os.path.join(stage.folder, "copy")
            shutil.copytree(data, open_for_all)
            for at, dirs, files in os.walk(open_for_all):
                os.chmod(at, 0o555)
                for name in files:
                    os.chmod(os.path.join(at, name), 0o444)
            binary = os.path.join(stage.folder, "narthex")
            shutil.copy(harness.BINARY, binary)
            at = str(stage.folder)
            while at not in (tempfile.gettempdir(), "/"):
                os.chmod(at, os.stat(at).st_mode | 0o055)
                at = os.path.dirname(at)
            got = subprocess.run([binary, "tsdb", "dump", "--match=up", open_for_all], capture_output=True, text=True, user="nobody", group="nogroup", extra_groups=[])
            assert got.stdout == r.stdout and got.returncode == 0, got.stderr
    finally:
        server.send(signal.SIGCONT)
    assert r.stdout.startswith(dump.stdout)
    samples = [line.split()[-2:] for line in r.stdout.splitlines()]
    asked = server.query("up[10m]", time.time())["result"][0]["values"]
    assert [[v, str(round(t * 1000))] for t, v in asked][: len(samples)] == samples
    assert server.stop() == 0


def test_export_loads_into_prometheus_to_the_same_samples(folders):
    out = folders.path("out.om")
    r = harness.run_tool(harness.BINARY, "tsdb", "export", "-o", out, folders.ours)
    assert r.returncode == 0 and re.fullmatch(r"exported \d+ samples of 40 series, left out 0 stale markers\n", r.stderr), r.stderr
    with open(out, encoding="utf-8", newline="") as f:
        text = f.read()
    assert text.endswith("\n# EOF\n") and text.count("# TYPE ") == 4
    again = folders.load(harness.PROMETHEUS, "again", out)
    back = folders.load(harness.BINARY, "back", out)
    want = harness.run_tool(harness.PROMETHEUS, "tsdb", "dump", folders.theirs).stdout
    assert harness.run_tool(harness.PROMETHEUS, "tsdb", "dump", again).stdout == want
    assert harness.run_tool(harness.BINARY, "tsdb", "dump", back).stdout == want


def test_export_of_a_part_compressed_and_split(folders):
    whole = harness.run_tool(harness.BINARY, "tsdb", "export", "-q", folders.ours).stdout
    r = subprocess.run([harness.BINARY, "tsdb", "export", "--gzip", folders.ours], capture_output=True)
    assert gzip.decompress(r.stdout).decode() == whole
    parts = folders.path("part.om.gz")
    r = harness.run_tool(harness.BINARY, "tsdb", "export", "--split=2h", "-o", parts, folders.ours)
    assert r.returncode == 0, r.stderr
    names = sorted(n for n in os.listdir(folders.root) if n.startswith("part"))
    assert names[0] == "part-20231115T000000Z.om.gz" and len(names) == 3
    lines = []
    for name in names:
        with gzip.open(folders.path(name), "rt", encoding="utf-8", newline="\n") as f:
            lines += f.read().split("\n")
    assert sorted(line for line in lines if line and line[0] != "#") == sorted(line for line in whole.split("\n") if line and line[0] != "#")
    r = harness.run_tool(harness.BINARY, "tsdb", "export", "-q", "--match={i=\"2\"}", f"--max-time={START + 3600_000}", folders.ours)
    want = harness.run_tool(harness.BINARY, "tsdb", "dump", "--match={i=\"2\"}", f"--max-time={START + 3600_000}", folders.ours)
    assert len([line for line in r.stdout.split("\n") if line and line[0] != "#"]) == len(want.stdout.splitlines())


def test_names_of_any_characters_are_exported_as_3x_reads_them(folders):
    text = '# TYPE "na.me" unknown\n{"na.me","a b"="c\\n",d="\\\\"} 1.5 1600000000\n{"na.me",d="e"} 2 1600000000.500\n# EOF\n'
    path = folders.path("utf8.om")
    with open(path, "w") as f:
        f.write(text)
    r = harness.run_tool(harness.BINARY, "tsdb", "export", "-q", folders.load(harness.BINARY, "utf8", path))
    assert (r.returncode, r.stdout, r.stderr) == (0, text, "")


def test_every_millisecond_survives(folders):
    """Readers that cut after multiplying by 1000, and those that round."""
    text = folders.path("ms.om")
    with open(text, "w") as f:
        f.writelines(f"m {i} {1_700_000_000 + i // 1000}.{i % 1000:03}2\n" for i in range(2000))
        f.write("# EOF\n")
    ours = folders.load(harness.BINARY, "ms-ours", text)
    out = folders.path("ms-out.om")
    assert harness.run_tool(harness.BINARY, "tsdb", "export", "-qo", out, ours).returncode == 0
    with open(out) as f:
        stamps = [line.split()[-1] for line in f if line[0] != "#"]
    assert [int(float(s) * 1000) for s in stamps] == [round(float(s) * 1000) for s in stamps] == [1_700_000_000_000 + i for i in range(2000)]
    theirs = folders.load(harness.PROMETHEUS, "ms-theirs", out)
    a, b = harness.run_tool(harness.BINARY, "tsdb", "dump", ours), harness.run_tool(harness.PROMETHEUS, "tsdb", "dump", theirs)
    assert a.stdout == b.stdout and len(a.stdout.splitlines()) == 2000


def test_flags_between_the_words_and_input_from_a_pipe(folders):
    whole = harness.run_tool(harness.BINARY, "tsdb", "dump", folders.ours).stdout
    for i, args in enumerate((["create-blocks-from", "--max-block-duration=24h", "openmetrics"], ["create-blocks-from", "--max-block-duration", "24h", "-r", "openmetrics"])):
        tables = []
        for binary in (harness.BINARY, harness.PROMETHEUS):
            out = folders.path(f"day-{i}-{os.path.basename(binary)}")
            r = harness.run_tool(binary, "tsdb", *args, folders.source, out)
            assert r.returncode == 0, r.stderr
            tables.append(shape(r.stdout))
        assert tables[0] == tables[1] and len(tables[0]) == 2
    out = folders.path("piped")
    with open(folders.source, "rb") as f:
        r = subprocess.run([harness.BINARY, "tsdb", "create-blocks-from", "openmetrics", "-q", "/dev/stdin", out], input=f.read(), capture_output=True)
    assert (r.returncode, r.stdout) == (0, b"")
    assert harness.run_tool(harness.BINARY, "tsdb", "dump", out).stdout == whole


def test_bench_write(tmp_path):
    series = tmp_path / "series.json"
    with open(series, "w") as f:
        for i in range(1500):
            f.write(json.dumps({"__name__": f"m_{i % 7}", "instance": f"host-{i // 7}:9100", "job": "x"}, separators=(",", ":")) + "\n")
        f.write('{"job":"x","__name__":"m_0","instance":"host-0:9100"}\n')
    outs = []
    for binary, name in ((harness.BINARY, "ours"), (harness.PROMETHEUS, "theirs")):
        out = str(tmp_path / name)
        r = harness.run_tool(binary, "tsdb", "bench", "write", "--metrics=1050", "--scrapes=50", "--out=" + out, str(series))
        assert r.returncode == 0, r.stderr
        said = re.sub(r"duration=\S+", "duration=D", re.sub(r"sec: \S+", "sec: N", r.stdout))
        outs.append((said, harness.run_tool(binary, "tsdb", "dump", out + "/storage").stdout))
    assert outs[0] == outs[1] and len(outs[0][1].splitlines()) == 1050 * 100
    assert " > total samples: 105000\n" in outs[0][0]
    series.write_text('{"job":"x"}\n')
    assert harness.run_tool(harness.BINARY, "tsdb", "bench", "write", "--metrics=1", "--scrapes=1", "--out=" + str(tmp_path / "ours"), str(series)).returncode == 0
    r = harness.run_tool(harness.BINARY, "tsdb", "export", str(tmp_path / "ours" / "storage"))
    assert (r.returncode, r.stdout) == (0, "# EOF\n") and "left out 1 series that have no metric name\n" in r.stderr
    keep = tmp_path / "home"
    (keep / "letters").mkdir(parents=True)
    r = harness.run_tool(harness.BINARY, "tsdb", "bench", "write", "--out=" + str(keep), str(series))
    assert r.returncode == 1 and "letters" in r.stderr and (keep / "letters").is_dir()
