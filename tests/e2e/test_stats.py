"""Query statistics: samples by step beside Prometheus's own, and who is told what."""

import os

import pytest

import harness

START, END, STEP = 1700000000, 1700003600, 15
FEATURE = "--enable-feature=promql-per-step-stats"
# At times that no sample has, so that it does not matter whether a window is closed on the left.
AT = END - 700.3
QUERIES = [
    "m", "sum(m)", "m offset 1m", 'm{i="1"} @ 1700001000.1', "timestamp(m)", "time()", "vector(1) + on () m{i='2'}",
    "sum(rate(m[5m]))", "max_over_time(m[50s]) > 3", "sum_over_time(m[2m] @ 1700001000.1)", "m and m", "-m / m",
    "sum_over_time(m[5m:30s])", "max_over_time(sum_over_time(m[1m])[5m:20s])", "avg_over_time((m @ 1700001000.1)[2m:20s])",
    "topk(2, m)", "quantile_over_time(0.5, m[3m])", "predict_linear(m[5m], 60)", "absent(m)", "nothing",
]


@pytest.fixture(scope="module")
def pair(module_stage):
    om = os.path.join(module_stage.folder, "m.om")
    with open(om, "w") as f:
        f.write("# TYPE m gauge\n")
        for i in range(7):
            for t in range(START, END + 1, STEP):
                if (t // STEP + i) % 17:
                    f.write(f'm{{i="{i}"}} {(t // STEP + i) * 7919 % 1000} {t}\n')
        f.write("# EOF\n")
    servers = []
    for binary, name in ((harness.BINARY, "tested"), (harness.PROMETHEUS, "reference")):
        data = os.path.join(module_stage.folder, name + "-data")
        os.makedirs(data)
        r = harness.run_tool(binary, "tsdb", "create-blocks-from", "openmetrics", om, data)
        assert r.returncode == 0, r.stderr
        flags = [FEATURE, "--storage.tsdb.retention.time=100y"]
        servers.append(module_stage.run(harness.Server(binary, module_stage.folder, "global: {}\n", flags, name=name, data=data)))
    return servers


def samples(server, path, params):
    return server.get(f"/api/v1/{path}", {"stats": "all", **params}).data["stats"]["samples"]


@pytest.mark.parametrize("step", [15, 60, 400.5])
def test_steps_of_ranges_take_what_they_take_in_prometheus(pair, step):
    for query in QUERIES:
        ours, theirs = (samples(s, "query_range", {"query": query, "start": AT - 1200, "end": AT, "step": step}) for s in pair)
        for key in ("totalQueryableSamplesPerStep", "totalQueryableSamples"):
            assert ours[key] == theirs[key], query
        assert sum(n for _, n in ours["totalQueryableSamplesPerStep"]) == ours["totalQueryableSamples"]
        if not harness.IS_REFERENCE:  # 3.14 tells these, 2.42 does not
            assert [t for t, _ in ours["samplesReadPerStep"]] == [t for t, _ in ours["totalQueryableSamplesPerStep"]]
            assert sum(n for _, n in ours["samplesReadPerStep"]) == ours["samplesRead"], query


def test_an_instant_has_one_step(pair):
    for query in QUERIES + ["m[1m]", "m[1m:7s]", "'text'", "1"]:
        ours, theirs = (samples(s, "query", {"query": query, "time": AT}) for s in pair)
        for key in ("totalQueryableSamplesPerStep", "totalQueryableSamples"):
            assert ours[key] == theirs[key], query
        assert len(ours["totalQueryableSamplesPerStep"]) == 1


def test_who_does_not_ask_for_all_is_not_told_by_step(pair):
    for value in ("true", "", None):
        params = {"query": "m", "time": AT, **({} if value is None else {"stats": value})}
        got = pair[0].get("/api/v1/query", params).json
        assert ("stats" in got["data"]) == bool(value)
        assert "PerStep" not in str(got)
        assert "warnings" not in got


@pytest.mark.skipif(harness.IS_REFERENCE, reason="since 3.14")
def test_other_values_are_warned_of(pair):
    got = pair[0].get("/api/v1/query", {"query": "m", "time": AT, "stats": 'a"b', "limit": 1}).json
    assert got["data"]["stats"]["samples"]["totalQueryableSamples"] > 0
    assert got["warnings"] == ["results truncated due to limit",
                               'value "a\\"b" for parameter "stats" is deprecated and will be rejected in the next major release, '
                               'use "true" or "all"']


def test_without_the_feature_all_is_as_true(stage):
    s = stage.server("global: {}\n")
    assert "PerStep" not in str(samples(s, "query", {"query": "1", "time": AT}))
