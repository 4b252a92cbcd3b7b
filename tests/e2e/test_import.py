"""Moving in: what Prometheus scraped, `tsdb import` brings over, sample by sample.

Two of Debian's Prometheus scrape a target whose series come, go, turn late and turn stale, with blocks of two
seconds instead of two hours; they are killed, started again, told to delete. Then each folder, and a
snapshot of it, is imported, and Narthex must say what Prometheus says of it.
"""

import glob
import math
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

import harness
from served import Target

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="promtool imports no folders")

EVERYTHING = '{__name__=~".+"}[1h]'
SCRAPES = 30  # of each job, each time that Prometheus runs; it takes five seconds before it begins
FLAGS = ["--storage.tsdb.min-block-duration=2s", "--storage.tsdb.max-block-duration=6s", "--web.enable-admin-api"]
exposed = {}  # of m_late: {time in ms: value}


def expose(target, stop):
    """Texts that change with each scrape."""
    began, n = time.time(), 0
    while not stop.wait(0.02):
        n += 1
        now = time.time()
        lines = [f'm_count{{i="{i}"}} {n * (i + 1)}\n' for i in range(15)]
        lines += [f'm_wave{{i="{i}",text="é \\"{i}\\""}} {math.sin(n + i) * 10 ** i!r}\n' for i in range(10)]
        lines += ["m_nan NaN\n", "m_inf +Inf\n", "m_less -Inf\n", "m_zero -0\n", "m_same 42\n", f"m_tiny {5e-324 * n!r}\n"]
        lines.append(f'm_new{{generation="{n // 20}"}} {n}\n')
        if n // 25 % 2:
            lines.append(f"m_now_and_then {n}\n")
        # Of its own time; the second goes back and forth, which only one of the two takes.
        lines.append(f"m_explicit {n} {int((now - 0.5) * 1000)}\n")
        late = int((now - 1 - n * 7 % 40 / 10) * 1000)
        while late in exposed:  # of two values at one time either may be kept
            late += 1
        exposed[late] = n
        lines.append(f"m_late {n} {late}\n")
        target.text = "".join(lines)
    assert time.time() > began


class Source:
    """One of the two."""

    def __init__(self, stage, name, target, storage, flags):
        config = {"global": {"scrape_interval": "40ms", "scrape_timeout": "40ms"},
                  "storage": storage,
                  "scrape_configs": [{"job_name": f"job{i}", "static_configs": [{"targets": [target.address]}]} for i in range(2)]}
        self.server = harness.Server(harness.PROMETHEUS, stage.folder, config, [*FLAGS, *flags], name=name)
        stage.processes.append(self.server)
        self.quiet = harness.Server(harness.PROMETHEUS, stage.folder, {}, FLAGS[2:], name=f"{name}-again", data=self.server.data)
        stage.processes.append(self.quiet)
        self.snapshot = None
        self.deleted = []

    def has_scraped(self, since):
        """Whether both jobs have their scrapes since then."""
        found = self.server.query("m_same[1m]")["result"]
        return len(found) == 2 and all(sum(t > since for t, _ in e["values"]) >= SCRAPES for e in found)

    def has_blocks(self):
        return len(glob.glob(os.path.join(self.server.data, "?" * 26, "index"))) > 1

    def delete(self, start=None, end=None, match="m_count"):
        self.deleted.append((match, start or 0, end or time.time()))
        form = {"match[]": f'{match}{{i=~"1|2"}}', **({"start": start} if start else {}), **({"end": end} if end else {})}
        answer = self.server.post("/api/v1/admin/tsdb/delete_series", form)
        assert answer.status == 204, answer.text

    def take_snapshot(self):
        name = self.server.post("/api/v1/admin/tsdb/snapshot").data["name"]
        self.snapshot = os.path.join(self.server.data, "snapshots", name)


def everything(server, at):
    """{(series, time): value} as the API tells it."""
    data = server.query(EVERYTHING, at)
    return {(harness.labels_key(e["metric"]), t): v for e in data["result"] for t, v in e["values"]}


def imported(folder, out, *flags, status=0):
    done = harness.run_tool(harness.BINARY, "tsdb", "import", folder, "-o", out, *flags)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def narthex_says(stage, name, data, at):
    server = stage.server({}, name=name, data=data)
    try:
        return everything(server, at)
    finally:
        server.stop()


def as_exposed(generation, value):
    return int(generation) == int(float(value)) // 20


def same(got, want, source=None):
    """With `source`, that one takes samples out of order, and Debian's 2.42 goes on showing such a sample after it was deleted
    (3.x does not). A scrape that was held up for half a block is out of order, too. And after a kill Prometheus may drop some
    that its log still has, of late samples and of a series just begun; they come over, as they were exposed."""
    def may_be_gone(key, t):
        return source and any(("__name__", name) in key and ("i", i) in key and start <= t <= end
                              for name, start, end in source.deleted for i in "12")

    def may_be_more(key, t):
        labels = dict(key)
        if labels["__name__"] == "m_new":
            return as_exposed(labels["generation"], got[key, t])
        return source and ("__name__", "m_late") in key and exposed.get(round(t * 1000)) == float(got[key, t])

    lost = [k for k in want if k not in got and not may_be_gone(*k)]
    more = [k for k in got if k not in want and not may_be_more(*k)]
    other = [(k, got[k], want[k]) for k in want if k in got and got[k] != want[k]]
    assert not lost and not more and not other, (len(want), len(lost), lost[:3], len(more), more[:3], other[:3])


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    with harness.Stage(tmp_path_factory.mktemp("import")) as stage:
        target, stop = Target(), threading.Event()
        writer = threading.Thread(target=expose, args=(target, stop), daemon=True)
        writer.start()
        both = [Source(stage, "late", target, {"tsdb": {"out_of_order_time_window": "30m"}}, []),
                Source(stage, "strict", target, {}, ["--no-storage.tsdb.wal-compression"])]
        try:
            for s in both:
                s.server.start(wait=False)
            for s in both:
                s.server.wait_ready()
            harness.wait_for("scrapes", lambda: all(s.has_scraped(0) for s in both), 60)
            for s in both:
                s.delete(match="m_wave")  # all there is of two series, so far
                s.server.kill()
                s.server.start(wait=False)
            for s in both:
                s.server.wait_ready()
            again = time.time()
            harness.wait_for("scrapes, and blocks", lambda: all(s.has_scraped(again) and s.has_blocks() for s in both), 60)
            now = time.time()
            for s in both:
                s.delete(now - 8, now - 0.7)
                s.take_snapshot()
            both[0].server.kill()
            both[1].server.stop()
        finally:
            stop.set()
            writer.join()
        yield stage, both
        target.close()


def test_every_sample_is_brought_over(sources):
    stage, both = sources
    for s in both:
        name = s.server.name
        assert s.has_blocks(), "too few blocks were made"
        assert any(os.path.getsize(p) > 9 for p in glob.glob(os.path.join(s.server.data, "*", "tombstones")))
        assert sum(map(os.path.getsize, glob.glob(os.path.join(s.server.data, "wal", "0*")))) > 10000
        late = glob.glob(os.path.join(s.server.data, "wbl", "0*"))
        assert (sum(map(os.path.getsize, late)) > 100) == (name == "late"), late
        before = {p: os.stat(p).st_mtime_ns for p in glob.glob(os.path.join(s.server.data, "**"), recursive=True)}
        out = os.path.join(stage.folder, f"{name}-out")
        done = imported(s.server.data, out)
        assert before == {p: os.stat(p).st_mtime_ns for p in before}, "the folder was written to"
        assert done.stdout.startswith("BLOCK ULID"), done.stdout
        snapshot_out = os.path.join(stage.folder, f"{name}-snapshot-out")
        imported(s.snapshot, snapshot_out)

        at = time.time()
        s.quiet.start()
        want = everything(s.quiet, at)
        s.quiet.stop()
        assert len(want) > 1500 and len({k for k, _ in want}) > 80, len(want)
        takes_late = s if name == "late" else None
        same(narthex_says(stage, f"{name}-in", out, at), want, takes_late)

        shutil.copytree(s.snapshot, os.path.join(stage.folder, f"{name}-snapshot"))
        again = stage.reference({}, name=f"{name}-snapshot-reference", data=os.path.join(stage.folder, f"{name}-snapshot"))
        want = everything(again, at)
        again.stop()
        same(narthex_says(stage, f"{name}-snapshot-in", snapshot_out, at), want, takes_late)


def dump(binary, folder):
    """Lines of `tsdb dump`, which unlike the API shows the markers of series that ended."""
    done = harness.run_tool(binary, "tsdb", "dump", folder)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


def test_markers_of_stale_series_come_along(sources):
    stage, both = sources
    out = os.path.join(stage.folder, "dumped")
    imported(both[1].server.data, out)
    want = dump(harness.PROMTOOL, both[1].server.data)
    got = dump(harness.BINARY, out)
    assert len(want) > 1000 and any("m_new" in line and "NaN" in line for line in want)
    assert not set(want) - set(got)
    for line in set(got) - set(want):  # as `same` has it
        series, value, _ = line.rsplit(" ", 2)
        assert '__name__="m_new"' in series and as_exposed(re.search('generation="(\\d+)"', series)[1], value), line


def test_a_second_run_writes_nothing_and_an_interrupted_one_goes_on(sources):
    stage, both = sources
    folder, out = both[0].server.data, os.path.join(stage.folder, "twice")
    first = imported(folder, out, "-q")
    assert first.stdout == ""
    blocks = sorted(os.listdir(out))
    assert imported(folder, out).stdout == ""
    assert sorted(os.listdir(out)) == blocks
    gone = [b for b in blocks if len(b) == 26][1]
    shutil.rmtree(os.path.join(out, gone))
    os.makedirs(os.path.join(out, gone + ".tmp-for-creation"))
    assert gone in imported(folder, out).stdout
    assert sorted(os.listdir(out)) == blocks


def test_a_dry_run_leaves_no_trace(sources):
    stage, both = sources
    out = os.path.join(stage.folder, "dry")
    done = imported(both[0].server.data, out, "--dry-run")
    assert not os.path.exists(out) and "to be written" in done.stderr and done.stdout == ""


def test_damage_is_named_and_the_rest_is_imported(sources):
    stage, both = sources
    folder = os.path.join(stage.folder, "damaged")
    shutil.copytree(both[1].server.data, folder, ignore=shutil.ignore_patterns("snapshots", "lock"))
    # The largest file of chunks, in the middle, and the log's largest segment but for the newest.
    chunks = sorted(glob.glob(os.path.join(folder, "*", "chunks", "000001")), key=os.path.getsize)[-1]
    segment = sorted(sorted(glob.glob(os.path.join(folder, "wal", "0*")))[:-1], key=os.path.getsize)[-1]
    for path in (chunks, segment):
        with open(path, "r+b") as f:
            f.seek(os.path.getsize(path) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 0x55]))
    out = os.path.join(stage.folder, "damaged-out")
    done = imported(folder, out, status=2)
    assert f"damaged: {chunks}, at " in done.stderr and f"damaged: {segment}, at " in done.stderr, done.stderr
    whole = set(dump(harness.BINARY, os.path.join(stage.folder, "dumped")))
    got = set(dump(harness.BINARY, out))
    assert got <= whole and len(got) > len(whole) * 0.5, (len(got), len(whole))


@pytest.mark.parametrize("flags", [(), ("--storage.tsdb.use-lockfile",)])  # Debian's default is to have none
def test_a_running_prometheus_is_respected(stage, flags):
    running = stage.reference({"global": {"scrape_interval": "1s"}}, flags=flags)
    done = harness.run_tool(harness.BINARY, "tsdb", "import", running.data)
    assert done.returncode == 1 and "a Prometheus is running on" in done.stderr, done.stderr
    assert not os.path.exists(os.path.join(running.data, "narthex"))
    running.stop()
    # And Narthex, started over such a folder, names the command that brings it over.
    refused = harness.Server(harness.BINARY, stage.folder, {}, name="over", data=running.data)
    end = subprocess.run(refused.argv, capture_output=True, text=True, timeout=30)
    assert end.returncode == 1 and f"narthex tsdb import --in-place {running.data}`" in end.stderr, end.stderr


def test_a_running_narthex_takes_up_what_is_imported(sources, stage):
    _, both = sources
    server = stage.server({})
    done = imported(both[1].server.data, server.data)
    assert "a Narthex is running" in done.stderr
    server.send(signal.SIGTERM)
    server.popen.wait(timeout=20)
    server.start()
    assert len(everything(server, time.time())) > 1000


def test_in_place_the_folder_becomes_narthexs_and_nothing_is_lost(sources):
    stage, both = sources
    folder, at = os.path.join(stage.folder, "in-place"), time.time()
    shutil.copytree(both[0].server.data, folder, ignore=shutil.ignore_patterns("lock"))
    theirs = set(os.listdir(folder))
    done = harness.run_tool(harness.BINARY, "tsdb", "import", "--in-place", folder)
    assert done.returncode == 0, done.stderr
    assert set(os.listdir(os.path.join(folder, "prometheus"))) == theirs
    assert not os.path.exists(os.path.join(folder, "narthex"))
    same(narthex_says(stage, "in-place-server", folder, at), narthex_says(stage, "beside-server", os.path.join(stage.folder, "twice"), at))


def test_what_is_no_folder_of_prometheus_is_refused(stage):
    empty = os.path.join(stage.folder, "empty")
    os.makedirs(empty)
    for folder, text in ((empty, "is not a data folder of Prometheus"), (empty + "/not", "No such file")):
        done = harness.run_tool(harness.BINARY, "tsdb", "import", folder)
        assert done.returncode == 1 and text in done.stderr, done.stderr
