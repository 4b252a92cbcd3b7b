"""--memory.limit: what gives way near it, in which order, and that series which are there never do.

The limit is small and the load is ours: a steady target whose series must be in every scrape, a greedy one
that shows ever more series, and queries that want more memory than there is. RssAnon, as the kernel counts it,
is looked at all the while.
"""

import http.client
import re
import threading
import time
import urllib.parse

import pytest

import harness
import served

LIMIT = 48 << 20
SLACK = 4 << 20  # of RssAnon over the limit: what may be allocated between two looks at it
STEADY = 200
INTERVAL = 1  # a late answer makes series stale: queries want less then, and scrapes are missing

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="a flag of ours")


class Targets(served.Served):
    """/steady shows STEADY series, and counts its scrapes; /greedy shows as many as `greedy` says."""

    protocol = "HTTP/1.0"

    def __init__(self):
        self.greedy = 0
        self.scrapes = 0
        self.page = 0, b""  # the greedy one, made once for all scrapes: it only grows
        super().__init__()

    def get(self, request):
        if request.path == "/steady":
            self.scrapes += 1
            body = "".join(f'steady{{i="{i}"}} {self.scrapes}\n' for i in range(STEADY)).encode()
        else:
            body = self.greedy_page()
        self.send(request, body=body, headers=served.EXPOSITION)

    def greedy_page(self):
        n, page = self.page
        more = self.greedy
        if n != more:
            page += "".join(f'greedy{{i="{i}",text="some more text to keep {i * 7919}"}} {i}\n'
                            for i in range(n, more)).encode()
            self.page = more, page
        return page


class Watch:
    """The highest RssAnon of a process."""

    def __init__(self, pid):
        self.pid, self.most, self.stop = pid, 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def now(self):
        with open(f"/proc/{self.pid}/status") as f:
            return int(re.search(r"RssAnon:\s+(\d+) kB", f.read()).group(1)) << 10

    def run(self):
        while not self.stop:
            try:
                self.most = max(self.most, self.now())
            except (OSError, AttributeError):  # it has ended
                return
            time.sleep(0.01)

    def end(self):
        self.stop = True
        self.thread.join()
        return self.most


def config(port):
    job = lambda name: {"job_name": name, "metrics_path": "/" + name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    return {"global": {"scrape_interval": f"{int(INTERVAL * 1000)}ms", "scrape_timeout": f"{int(INTERVAL * 1000)}ms"},
            "scrape_configs": [job("steady"),
                               {**job("greedy"), "scrape_interval": "2s", "scrape_timeout": "2s"}]}


def metrics(server):
    got = {}
    for line in server.get("/metrics").text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            got[name] = float(value)
    return got


def series(server):
    return int(metrics(server)["prometheus_tsdb_head_series"])


def greedy_query(server):
    """Wants tens of MiB: every series at many steps, also those that a late scrape has made stale."""
    now = time.time()
    return server.get("/api/v1/query_range", {"query": 'last_over_time({__name__=~"greedy|steady"}[5m]) * 2', "start": now,
                                              "end": now + 290, "step": 0.1}, timeout=60)


def test_series_that_are_there_are_kept_at_the_limit(stage):
    """Between a look at the memory and what follows from it a thread may lose the processor, and another allocate:
    where the machine is busy the bound is proved by one of three, and none is far over it."""
    most = [up_to_the_limit(stage, "first")]
    while most[-1] > LIMIT + SLACK and len(most) < 3:
        most.append(up_to_the_limit(stage, f"again{len(most)}"))
    assert most[-1] <= LIMIT + SLACK and max(most) <= LIMIT + 2 * SLACK, most


def up_to_the_limit(stage, name):
    """Returns the highest RssAnon."""
    targets = Targets()
    server = stage.server(config(targets.port), name=name, flags=[f"--memory.limit={LIMIT >> 20}MiB"])
    watch = Watch(server.pid)
    try:
        harness.wait_for("a first scrape", lambda: server.vector("count(steady)")[()] == str(STEADY))
        # Series, until they are refused: a page at a time, as a scrape of very many at once may find no room for any.
        while not metrics(server)["narthex_memory_refused_series_total"]:
            assert targets.greedy < 2000000
            targets.greedy += 20000
            harness.wait_for("the page", lambda: metrics(server)["narthex_memory_refused_series_total"]
                             or series(server) >= targets.greedy)
        target = harness.wait_for("a reason", lambda: [t for t in server.targets() if "new series were refused" in t["lastError"]])[0]
        assert target["labels"]["job"] == "greedy" and target["health"] == "up", target
        assert re.search(r"\d+ new series were refused: .*--memory.limit", target["lastError"]), target
        targets.greedy += 20000
        # Queries on top of it: answered or refused, in words.
        said = [greedy_query(server) for _ in range(6)]
        assert {a.status for a in said} <= {422, 503}, [a.text[:300] for a in said]
        assert all("memory" in a.json["error"] for a in said)
        assert server.get("/-/healthy").status == 200 and server.get("/-/ready").status == 200
        time.sleep(2)
        assert series(server) < targets.greedy
        refused = metrics(server)["narthex_memory_refused_series_total"]
        harness.wait_for("more refusals", lambda: metrics(server)["narthex_memory_refused_series_total"] > refused)
        most = watch.most

        # A higher limit by itself: all that was refused comes, and every scrape of the steady series is there.
        server.stop()
        watch.end()
        refused_at = targets.scrapes
        server.argv.remove(f"--memory.limit={LIMIT >> 20}MiB")
        server.start()
        harness.wait_for("all series", lambda: series(server) >= targets.greedy + STEADY, timeout=60)
        harness.wait_for("no error", lambda: not any(t["lastError"] for t in server.targets()))
        values = server.query(f'steady{{i="{STEADY - 1}"}}[1h]')["result"][0]["values"]
        took = server.query('scrape_duration_seconds{job="steady"}[1h]')["result"][0]["values"]
        seen = [int(v) for _, v in values if v != "NaN"]
        missing = sorted(set(range(1, refused_at)) - set(seen))
        late = sum(float(v) >= INTERVAL for _, v in took)  # the machine was busy
        assert len(missing) <= 1 + late, (missing, refused_at, late)  # the one under way when it was stopped
        server.stop()
        return most
    finally:
        targets.close()


def test_queries_give_way_before_series_do(stage):
    targets = Targets()
    targets.greedy = 10000
    server = stage.server(config(targets.port), flags=[f"--memory.limit={LIMIT >> 20}MiB"])
    watch = Watch(server.pid)
    try:
        harness.wait_for("series", lambda: series(server) >= targets.greedy)
        time.sleep(1)
        # More than a third of the limit for one query, whatever is free.
        answer = greedy_query(server)
        assert answer.status == 422 and "--query.max-memory" in answer.json["error"], answer.text[:500]
        # Many that fit one by one, but not together: the answers are held until they are read.
        now = time.time()
        path = "/api/v1/query_range?" + urllib.parse.urlencode({"query": 'last_over_time({__name__="greedy",i=~"1.*"}[5m]) * 2',
                                                                "start": now, "end": now + 290, "step": 0.5})
        clients = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(12)]
        for c in clients:
            c.request("GET", path)
        answers = [harness.Answer(r, r.read()) for r in [c.getresponse() for c in clients]]
        for c in clients:
            c.close()
        assert {a.status for a in answers} == {200, 503}, [(a.status, a.text[:300]) for a in answers]
        refused = [a.json for a in answers if a.status == 503]
        assert all(e["errorType"] == "unavailable" and "--memory.limit" in e["error"] for e in refused), refused
        assert watch.end() <= LIMIT + SLACK, watch.most
        # The load is gone: queries work, nothing is held, the cache may grow again, new series are taken.
        harness.wait_for("room", lambda: metrics(server)["narthex_memory_level"] == 0)
        harness.wait_for("an answer", lambda: server.vector("count(greedy)")[()] == str(targets.greedy))
        harness.wait_for("nothing to be held", lambda: metrics(server)["narthex_memory_query_bytes"] == 0)
        now = metrics(server)
        assert now["narthex_memory_limit_bytes"] == LIMIT
        assert now["narthex_memory_refused_series_total"] == 0
        assert now["narthex_memory_refused_queries_total"] >= len(refused)
        harness.wait_for("the cache", lambda: metrics(server)["narthex_storage_cache_limit_bytes"] == 32 << 20)
        targets.greedy += 100
        harness.wait_for("new series", lambda: series(server) >= targets.greedy)
        harness.wait_for("no error", lambda: not any(t["lastError"] for t in server.targets()))
    finally:
        targets.close()
