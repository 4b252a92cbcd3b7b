"""The calls Grafana's Prometheus data source makes, as it makes them, and what it reads of the answers.

The data is a made file (omdata.py) in blocks, and the server's own metrics as live data.
"""

import concurrent.futures
import gzip
import http.client
import json
import math
import os
import re
import socket
import time
import urllib.parse

import pytest

import harness
import omdata
from served import Target

AT = omdata.START + 9000.5
# What the data source's Go client sends, and Grafana's headers that come through it.
FROM_PLUGIN = {
    "User-Agent": "Grafana/13.1.0 prometheus/13.1.7", "Accept-Encoding": "gzip", "X-Grafana-Org-Id": "1", "X-Grafana-User": "admin",
    "X-Dashboard-Uid": "shop", "X-Panel-Id": "4", "X-Datasource-Uid": "prometheus", "X-Query-Group-Id": "6f1c", "FromAlert": "false",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Cookie": "grafana_session=" + "x" * 300,
}
FROM_BROWSER = {**FROM_PLUGIN, "Accept": "application/json, text/plain, */*", "Accept-Encoding": "gzip, deflate, br, zstd",
                "X-Grafana-Cache": "private, max-age=60", "User-Agent": "Mozilla/5.0"}


@pytest.fixture(scope="module")
def server(module_stage):
    path = os.path.join(module_stage.folder, "made.om")
    data = os.path.join(module_stage.folder, "data")
    omdata.write(path)
    r = harness.run_tool(harness.BINARY, "tsdb", "create-blocks-from", "openmetrics", path, data, timeout=300)
    assert r.returncode == 0, r.stderr
    s = harness.Server(harness.BINARY, module_stage.folder, "{}", ["--storage.tsdb.retention.time=100y"], data=data)
    s.write_config({"global": {"scrape_interval": "1s"}, "scrape_configs": [
        {"job_name": "self", "static_configs": [{"targets": [f"127.0.0.1:{s.port}"]}]}]})
    module_stage.run(s)
    harness.wait_for("the first scrape", lambda: s.vector("up"), 30)
    return s


def api(server, method, path, params, headers=FROM_PLUGIN, **kw):
    """As the plugin sends it: POST carries a form, GET a query string."""
    if method == "POST":
        return harness.request(server.port, "POST", "/api/v1/" + path, form=params, headers=headers, **kw)
    return harness.request(server.port, "GET", "/api/v1/" + path, params=params, headers=headers, **kw)


both_methods = pytest.mark.parametrize("method", ["POST", "GET"])


# --- (a) save & test


@both_methods
def test_health_probe(server, method):
    answer = api(server, method, "query", {"query": "1+1", "time": "4"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body == b'{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}'


def test_health_probe_with_timeout(server):
    assert api(server, "POST", "query", {"query": "1+1", "time": "4", "timeout": "60s"}).data["result"] == [4, "2"]


def test_buildinfo(server):
    data = api(server, "GET", "status/buildinfo", {}).data
    assert set(data) == {"version", "revision", "branch", "buildUser", "buildDate", "goVersion"}  # no "features": that means Mimir
    assert all(isinstance(v, str) for v in data.values())
    assert re.match(r"\d+\.\d+\.\d+", data["version"])


def test_buildinfo_is_get_only(server):
    answer = api(server, "POST", "status/buildinfo", {})
    assert answer.status == 405 and "GET" in answer.headers["Allow"]


# --- (b), (c) panels


@both_methods
def test_range_query(server, method):
    start, end, step = omdata.START + 3600, omdata.START + 7200, 60
    expr = 'sum by (route) (rate(http_requests_total{job="web"}[1m0s]))'  # $__rate_interval has zero components
    data = api(server, method, "query_range", {"query": expr, "start": str(start), "end": str(end), "step": str(step)}).data
    assert data["resultType"] == "matrix"
    routes = [e["metric"]["route"] for e in data["result"]]
    assert routes == sorted(routes) and len(routes) == 3
    for e in data["result"]:
        times = [t for t, _ in e["values"]]
        assert times == list(range(start, end + 1, step))
        assert all(isinstance(v, str) and float(v) >= 0 for _, v in e["values"])


@pytest.mark.parametrize("start, step", [("1700010000.5", "15"), ("1700010000.1234567", "0.5"), ("1.7e9", "86400"), ("1700010000", "1m")])
def test_number_forms(server, start, step):
    data = api(server, "POST", "query_range", {"query": "vector(1)", "start": start, "end": "1700010300.75", "step": step}).data
    first = data["result"][0]["values"][0][0]
    assert abs(first - float(start)) < 0.001


def test_timestamps_have_three_decimals_or_none(server):
    body = api(server, "POST", "query_range", {"query": "vector(1)", "start": "1700010000.5", "end": "1700010001.5", "step": "0.5"}).text
    assert '[1700010000.500,"1"],[1700010001,"1"],[1700010001.500,"1"]' in body


def test_end_in_the_future(server):
    now = time.time()
    data = api(server, "POST", "query_range", {"query": "up", "start": str(int(now) - 60), "end": str(int(now) + 3600), "step": "15"}).data
    assert data["result"]


def test_no_data_is_an_empty_list(server):
    for method in ("GET", "POST"):
        answer = api(server, method, "query_range", {"query": "nothing", "start": "1", "end": "2", "step": "1"})
        assert answer.text == '{"status":"success","data":{"resultType":"matrix","result":[]}}'
        assert api(server, method, "query", {"query": "nothing"}).text == '{"status":"success","data":{"resultType":"vector","result":[]}}'


def test_resolution_limit(server):
    ok = api(server, "POST", "query_range", {"query": "vector(1)", "start": "0", "end": "11000", "step": "1"})
    assert len(ok.data["result"][0]["values"]) == 11001
    over = api(server, "POST", "query_range", {"query": "vector(1)", "start": "0", "end": "11001", "step": "1"})
    assert over.status == 400 and over.json["errorType"] == "bad_data" and "exceeded maximum resolution of 11,000 points" in over.json["error"]


def test_instant_types(server):
    def got(q):
        return api(server, "POST", "query", {"query": q, "time": str(AT)}).data

    assert got("up")["resultType"] == "vector"
    assert all(e["value"][0] == AT for e in got("up")["result"])
    matrix = got('up{job="node"}[5m]')
    assert matrix["resultType"] == "matrix" and len(matrix["result"][0]["values"]) == 20
    assert got('"text"')["result"] == [AT, "text"]
    assert got("time()")["result"] == [AT, repr(AT)]


def test_values_are_texts(server):
    body = api(server, "POST", "query", {"query": 'odd_value[5m]', "time": str(AT)}).text
    values = set(re.findall(r'\[[\d.]+,"([^"]*)"\]', body))
    assert {"NaN", "+Inf", "-Inf", "0", "-0", "5e-324", "-1", "0.1", "0.3333333333333333", "9007199254740992", "1e+21", "1e-07",
            "1.7976931348623157e+308"} == values


def test_labels_with_odd_bytes(server):
    e = api(server, "POST", "query", {"query": "odd_label", "time": str(AT)}).data["result"][0]
    assert e["metric"] == {"__name__": "odd_label", "instance": "odd:1", "job": "odd", "text": 'café \\ " \n <&>'}


def test_url_and_form_are_merged(server):
    """customQueryParameters stay in the URL of a POST; the form's value comes first."""
    path = "/api/v1/query?" + urllib.parse.urlencode({"time": "4", "query": "3", "tenant": "a"})
    assert harness.request(server.port, "POST", path, form={"query": "1+1"}).data["result"] == [4, "2"]


def test_post_with_everything_in_the_url(server):
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": "1+1", "time": "4"})
    assert harness.request(server.port, "POST", path, form={}).data["result"] == [4, "2"]


def test_form_with_charset(server):
    headers = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
    assert harness.request(server.port, "POST", "/api/v1/query", form={"query": "1+1", "time": "4"}, headers=headers).data["result"] == [4, "2"]


def test_unknown_parameters_and_headers_are_ignored(server):
    params = {"query": "1+1", "time": "4", "max_samples_processed_warning_threshold": "1e9", "nonsense": "1"}
    headers = {**FROM_PLUGIN, **{f"X-Extra-{n}": "y" * 1000 for n in range(60)}}
    assert api(server, "GET", "query", params, headers=headers).data["result"] == [4, "2"]


def test_stats(server):
    data = api(server, "POST", "query", {"query": "up", "time": str(AT), "stats": "all"}).data
    assert isinstance(data["stats"]["samples"]["totalQueryableSamples"], int)
    assert isinstance(data["stats"]["timings"]["evalTotalTime"], (int, float))


@both_methods
@pytest.mark.parametrize("query, status, kind, text", [
    ("sum(", 400, "bad_data", r'^invalid parameter "query": 1:5: parse error: '),
    ("foo(up)", 400, "bad_data", r'unknown function with name "foo"'),
    ("up[5m", 400, "bad_data", r"parse error"),
    ("up + on (job) http_requests_total", 422, "execution", r"many-to-many|multiple matches|duplicate series"),
    ("{}", 400, "bad_data", r"must contain at least one non-empty matcher"),
])
def test_errors(server, method, query, status, kind, text):
    answer = api(server, method, "query", {"query": query, "time": str(AT)})
    got = answer.json
    assert answer.status == status and got["status"] == "error" and got["errorType"] == kind
    assert re.search(text, got["error"]), got["error"]
    assert got.get("data") is None


@pytest.mark.parametrize("params, text", [
    ({"query": "up", "start": "2", "end": "1", "step": "1"}, 'invalid parameter "end": end timestamp must not be before start time'),
    ({"query": "up", "start": "1", "end": "2", "step": "0"}, 'invalid parameter "step": zero or negative query resolution step widths'),
    ({"query": "up", "start": "x", "end": "2", "step": "1"}, 'invalid parameter "start": cannot parse "x" to a valid timestamp'),
    ({"query": "up", "start": "1", "end": "2", "step": "x"}, 'invalid parameter "step": cannot parse "x" to a valid duration'),
    ({"query": "up[5m]", "start": "1", "end": "2", "step": "1"}, 'invalid expression type "range vector" for range query'),
])
def test_range_errors(server, params, text):
    answer = api(server, "POST", "query_range", params)
    assert answer.status == 400 and answer.json["errorType"] == "bad_data" and text in answer.json["error"], answer.text


# --- (d), (e) exemplars and start


@both_methods
def test_exemplar_probe_with_milliseconds(server, method):
    now = int(time.time() * 1000)
    answer = api(server, method, "query_exemplars", {"query": "test", "start": str(now - 60_000), "end": str(now)})
    assert answer.status == 200 and answer.text == '{"status":"success","data":[]}'


def test_exemplars_of_an_expression(server):
    answer = api(server, "POST", "query_exemplars", {
        "query": "histogram_quantile(0.9, sum(rate(http_request_duration_seconds_bucket[1m0s])) by (le))",
        "start": str(omdata.START), "end": str(omdata.START + 60)})
    assert answer.data == []


EXEMPLARS = """# TYPE work_seconds histogram
work_seconds_bucket{le="0.1"} 8 # {trace_id="ab12"} 0.067 %(t).3f
work_seconds_bucket{le="1.0"} 9 # {trace_id="cd34"} 0.7 %(t).3f
work_seconds_bucket{le="+Inf"} 10
work_seconds_count 10
work_seconds_sum 12.5
# TYPE done counter
done_total{kind="x"} 7 # {trace_id="ef56",span_id="1"} 1 %(t).3f
# EOF
"""


def test_exemplars_beside_prometheus(stage):
    """Exemplars of a scrape, as Grafana asks for them, here and in Prometheus."""
    target = Target()
    target.content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    target.text = EXEMPLARS % {"t": time.time() - 5}
    config = {"global": {"scrape_interval": "500ms"}, "scrape_configs": [{"job_name": "t", "static_configs": [{"targets": [target.address]}]}]}
    flags = ["--enable-feature=exemplar-storage"]
    try:
        servers = [stage.server(config, name="tested", flags=flags), stage.reference(config, flags=flags)]
        for s in servers:
            harness.wait_for("the scrape", lambda: s.vector("done_total"), 20)
        for query, n in (("histogram_quantile(0.9, sum(rate(work_seconds_bucket[1m0s])) by (le)) + on () done_total", 3),
                         ("work_seconds_bucket", 2), ('done_total{kind="x"}', 1), ("nothing", 0)):
            answers = []
            for s in servers:
                data = api(s, "POST", "query_exemplars", {"query": query, "start": str(time.time() - 60), "end": str(time.time())}).data
                answers.append([(harness.series_key(e["seriesLabels"]), e["exemplars"]) for e in data])
            assert answers[0] == answers[1] and len(answers[0]) == n, (query, answers)
        far = api(servers[0], "GET", "query_exemplars", {"query": "done_total", "start": "1", "end": "2"}).data
        assert far == []
    finally:
        target.close()


def test_rules_and_alerts(server):
    assert api(server, "GET", "rules", {}).data == {"groups": []}
    params = [("file", "a"), ("file[]", "a"), ("rule_group", "g"), ("rule_name[]", "n")] + ([] if harness.IS_REFERENCE else [
        ("exclude_alerts", "true"), ("group_limit", "10")])
    answer = harness.request(server.port, "GET", "/api/v1/rules?" + urllib.parse.urlencode(params))
    assert answer.data == {"groups": []}
    assert api(server, "GET", "alerts", {}).data == {"alerts": []}
    assert api(server, "GET", "alertmanagers", {}).data == {"activeAlertmanagers": [], "droppedAlertmanagers": []}


# --- (f) editor, builder, browser


WINDOW = {"start": str(omdata.START - 60), "end": str(omdata.START + omdata.SECONDS + 3600)}


@both_methods
def test_label_names(server, method):
    names = api(server, method, "labels", {**WINDOW, "limit": "40000"}, headers=FROM_BROWSER).data
    assert names == sorted(names) and "__name__" in names and "route" in names
    some = api(server, method, "labels", {**WINDOW, "match[]": '{__name__="http_requests_total"}'}, headers=FROM_BROWSER).data
    assert some == ["__name__", "instance", "job", "method", "route", "status_code"]
    several = harness.request(server.port, method, "/api/v1/labels?" + urllib.parse.urlencode(
        [("match[]", "node_load1"), ("match[]", "redis_db_keys"), *WINDOW.items()]), form={} if method == "POST" else None).data
    assert several == ["__name__", "db", "instance", "job"]


def test_label_values(server):
    names = api(server, "GET", "label/__name__/values", {**WINDOW, "limit": "40000"}, headers=FROM_BROWSER).data
    assert names == sorted(names, key=lambda s: s.encode()) and "node_load1" in names
    jobs = api(server, "GET", "label/job/values", {**WINDOW, "match[]": '{__name__=~"up|x",job!="odd"}'}, headers=FROM_BROWSER).data
    assert jobs == ["node", "postgres", "redis", "web"]
    assert api(server, "GET", "label/nothing/values", WINDOW, headers=FROM_BROWSER).data == []


SELECTORS = ['{__name__=~".*load.*"}', '{__name__=~"(?i).*LOAD.*"}', '{__name__=~"node_load1|node_load5|node_load15",}', '{__name__=~"node_load.+",__name__!="",}',
             '{__name__="node_load1",instance=~".*9100.*"}', 'node_load1{job="node"}']


@pytest.mark.parametrize("selector", SELECTORS)
def test_selectors_of_the_browser(server, selector):
    names = api(server, "GET", "label/__name__/values", {**WINDOW, "match[]": selector}, headers=FROM_BROWSER).data
    assert names and all(n.startswith("node_load") for n in names)


@both_methods
def test_validating_an_empty_selector(server, method):
    answer = api(server, method, "labels", {**WINDOW, "match[]": "{}"}, headers=FROM_BROWSER)
    assert answer.status == 400 and "match[] must contain at least one non-empty matcher" in answer.json["error"]


@both_methods
def test_series(server, method):
    data = api(server, method, "series", {"match[]": 'up{job=~"node|redis"}', **WINDOW}, headers=FROM_BROWSER).data
    assert sorted(data, key=str) == [
        {"__name__": "up", "instance": "db-1:9121", "job": "redis"}, {"__name__": "up", "instance": "node-1:9100", "job": "node"}]
    assert api(server, method, "series", {"match[]": "nothing", **WINDOW}).data == []
    assert api(server, method, "series", WINDOW).status == 400


@pytest.mark.skipif(harness.IS_REFERENCE, reason="limits of lists came after 2.42")
def test_limits(server):
    answer = api(server, "GET", "label/__name__/values", {**WINDOW, "limit": "3"})
    assert len(answer.data) == 3 and answer.json["warnings"] == ["results truncated due to limit"]
    every = api(server, "GET", "label/__name__/values", {**WINDOW, "limit": "0"})
    assert len(every.data) > 3 and "warnings" not in every.json
    assert len(api(server, "POST", "series", {"match[]": '{job="node"}', **WINDOW, "limit": "2"}).data) == 2
    assert len(api(server, "POST", "labels", {**WINDOW, "limit": "2"}).data) == 2
    got = api(server, "POST", "query", {"query": '{job="node"}', "time": str(AT), "limit": "2"})
    assert len(got.data["result"]) == 2 and got.json["warnings"] == ["results truncated due to limit"]


def test_metadata(server):
    data = api(server, "GET", "metadata", {"limit": "40000"}, headers=FROM_BROWSER).data
    assert len(data) > 5
    for name, entries in data.items():
        assert entries and set(entries[0]) == {"type", "unit", "help"}
        assert all(isinstance(entries[0][k], str) for k in entries[0])
        assert entries[0]["type"] in ("counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown")
    assert api(server, "GET", "metadata", {"metric": "no_such_metric"}).text == '{"status":"success","data":{}}'
    one = next(iter(data))
    assert list(api(server, "GET", "metadata", {"metric": one}).data) == [one]


@pytest.mark.skipif(harness.IS_REFERENCE, reason="2.42 answers 405: it refuses what Grafana sends")
def test_label_values_by_post(server):
    assert api(server, "POST", "label/job/values?match[]=up", {}).data


# --- (g) variables


def test_query_result_variable(server):
    data = api(server, "POST", "query", {"query": 'count by (job) (up)', "time": str(math.ceil(AT))}).data
    assert all(isinstance(e["metric"], dict) and isinstance(e["value"][1], str) for e in data["result"]) and len(data["result"]) == 4


def test_drilldown_recent_metrics(server):
    """POST with no time and everything in the URL."""
    expr = 'group by (__name__) ({__name__!="",job="self",}) unless (group by (__name__) ({__name__!="",job="self",} offset 30m))'
    answer = harness.request(server.port, "POST", "/api/v1/query?" + urllib.parse.urlencode({"query": expr}), form={})
    assert {e["metric"]["__name__"] for e in answer.data["result"]} >= {"up", "scrape_duration_seconds"}


# --- transport


def test_gzip_only(server):
    """Grafana decodes gzip, br and raw deflate, and nothing else; zlib's deflate would break it."""
    for accept in ("gzip", "gzip, deflate, br, zstd"):
        answer = api(server, "GET", "label/__name__/values", WINDOW, headers={"Accept-Encoding": accept})
        assert answer.headers["Content-Encoding"] == "gzip" and gzip.decompress(answer.raw) == answer.body
        assert answer.data
    for accept in ("identity", "gzip;q=1.0", ""):
        answer = api(server, "GET", "label/__name__/values", WINDOW, headers={"Accept-Encoding": accept})
        assert answer.headers["Content-Encoding"] is None and answer.data
    if not harness.IS_REFERENCE:
        assert "Accept-Encoding" in ",".join(answer.headers.get_all("Vary"))


def test_keep_alive_reuse(server):
    conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    conn.connect()
    sock = conn.sock
    try:
        for n in range(200):
            form = {"query": f"vector({n})", "time": "4"}
            answer = harness.request(server.port, "POST", "/api/v1/query", form=form, headers=FROM_PLUGIN, connection=conn)
            assert answer.data["result"][0]["value"] == [4, str(n)]
            bad = harness.request(server.port, "GET", "/api/v1/query", params={"query": "("}, headers=FROM_PLUGIN, connection=conn)
            assert bad.status == 400
        assert conn.sock is sock, "the connection was closed between requests"
    finally:
        conn.close()


def test_a_connection_idle_for_a_while_still_works(server):
    conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        harness.request(server.port, "GET", "/api/v1/query", params={"query": "1"}, connection=conn)
        time.sleep(12)
        assert harness.request(server.port, "GET", "/api/v1/query", params={"query": "2", "time": "4"}, connection=conn).data["result"] == [4, "2"]
    finally:
        conn.close()


def test_pipelined_bytes_and_split_requests(server):
    """A request may come in pieces of any size."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        body = b"query=1%2B1&time=4"
        raw = (b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
               b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        for i in range(0, len(raw), 7):
            s.sendall(raw[i:i + 7])
            time.sleep(0.002)
        got = b""
        while b'[4,"2"]' not in got:
            piece = s.recv(65536)
            assert piece, got
            got += piece


def test_thirty_requests_at_once(server):
    def panel(n):
        if n % 3 == 0:
            params = {"query": "sum by (route) (rate(http_requests_total[5m0s]))", "start": str(omdata.START + 600), "end": str(omdata.START + 16000), "step": "15"}
            return len(api(server, "POST", "query_range", params).data["result"]) == 3
        if n % 3 == 1:
            return len(api(server, "POST", "query", {"query": 'up', "time": str(AT)}).data["result"]) == 6
        return api(server, "POST", "query_exemplars", {"query": "up", "start": "1", "end": "2"}).data == []

    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        assert all(pool.map(panel, range(120)))


def test_a_match_of_more_than_a_mebibyte(server):
    """The metrics browser joins all metric names it has seen into one regular expression."""
    names = [f"some_metric_name_with_a_long_tail_{n}_total" for n in range(28_000)] + ["node_load1"]
    match = '{__name__=~"' + "|".join(names) + '"}'
    assert len(match) > 1 << 20
    answer = api(server, "POST", "labels", {**WINDOW, "match[]": match}, timeout=60)
    assert answer.data == ["__name__", "instance", "job"]
    assert len(api(server, "POST", "series", {**WINDOW, "match[]": match}, timeout=60).data) == 1


def test_long_urls(server):
    names = "|".join(f"name_{n}" for n in range(40_000)) + "|node_load1"
    params = {**WINDOW, "match[]": '{__name__=~"' + names + '"}'}
    assert 300_000 < len(urllib.parse.urlencode(params)) < 1 << 20
    assert api(server, "GET", "label/__name__/values", params, timeout=60).data == ["node_load1"]


def test_too_long_urls_are_refused(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
        got = b""
        try:
            s.sendall(b"GET /api/v1/query?query=" + b"1" * ((1 << 20) + 8192) + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        except OSError:
            pass  # it may answer and close before it has read everything
        try:
            got = s.recv(65536)
        except OSError:
            pass
    assert got == b"" or re.match(rb"HTTP/1.1 (431|414|413) ", got), got[:200]
    assert server.query("1", 4)["result"] == [4, "1"]


def test_bodies_over_ten_mebibytes_are_refused(server):
    answer = api(server, "POST", "series", {"match[]": "up", "x": "y" * ((10 << 20) + 100)}, timeout=60)
    assert answer.status == 400 and "error parsing form values" in answer.json["error"]
    assert server.query("1", 4)["result"] == [4, "1"]


def test_large_answers_are_whole(server):
    params = {"query": '{job="web"}', "start": str(omdata.START), "end": str(omdata.START + 16000), "step": "15"}
    answer = api(server, "POST", "query_range", params, timeout=60)
    assert len(answer.body) > 5_000_000 and len(answer.raw) < len(answer.body) / 3
    points = sum(len(e["values"]) for e in answer.data["result"])
    plain = api(server, "POST", "query_range", params, headers={}, timeout=60)
    assert sum(len(e["values"]) for e in plain.data["result"]) == points > 100_000


def test_paths_and_methods(server):
    assert server.get("/api/v1/nothing").status == 404
    assert server.get("/api/v1/nothing").text == "404 page not found\n"
    answer = harness.request(server.port, "PUT", "/api/v1/query")
    assert answer.status == 405 and {"GET", "POST", "OPTIONS"} <= set(answer.headers["Allow"].replace(" ", "").split(","))
    assert harness.request(server.port, "OPTIONS", "/api/v1/query").status == 204
    cors = harness.request(server.port, "GET", "/api/v1/query?query=1", headers={"Origin": "http://a.example"})
    assert cors.headers["Access-Control-Allow-Origin"] == "*" and "GET" in cors.headers["Access-Control-Allow-Methods"]


def test_probes(server):
    assert server.get("/-/healthy").status == 200
    if not harness.IS_REFERENCE:
        assert server.get("/-/healthy").text == "Prometheus Server is Healthy.\n"
        assert server.get("/-/ready").text == "Prometheus Server is Ready.\n"
    assert harness.request(server.port, "HEAD", "/-/healthy").status == 200
    assert server.get("/-/reload").status == 405


def test_other_status_pages(server):
    tsdb = server.get("/api/v1/status/tsdb").data
    assert tsdb["headStats"]["numSeries"] > 10 and tsdb["seriesCountByMetricName"][0]["value"] >= 1
    info = server.get("/api/v1/status/runtimeinfo").data
    assert info["reloadConfigSuccess"] is True and re.match(r"\d{4}-\d\d-\d\dT", info["startTime"])
    assert server.get("/api/v1/format_query", {"query": "sum(  up)by(job)"}).data == "sum by (job) (up)"
    assert server.get("/").status in (200, 302)


def test_own_metrics_are_scraped_and_parse(server):
    text = server.get("/metrics").text
    for name in ("prometheus_build_info", "prometheus_tsdb_head_series", "prometheus_config_last_reload_successful",
                 "process_resident_memory_bytes", "process_cpu_seconds_total", "prometheus_tsdb_head_samples_appended_total"):
        assert re.search(rf"^{name}[ {{]", text, re.M), name
    r = harness.subprocess.run([harness.PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True)
    assert "error while linting" not in r.stderr and r.returncode in (0, 3), r.stderr
    assert server.vector('up{job="self"}')


def test_promtool_can_ask(server):
    """Prometheus's own client is content with the answers."""
    r = harness.subprocess.run([harness.PROMTOOL, "query", "instant", f"http://127.0.0.1:{server.port}", 'up{job="self"}'],
                               capture_output=True, text=True, timeout=30)
    assert r.returncode == 0 and re.search("=> [01] @", r.stdout), r.stderr  # 0: the machine was busy
    r = harness.subprocess.run([harness.PROMTOOL, "query", "labels", f"http://127.0.0.1:{server.port}", "job"],
                               capture_output=True, text=True, timeout=30)
    assert r.returncode == 0 and "self" in r.stdout, r.stderr


def test_json_has_no_surprises(server):
    """No trailing newline; data before status would make the plugin buffer."""
    body = api(server, "GET", "labels", WINDOW).text
    assert body.startswith('{"status":"success","data":[') and body.endswith("}")
    assert list(json.loads(api(server, "POST", "query", {"query": "up"}).text)["data"])[0] == "resultType"
