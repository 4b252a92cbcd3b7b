"""Every expression of queries.yml on identical data, here and in Prometheus, compared value by value."""

import gzip
import os
import re
import shutil

import pytest
import yaml

import extrapolation
import harness
import omdata

HERE = os.path.dirname(os.path.abspath(__file__))
REAL = os.path.join(harness.SHARED, "data/real.om.gz")

with open(os.path.join(HERE, "queries.yml"), encoding="utf-8") as f:
    QUERIES = [q for group in yaml.safe_load(f).values() for q in group]

# Off the grid of the samples: fractions that no sample time has, so that it does not matter whether
# a window is closed on the left (Prometheus 2) or open (Prometheus 3).
SETS = {
    "made": {
        "instants": [omdata.START + 1207.3, omdata.START + 7213.8, omdata.START + 7903.4, omdata.START + 16100.6],
        "ranges": [(omdata.START + 313.3, omdata.START + 16300.3, 217), (omdata.START + 6900.7, omdata.START + 8200.7, 15)],
    },
    "real": {
        "instants": [1735689600 + 1211.3, 1735689600 + 1807.7, 1735689600 + 2391.2],
        "ranges": [(1735689600 + 247.3, 1735689600 + 2460.3, 37), (1735689600 + 1300.9, 1735689600 + 2000.9, 5)],
    },
}
LONG = ["--storage.tsdb.retention.time=100y"]
MOSTLY = 0.4  # of the evaluation times at most may be excused for the difference in rate()
CONFIG = "global:\n  scrape_interval: 1m\n"


def test_there_are_enough_expressions():
    assert len({q["expr"] for q in QUERIES}) >= 60
    assert len({q["expr"] for q in QUERIES}) == len(QUERIES)


class Pair:
    def __init__(self, stage, om_file):
        self.servers = []
        for binary, name in ((harness.BINARY, "tested"), (harness.PROMETHEUS, "reference")):
            data = os.path.join(stage.folder, name + "-data")
            os.makedirs(data)
            r = harness.run_tool(binary, "tsdb", "create-blocks-from", "openmetrics", om_file, data, timeout=300)
            assert r.returncode == 0, r.stderr[-3000:]
            assert os.listdir(data), "no block was made"
            self.servers.append(stage.run(harness.Server(binary, stage.folder, CONFIG, LONG, name=name, data=data)))
        self.tested, self.reference = self.servers


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Made when first asked for; the real recording may be absent."""
    stages, made = [], {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            path = os.path.join(folder, "data.om")
            if name == "made":
                omdata.write(path)
            else:
                if not os.path.exists(REAL):
                    pytest.skip(f"{REAL} is not there")
                with gzip.open(REAL, "rb") as src, open(path, "wb") as dst:
                    shutil.copyfileobj(src, dst)
            stages.append(harness.Stage(folder))
            made[name] = Pair(stages[-1], path)
        return made[name]

    yield get
    for s in stages:
        s.close()



CASES = [(q, data) for q in QUERIES for data in q.get("in", SETS)]


@pytest.mark.parametrize("query, data", CASES, ids=[f"{q['expr']} {data}" for q, data in CASES])
def test_answers_agree(pairs, query, data):
    pair = pairs(data)
    expr, kind = query["expr"], query.get("kind")
    found = 0
    wrong = []  # (time or None, text)
    if kind != "range":
        for at in SETS[data]["instants"]:
            got, want = (s.query(expr, at) for s in pair.servers)
            found += len(want["result"])
            wrong += [(at, line) for line in harness.differences(got, want, ordered=query.get("ordered", False))]
    if kind != "instant":
        for start, end, step in SETS[data]["ranges"]:
            got, want = (s.query_range(expr, start, end, step) for s in pair.servers)
            found += sum(len(e["values"]) for e in want["result"])
            for line in harness.differences(got, want, ordered=True):
                at = re.search(r" at ([0-9.]+): ", line)
                wrong.append((float(at.group(1)) if at else None, f"{start}..{end}/{step}: {line}"))
    # The one difference between Prometheus 2 and 3 that evaluation times cannot avoid: shown to be it,
    # time by time, by working the window out again (extrapolation.py).
    excused = {at for at in {at for at, _ in wrong if at} if extrapolation.rules_differ(pair.reference, expr, at)}
    left = [line for at, line in wrong if at not in excused]
    assert not left, f"{expr}: {len(left)} differences\n" + "\n".join(left[:20])
    assert len(excused) <= MOSTLY * sum(1 for s in SETS[data]["ranges"] for _ in range(int((s[1] - s[0]) // s[2]))), "too much is excused"
    assert found or query.get("empty"), f"{expr} finds nothing in {data}: it proves nothing"


@pytest.mark.parametrize("selector, width", [("http_requests_total", 300), ("http_requests_total", 60), ("process_cpu_seconds_total", 600)])
def test_counters_are_widened_by_the_rule_of_prometheus_3(pairs, selector, width):
    """rate() against arithmetic on the raw samples, where the rules of 2 and 3 differ and elsewhere."""
    pair = pairs("real")
    disputed = 0
    for n in range(40):
        at = 1735689600 + 150.7 + 57 * n
        raw = pair.tested.query(f"{selector}[{width}s]", at)["result"]
        ours = {harness.labels_key(e["metric"]): float(e["value"][1]) for e in pair.tested.query(f"increase({selector}[{width}s])", at)["result"]}
        theirs = {harness.labels_key(e["metric"]): float(e["value"][1]) for e in pair.reference.query(f"increase({selector}[{width}s])", at)["result"]}
        for e in raw:
            key = harness.labels_key(e["metric"], ("__name__",))
            two, three = (extrapolation.widened(e["values"], at - width, at, rule) for rule in (2, 3))
            if two is None:
                assert key not in ours
                continue
            assert theirs[key] == pytest.approx(two, rel=1e-7)
            assert ours[key] == pytest.approx(two if harness.IS_REFERENCE else three, rel=1e-7)
            disputed += abs(two - three) > 1e-4 * abs(three)
    assert disputed > 0


@pytest.mark.parametrize("data", list(SETS))
def test_names_labels_and_series_agree(pairs, data):
    pair = pairs(data)
    # Times widely around the data: the exact edges are each storage's own affair.
    lo, hi = min(SETS[data]["instants"]) - 90_000, max(SETS[data]["instants"]) + 90_000
    around = {"start": lo, "end": hi}
    for path in ("labels", "label/__name__/values", "label/job/values", "label/instance/values", "label/route/values"):
        got, want = (s.get(f"/api/v1/{path}", around).data for s in pair.servers)
        assert got == want and got, path
    got, want = (s.get("/api/v1/labels", {**around, "match[]": "up"}).data for s in pair.servers)
    assert got == want == ["__name__", "instance", "job"]
    for match in ('{job="web"}', '{__name__=~"node_.*"}', '{instance!~"web.*",__name__="up"}', "http_request_duration_seconds_bucket"):
        got, want = ({harness.series_key(m) for m in s.get("/api/v1/series", {**around, "match[]": match}).data}
                     for s in pair.servers)
        assert got == want and got, match


@pytest.mark.parametrize("data", list(SETS))
def test_every_sample_came_over(pairs, data):
    """Not aggregates but all that is stored, sample by sample."""
    pair = pairs(data)
    end = max(SETS[data]["instants"]) + 7200
    for match in ('{job="node"}', '{job="redis"}', '{job="postgres"}', '{job="web",__name__!~".*_bucket"}', '{job="odd"}'):
        got, want = (s.query(f"{match}[12h]", end) for s in pair.servers)
        lines = harness.differences(got, want, rel=0.0)
        assert not lines, "\n".join(lines[:20])
        assert want["result"] or data == "real" and "odd" in match
