"""Samples with timestamps of their own, shuffled: beside the reference, with and without a window.

Each server gets the same pages in the same order, whenever it asks: what is stored then hangs on the pages
alone. After the last one both must answer alike, and count alike what they refused.
"""

import random
import time

import pytest

import harness
import served

SERIES = 30
PAGES = 16
INTERVALS = (250, 500, 1000, 2000)  # ms; a page that comes too late is gone: then all is done again, in less of a hurry
COUNTERS = [
    "prometheus_target_scrapes_sample_out_of_order_total",
    "prometheus_target_scrapes_sample_duplicate_timestamp_total",
    "prometheus_target_scrapes_sample_out_of_bounds_total",
    'prometheus_tsdb_out_of_order_samples_total{type="float"}',
    'prometheus_tsdb_out_of_bound_samples_total{type="float"}',
    'prometheus_tsdb_too_old_samples_total{type="float"}',
]


def value(series, t):
    """Of a time there is but one value: which of two stays is a test of its own."""
    return series * 1000 + t // 1000 % 997


class Pages(served.Served):
    """Shows each client the next page of a job; the last one again and again. The path is /client/job."""

    protocol = "HTTP/1.0"

    def __init__(self, jobs):
        self.jobs = jobs
        self.shown = {}
        super().__init__()

    def get(self, request):
        at = self.shown.get(request.path, 0)
        self.shown[request.path] = at + 1
        pages = self.jobs[request.path.rpartition("/")[2]]
        self.send(request, body=pages[min(at, len(pages) - 1)].encode(), headers=served.EXPOSITION)

    def all_shown(self, clients):
        return all(self.shown.get(f"/{client}/{job}", 0) > len(pages) + 1
                   for job, pages in self.jobs.items() for client in clients)


def config(pages, client, window=None, interval=INTERVALS[0]):
    text = f"global: {{scrape_interval: {interval}ms, scrape_timeout: {interval}ms}}\nscrape_configs:\n"
    for job in pages.jobs:
        text += f"""  - job_name: {job}
    metrics_path: /{client}/{job}
    honor_timestamps: {'false' if job == 'own' else 'true'}
    static_configs: [{{targets: ['127.0.0.1:{pages.port}'], labels: {{instance: pages}}}}]
"""
    return text + (f"storage: {{tsdb: {{out_of_order_time_window: {window}}}}}\n" if window else "")


def run_all(stage, pages, interval):
    """Four servers at once, since the reference takes 5 seconds to find its targets."""
    servers = {}
    for window in None, "30m":
        for who, binary in ("ref", harness.PROMETHEUS), ("ours", harness.BINARY):
            name = who + (window or "")
            servers[name] = stage.server(config(pages, name, window, interval), binary=binary, name=name, wait=False)
    for server in servers.values():
        server.wait_ready()
    harness.wait_for("all pages", lambda: pages.all_shown(servers), 30 + 20 * interval / 1000)
    time.sleep(0.3)  # the last ones are in
    return servers


def all_in_time(servers, interval):
    return all(float(v) * 1000 < interval for server in servers.values()
               for v in server.vector("max_over_time(scrape_duration_seconds[5m])").values())


def samples(server, expr):
    """All raw samples: {labels: [[t, v]...]}"""
    data = server.query(expr, time=time.time() + 7200)["result"]
    return {harness.series_key(s["metric"]): s["values"] for s in data}


def counters(server):
    text = server.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(lines.get(name, 0)) for name in COUNTERS}


def shuffled(now, seed, back):
    """Each series at some time of the last `back` seconds, a page; some in step, some alone."""
    rnd = random.Random(seed)
    pages = []
    for _ in range(PAGES):
        shared = now - rnd.randrange(back) * 1000
        lines = []
        for i in range(SERIES):
            if rnd.random() < 0.2:
                continue
            t = shared if i % 3 else now - rnd.randrange(back * 1000)
            lines.append(f'late{{n="{i}"}} {value(i, t)} {t}')
        if rnd.random() < 0.5:
            rnd.shuffle(lines)
        pages.append("\n".join(lines + ["plain 1", ""]))
    return pages + ["plain 2\n"]


def refused(now):
    return [
        f"a 1 {now}\nb 1 {now - 1800000}\nc 1 {now}\nd 1\n",
        f"a 2 {now}\nb 2 {now - 1900000}\nc 1 {now}\nd 1\n",  # another value; older; the same
        f"a 3 {now + 3600000}\nb 3 {now - 5400000}\nc 2 {now - 1}\nd 1\n",  # too far; too old; older
        f"a 4 {now + 300000}\nb 4 {now - 1700000}\nd 1\n",  # ahead, not too far
        "d 2\n",
    ]


def check_same(ours, ref, exprs):
    for expr in exprs:
        want = samples(ref, expr)
        assert want and samples(ours, expr) == want, expr


def check_ranges(ours, ref):
    now = time.time()
    for expr in ["late", "sum(count_over_time(late[10m]))", "max_over_time(late[1m])", "sum by (n) (late)"]:
        a = ours.query_range(expr, now - 1800, now + 300, 15)
        b = ref.query_range(expr, now - 1800, now + 300, 15)
        assert harness.differences(a, b) == [], expr


def restart(server):
    server.kill()
    server.start()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    for interval in INTERVALS:
        now = int(time.time() * 1000)
        pages = Pages({
            "late": shuffled(now, 7, 1500),
            "refused": refused(now),
            "own": [f"e 1 {now - 7200000}\n", f"e 2 {now + 7200000}\n", f"e 3 {now - 1}\n", "e 4\n"],
        })
        with harness.Stage(tmp_path_factory.mktemp("pages")) as stage:
            running = run_all(stage, pages, interval)
            if all_in_time(running, interval):
                yield running
                pages.close()
                return
        pages.close()
    pytest.fail("no scrape is in time here")


def test_without_a_window(servers):
    ours, ref = servers["ours"], servers["ref"]
    check_same(ours, ref, ["late[4h]", "a[4h]", "b[4h]", "c[4h]"])
    assert sum(len(v) for v in samples(ref, "late[4h]").values()) < SERIES * PAGES * 0.5
    check_ranges(ours, ref)
    want = counters(ref)
    assert want[COUNTERS[0]] > 100 and want[COUNTERS[1]] > 0 and want[COUNTERS[2]] > 0
    assert counters(ours) == want
    for server in ours, ref:  # timestamps that are not honored
        assert [float(v[1]) for v in next(iter(samples(server, "e[4h]").values()))][:4] == [1, 2, 3, 4]
        for text in [
            "Error on ingesting out-of-order samples",
            "Error on ingesting samples with different value but same timestamp",
            "Error on ingesting samples that are too old or are too far into the future",
        ]:
            assert text in server.log()
    late = samples(ours, "late[4h]")
    restart(ours)
    assert samples(ours, "late[4h]") == late


def test_with_a_window(servers):
    """The reference gives up a scrape of which a sample is older than the window; we leave out that sample
    and count it, as all others that are refused."""
    ours, ref = servers["ours30m"], servers["ref30m"]
    check_same(ours, ref, ["late[4h]", "b[4h]"])
    late = samples(ours, "late[4h]")
    assert len(late) == SERIES and sum(len(v) for v in late.values()) > SERIES * PAGES * 0.7
    check_ranges(ours, ref)
    got, want = counters(ours), counters(ref)
    assert got[COUNTERS[-1]] == want[COUNTERS[-1]] == 2
    assert got[COUNTERS[0]] == want[COUNTERS[0]] == 0
    lost = next(iter(samples(ref, "c[4h]").values()))
    assert len(next(iter(samples(ours, "c[4h]").values()))) == len(lost) + 1
    restart(ours)
    assert samples(ours, "late[4h]") == late


def test_the_window_follows_a_reload(stage):
    now = int(time.time() * 1000)
    pages = Pages({"j": [f"a 1 {now}\n"]})
    try:
        ours = stage.server(config(pages, "ours"), name="ours")
        harness.wait_for("a sample", lambda: samples(ours, "a[4h]"))
        pages.jobs = {"j": [f"a 2 {now - 60000}\n"]}
        harness.wait_for("a refusal", lambda: counters(ours)[COUNTERS[0]] > 0)
        assert [len(v) for v in samples(ours, "a[4h]").values()] == [1]
        ours.write_config(config(pages, "ours", "10m"))
        ours.reload()
        harness.wait_for("the late one", lambda: [len(v) for v in samples(ours, "a[4h]").values()] == [2])
    finally:
        pages.close()
