"""Exemplars from an OpenMetrics target to /api/v1/query_exemplars, beside the reference.

Both servers scrape the same target; exemplars without a timestamp of their own get the time of a scrape,
which differs from server to server, so those are compared without it. The reference leaves backslashes
in the values of exemplars' labels as they are sent (in 3.x, too); the format says they are escapes, and so
they are for us.
"""

import re

import pytest

import harness
import served

STEPS = 7
BARE = 99  # a page without exemplars
ON = ["--enable-feature=exemplar-storage"]
TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
RELABEL = """
    metric_relabel_configs:
      - {source_labels: [__name__], regex: 'dropped.*', action: drop}
      - {source_labels: [path], regex: '(.+)', target_label: route}
      - {regex: path, action: labeldrop}
"""


def page(step):
    """What the target shows: what stays the same, what is new, what is too old."""
    if step == BARE:
        return f"# TYPE page gauge\npage {step}\n# EOF\n"
    t = 1700000000 + step
    return f"""# HELP rpc_seconds How long.
# TYPE rpc_seconds histogram
rpc_seconds_bucket{{path="/a",le="0.1"}} {step} # {{trace_id="t{step}",span_id="s\\"{step}\\\\"}} 0.0{step + 1} {t}.25
rpc_seconds_bucket{{path="/a",le="1.5"}} {step + 1} # {{trace_id="same",x="ä"}} 0.5 1700000000.5
rpc_seconds_bucket{{path="/a",le="+Inf"}} {step + 2} # {{trace_id="untimed"}} 12.5
rpc_seconds_count{{path="/a"}} {step + 2}
rpc_seconds_sum{{path="/a"}} {step * 1.5}
rpc_seconds_bucket{{path="/b",le="+Inf"}} {step} # {{}} 1e-7 {t}
rpc_seconds_count{{path="/b"}} {step}
rpc_seconds_sum{{path="/b"}} {step}
# TYPE requests counter
requests_total{{code="200"}} {step} # {{a="<&>",id="u{step}"}} {step}
requests_total{{code="500"}} {step} # {{id="back"}} {step} {1700000100 - step}
requests_total{{code="long"}} {step} # {{id="{'x' * 127}"}} 1 {t}
requests_total{{code="128"}} {step} # {{id="{'ä' * 126}"}} 1 {t}
# TYPE dropped counter
dropped_total {step} # {{id="dropped"}} 1 {t}
# TYPE page gauge
page {step}
{'# TYPE late counter' + chr(10) + 'late_total 1 # {id="late"} 1 1700000050' + chr(10) if step > 2 else ''}# EOF
"""


class Target(served.Served):
    """Shows the page of `step` until told otherwise."""

    protocol = "HTTP/1.0"

    def __init__(self):
        self.step = 0
        super().__init__()

    def get(self, request):
        self.send(request, body=page(self.step).encode(), headers={"Content-Type": TYPE})

    def show_all_to(self, *servers):
        """Goes on to the next page when all servers have the one before."""
        for step in range(STEPS):
            self.show(step, *servers)

    def show(self, step, *servers):
        self.step = step
        for server in servers:
            harness.wait_for(f"{server.name} to have page {step}",
                             lambda: list(server.vector("page").values()) == [str(step)])


def config(port, storage=""):
    return f"""
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: j
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]{RELABEL}{storage}"""


@pytest.fixture
def target():
    t = Target()
    yield t
    t.close()


@pytest.fixture
def stage(tmp_path):
    with harness.Stage(tmp_path) as s:
        yield s


def exemplars(server, query, **params):
    return server.get("/api/v1/query_exemplars", {"query": query, **params})


UNTIMED = ("untimed",)


def comparable(data, escaped=False):
    """Without the times that are those of scrapes, and without escapes."""
    for series in data:
        for e in series["exemplars"]:
            if escaped:
                e["labels"] = {k: re.sub(r"\\(.)", r"\1", v) for k, v in e["labels"].items()}
            if e["labels"].get("trace_id") in UNTIMED or e["labels"].get("id", "").startswith("u"):
                assert e["timestamp"] > 1700100000, e
                e["timestamp"] = None
    return data


QUERIES = [
    ("rpc_seconds_bucket", {}),
    ("histogram_quantile(0.9, sum(rate(rpc_seconds_bucket[1m0s])) by (le))", {}),
    ('rpc_seconds_bucket{le=~"1.*"} / requests_total{code!="500"}', {}),
    ('requests_total{code="500"}', {}),
    ('{route="/b"} or rpc_seconds_bucket{route="/b"}', {}),
    ('sum_over_time(max(rpc_seconds_bucket)[5m:1m])', {}),
    ("rpc_seconds_bucket", {"start": "1700000001", "end": "1700000003.25"}),
    ("rpc_seconds_bucket", {"start": "1700000002", "end": "1700000002"}),
    ("rpc_seconds_bucket", {"start": "2023-11-14T22:13:22Z", "end": "2023-11-14T22:13:24.250Z"}),
    ('{__name__=~".+"}', {"end": "1700000060"}),
    ('{__name__=~".+"}', {}),
    ("dropped_total", {}),
    ("nothing", {}),
]


def test_answers_are_those_of_the_reference(stage, target):
    ours = stage.server(config(target.port), flags=ON)
    theirs = stage.reference(config(target.port), flags=ON)
    target.show_all_to(ours, theirs)
    seen = 0
    for query, params in QUERIES:
        got, want = exemplars(ours, query, **params).data, exemplars(theirs, query, **params).data
        assert comparable(got, harness.IS_REFERENCE) == comparable(want, escaped=True), (query, params)
        seen += sum(len(s["exemplars"]) for s in want)
    assert seen > 50
    # The wire itself, byte by byte: numbers, escapes and the order of keys.
    for query in ['rpc_seconds_bucket{le="1.5"}', 'rpc_seconds_bucket{route="/b"}', 'requests_total{code="128"}']:
        got, want = exemplars(ours, query), exemplars(theirs, query)
        assert got.body == want.body and len(got.body) > 200
    for query, params in [("1", {}), (")", {}), ("up", {"start": "5", "end": "1"}), ("up", {"start": "x"})]:
        got, want = exemplars(ours, query, **params), exemplars(theirs, query, **params)
        assert got.status == want.status, query


def metrics(server):
    lines = server.get("/metrics").text.splitlines()
    return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}


@pytest.mark.skipif(harness.IS_REFERENCE, reason="2.x counts some of these otherwise")
def test_our_own_metrics_tell(stage, target):
    ours = stage.server(config(target.port, "\nstorage: {exemplars: {max_exemplars: 1000}}"), flags=ON)
    target.show_all_to(ours)
    m = metrics(ours)
    # /a: 0.1 (7), 1 (1), +Inf (1); /b (7); 200 (7), 500 (1), 128 (7 times another time), late (1)
    assert m["prometheus_tsdb_exemplar_exemplars_in_storage"] == 7 + 1 + 1 + 7 + 7 + 1 + 7 + 1
    assert m["prometheus_tsdb_exemplar_exemplars_appended_total"] == m["prometheus_tsdb_exemplar_exemplars_in_storage"]
    assert m["prometheus_tsdb_exemplar_series_with_exemplars_in_storage"] == 8
    assert m["prometheus_tsdb_exemplar_max_exemplars"] == 1000
    assert m["prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds"] == 1700000000.25
    late = m["prometheus_tsdb_exemplar_out_of_order_exemplars_total"]
    assert late >= 6 and late <= metrics(ours)["prometheus_target_scrapes_exemplar_out_of_order_total"]
    harness.wait_for("a scrape that is fine", lambda: ours.target("j")["health"] == "up")


def test_another_size_keeps_the_newest(stage, target):
    small = "\nstorage: {exemplars: {max_exemplars: 5}}"
    ours = stage.server(config(target.port), flags=ON)
    target.show_all_to(ours)

    def held():
        return [e for s in exemplars(ours, '{__name__=~".+"}').data for e in s["exemplars"]]

    target.show(BARE, ours)  # else what had to go comes again
    before = held()
    assert len(before) == 32
    ours.write_config(config(target.port, small))
    assert ours.reload().status == 200
    after = held()
    assert len(after) == 5 and all(e in before for e in after)
    assert {e["labels"].get("trace_id") for e in after} & {"t6"}  # of the last page that brought new ones
    ours.write_config(config(target.port, "\nstorage: {exemplars: {max_exemplars: 0}}"))
    assert ours.reload().status == 200
    assert held() == []
    ours.write_config(config(target.port))  # not said: the default again
    assert ours.reload().status == 200
    target.show(0, ours)
    assert len(held()) == 7


def test_without_the_feature_nothing_is_kept(stage, target):
    ours = stage.server(config(target.port, "\nstorage: {exemplars: {max_exemplars: 1000}}"))
    target.show_all_to(ours)
    answer = exemplars(ours, '{__name__=~".+"}')
    assert answer.status == 200 and answer.text == '{"status":"success","data":[]}'
    harness.wait_for("its samples", lambda: ours.vector("requests_total"))
