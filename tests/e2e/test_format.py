"""storage/FORMAT.md suffices: nxformat.py, which was written from it alone, reads what the program wrote.

Bits are compared with what the program itself answers, so that both must agree on every sample of every file.
"""

import random
import shutil
import time

import pytest

import harness
import nxformat
import omdata
from served import Target

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="the files are Narthex's")


def answered(server, end, window):
    """{labels: {time in ms: bits}} of all that a query sees. Its NaNs have lost their payload."""
    data = server.query('{__name__=~".+"}[%ds]' % window, end)
    return {harness.labels_key(e["metric"]): {round(t * 1000): nxformat.bits_of(float(v)) for t, v in e["values"]} for e in data["result"]}


def seen_by_queries(read):
    nan = nxformat.bits_of(float("nan"))
    found = {}
    for labels, points in read.items():
        points = {t: nan if nxformat.value_of(v) != nxformat.value_of(v) else v for t, v in points.items() if v != nxformat.STALE}
        if points:
            found[labels] = points
    return found


def must_be_equal(read, told):
    assert read.keys() == told.keys()
    for labels, points in told.items():
        assert read[labels] == points, labels


def test_blocks_of_a_load(stage, tmp_path):
    """Seven kinds of exporters and odd values: nearly every encoding that there is."""
    omdata.write(tmp_path / "in.om")
    data = tmp_path / "data"
    assert harness.run_tool(harness.BINARY, "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "in.om"), str(data)).returncode == 0
    read, counts = nxformat.folder_samples(str(data))
    server = stage.server("{}", data=data, flags=["--storage.tsdb.retention.time=100y", "--query.max-samples=100000000"])
    told = answered(server, omdata.START + omdata.SECONDS, omdata.SECONDS + 100)
    must_be_equal(seen_by_queries(read), told)
    assert counts["blocks"] > 200_000 and counts["seals"] == counts["rows"] == 0


class Busy:
    """A target whose page is another one each time: all forms of values, series that come, go and take others' places."""

    def __init__(self):
        self.rnd = random.Random(5)
        self.n = 0
        self.target = Target(self.answer)

    def answer(self, handler):
        self.n += 1
        n, rnd = self.n, self.rnd
        lines = [f"whole_total {n * 3}", f"same 1", f"decimals {round(20 + rnd.gauss(0, 1), 2)!r}", f"noise {rnd.random()!r}",
                 f"big {10**15 + n}", f"tiny {rnd.random() * 1e-300!r}", f"hops {n // 7 % 2}"]
        lines += [f'wild {{i="{i}"}} {rnd.choice(["NaN", "+Inf", "-Inf", "-0", "1e21", "5e-324", repr(rnd.random()), str(n)])}' for i in range(5)]
        if n // 10 % 2:
            lines.append(f"now_and_then {n}")
        lines.append(f'new{{generation="{n // 25}"}} {n}')
        stamp = int(time.time() * 1000) - 5_000
        lines.append(f"stamped {n * 0.5} {stamp + rnd.randrange(-2000, 2000)}")
        lines.append(f"stamped_too {n} {stamp}")
        self.target.send(handler, body=("\n".join(lines) + "\n").encode(), headers={"Content-Type": "text/plain; version=0.0.4"})


@pytest.mark.parametrize("killed", [True, False])
def test_a_folder_in_the_middle_of_its_life(stage, tmp_path, killed):
    """Blocks, chunk files and log of a server that was killed, and of one that ended in peace."""
    busy = Busy()
    config = {"global": {"scrape_interval": "40ms", "scrape_timeout": "40ms"}, "storage": {"tsdb": {"out_of_order_time_window": "1h"}},
              "scrape_configs": [{"job_name": "busy", "static_configs": [{"targets": [busy.target.address]}]}]}
    flags = ["--storage.tsdb.min-block-duration=4s", "--storage.tsdb.max-block-duration=20s", "--storage.tsdb.retention.time=1d",
             "--storage.tsdb.wal-segment-size=4KB"]
    server = stage.server(config, flags=flags, name="busy")
    sources = ("blocks", "seals", "rows", "loose", "stored")
    try:
        for life in range(8):  # until each kind of file has something
            time.sleep(3)
            server.kill() if killed else server.stop()
            copy = tmp_path / f"copy-{life}"
            shutil.copytree(server.data, copy)
            read, counts = nxformat.folder_samples(str(copy))
            if all(counts.get(source) for source in sources):
                break
            server.start()
    finally:
        busy.target.close()
    assert all(counts.get(source) for source in sources), counts
    server.write_config({"scrape_configs": []})
    server.start()
    told = answered(server, time.time() + 10, 600)
    must_be_equal(seen_by_queries(read), told)
