"""The HTTP surface beside Prometheus: one table of requests, put to both over the same (empty) data.

Compared are the status, the headers that clients act on, and the body: to the byte where it is fixed,
by its shape where it holds times or names of the machine. What Debian's 2.42 does differently from the
3.x line, which is the specification, stands in its row."""

import json
import re
import socket

import pytest

import harness
from harness import request

HEADERS = ["Content-Type", "Location", "Allow", "X-Content-Type-Options", "Access-Control-Allow-Origin",
           "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Expose-Headers",
           "X-Prometheus-Stopping", "Content-Encoding"]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Row:
    """`body`: "same", "shape", or "any"; `want` replaces what 2.42 says where 3.x says otherwise."""

    def __init__(self, target, method="GET", headers=None, body=None, compare="same", want=None, status=None, skip=()):
        self.target, self.method, self.headers, self.body = target, method, headers or {}, body
        self.compare, self.want, self.status, self.skip = compare, want, status, skip

    def __str__(self):
        return f"{self.method} {self.target[:90]} {self.headers or ''}"


def bad(text, kind="bad_data"):
    return json.dumps({"status": "error", "errorType": kind, "error": text}, separators=(",", ":"))


def bad_time(name):
    # 2.42 writes "Invalid time value" with a capital
    return bad(f"invalid parameter \"{name}\": invalid time value for '{name}': cannot parse \"x\" to a valid timestamp")


def bad_range(kind):
    # 2.42 does not say which parameter
    return bad(f'invalid parameter "query": invalid expression type "{kind}" for range query, must be Scalar or instant Vector')


ROWS = [
    Row("/api/v1/query?query=1%2B1&time=4"),
    Row("/api/v1/query?query=1%2B1&time=4&stats=all", compare="shape"),
    Row("/api/v1/query?query=1%2B1", compare="shape"),
    Row("/api/v1/query?query=%22a%3Cb%22&time=1.5"),
    Row("/api/v1/query?query=vector(1e-7)&time=1.0625"),
    Row("/api/v1/query?query=1e300&time=4"),
    Row("/api/v1/query?query=-1e-300&time=4"),
    Row("/api/v1/query?query=NaN&time=-1.5"),
    Row("/api/v1/query?query=up&time=4"),
    Row("/api/v1/query?query=up%5B5m%5D&time=4"),
    Row("/api/v1/query?query=vector(1)&time=2015-07-01T20:10:51.781Z"),
    Row("/api/v1/query?query=vector(1)&time=1e9"),
    Row("/api/v1/query", want=bad('invalid parameter "query": unknown position: parse error: no expression found in input')),
    Row("/api/v1/query?query=sum("),
    Row("/api/v1/query?query=foo%7Ba%3D%22b%22%7D%20%2B%20*"),
    Row("/api/v1/query?query=1&time=x", want=bad_time("time")),
    Row("/api/v1/query?query=1&timeout=x"),
    # 2.42 does not know it
    Row("/api/v1/query?query=1&lookback_delta=x", status=400,
        want=bad('error parsing lookback delta duration: cannot parse "x" to a valid duration')),
    Row("/api/v1/query?query=1&timeout=0", compare="any"),
    Row("/api/v1/query?query=vector(1)%20%2B%20on()%20(vector(1)%20or%20label_replace(vector(2),%22a%22,%22b%22,%22%22,%22%22))&time=1",
        compare="any"),
    Row("/api/v1/query?time=4", "POST", FORM, "query=1%2B1"),
    Row("/api/v1/query?time=4&query=7", "POST", FORM, "query=1%2B1"),
    Row("/api/v1/query?query=1%2B1&time=4", "POST", FORM, ""),
    Row("/api/v1/query?time=4", "POST", {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}, "query=1%2B1"),
    Row("/api/v1/query?time=4&query=7", "POST", {"Content-Type": "application/json"}, "query=1%2B1"),
    Row("/api/v1/query?query=1&time=4;a=b&x=%zz", compare="shape"),
    Row("/api/v1/query_range?query=time()&start=0&end=2&step=1"),
    Row("/api/v1/query_range?query=1&start=0&end=1&step=500ms"),
    Row("/api/v1/query_range?query=1&start=0&end=11000&step=1"),
    Row("/api/v1/query_range?query=1&start=0&end=11001&step=1"),
    Row("/api/v1/query_range?query=1&start=2&end=1&step=1"),
    Row("/api/v1/query_range?query=1&start=1&end=2&step=0"),
    Row("/api/v1/query_range?query=1&start=1&end=2&step=1.5h"),
    Row("/api/v1/query_range?query=1&start=1&end=2&step=148966367200.372"),
    Row("/api/v1/query_range?query=1"),
    Row("/api/v1/query_range?query=1&start=1"),
    Row("/api/v1/query_range?query=%22a%22&start=1&end=2&step=1", want=bad_range("string")),
    Row("/api/v1/query_range?query=up%5B5m%5D&start=1&end=2&step=1", want=bad_range("range vector")),
    Row("/api/v1/query_exemplars?query=test&start=1795161078264&end=1795164678264"),
    Row("/api/v1/query_exemplars?query=1"),
    Row("/api/v1/query_exemplars?query=)"),
    Row("/api/v1/query_exemplars?query=a&start=5&end=1"),
    Row("/api/v1/format_query?query=sum(foo)by(bar)"),
    Row("/api/v1/format_query?query=foo%20%2F"),
    Row("/api/v1/labels"),
    Row("/api/v1/labels?start=x", want=bad_time("start")),
    Row("/api/v1/labels?start=10&end=5"),
    Row("/api/v1/labels?match[]=%7B%7D"),
    Row("/api/v1/labels?match[]=a%7B"),
    Row("/api/v1/labels?match[]=up", "POST", FORM, ""),
    Row("/api/v1/label/job/values"),
    Row("/api/v1/label/job/values?match[]=%7B__name__%3D~%22.%2B%22,%7D"),
    Row("/api/v1/label/%ff/values"),
    Row("/api/v1/label/a%2Fb/values"),
    Row("/api/v1/series"),
    Row("/api/v1/series?match[]=up"),
    Row("/api/v1/series?match[]=%7B%7D"),
    Row("/api/v1/series?match[]=%7B__name__%3D~%22.*%22%7D"),
    Row("/api/v1/series?match[]=a%7B"),
    Row("/api/v1/series?match[]=up;x"),
    # 2.42 says "not implemented", 3.x that it knows no such method
    Row("/api/v1/series", "DELETE", compare="any", status=405, skip=HEADERS),
    Row("/api/v1/series?match[]=%7B%7D&match[]=a%7B"),
    Row("/api/v1/targets/metadata?match_target=%7B%7D"),
    Row("/api/v1/metadata"),
    Row("/api/v1/metadata?limit=x"),
    Row("/api/v1/metadata?limit=0&metric=a"),
    # 3.x adds droppedTargetCounts
    Row("/api/v1/targets", want='{"status":"success","data":{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}}'),
    Row("/api/v1/targets?state=active", want='{"status":"success","data":{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":null}}'),
    Row("/api/v1/targets/metadata"),
    Row("/api/v1/targets/metadata?match_target=%7B"),
    Row("/api/v1/rules"),
    Row("/api/v1/rules?type=foo"),
    Row("/api/v1/rules?type=alert"),
    Row("/api/v1/alerts"),
    Row("/api/v1/alertmanagers"),
    Row("/api/v1/status/buildinfo", compare="shape"),
    Row("/api/v1/status/config", compare="shape"),
    Row("/api/v1/status/walreplay", compare="shape"),
    Row("/version", compare="shape"),
    Row("/-/healthy"),
    Row("/-/healthy", "HEAD"),
    Row("/-/ready"),
    Row("/-/reload"),
    Row("/-/quit"),
    Row("/-/reload", "POST"),
    Row("/-/reload", "PUT"),
    Row("/api/v1/labels", headers={"Origin": "http://grafana.example"}),
    Row("/api/v1/query?query=sum(", headers={"Origin": "http://grafana.example"}),
    Row("/api/v1/labels", headers={"Accept-Encoding": "gzip"}),
    Row("/api/v1/labels", headers={"Accept-Encoding": "gzip, deflate, br"}),
    # 2.42 knows no token with blanks around it; 3.x trims them
    Row("/api/v1/labels", headers={"Accept-Encoding": "gzip;q=1.0, *;q=0.1"}),
    Row("/api/v1/labels", headers={"Accept-Encoding": "identity"}),
    Row("/api/v1/labels", headers={"Accept": "text/html"}),
    Row("/api/v1/query", "OPTIONS"),
    Row("/api/v1/no/such/thing", "OPTIONS", headers={"Origin": "http://grafana.example"}),
    Row("/-/healthy", "OPTIONS"),
    Row("/api/v1/query", "PUT", FORM, ""),
    Row("/api/v1/query", "HEAD"),
    Row("/api/v1/labels", "PATCH", FORM, ""),
    Row("/api/v1/targets", "POST", FORM, ""),
    Row("/api/v1/series", "PATCH", FORM, "", skip=("Allow",)),
    Row("/-/healthy", "POST", FORM, ""),
    Row("/metrics", "POST", FORM, ""),
    Row("/no/such/page"),
    Row("/api/v1/no/such/thing"),
    Row("/api/v1/no/such/thing", "POST", FORM, ""),
    Row("/metrics/?a=1"),
    Row("//api/v1/query?query=1"),
    Row("/api/v1/../v1/labels"),
    # Prometheus strips /api/v1 and loses it: Location there is "/labels"
    Row("/api/v1/labels/", compare="any", skip=("Location",)),
]


@pytest.fixture(scope="module")
def both(module_stage):
    return (module_stage.server("global: {}\n", name="narthex"), module_stage.reference("global: {}\n"))


def shape(value):
    """Keys and types, without what varies."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(v) for v in value]
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def ask(server, row):
    return request(server.port, row.method, row.target, headers=row.headers, body=row.body)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_answers_as_prometheus_does(both, row):
    got, want = (ask(s, row) for s in both)
    assert got.status == (row.status or want.status), (got.text, want.text)
    for name in HEADERS:
        if name not in row.skip:
            assert got.headers.get(name) == want.headers.get(name), (name, got.text, want.text)
    if row.compare == "same":
        assert got.text == (row.want or want.text)
    elif row.compare == "shape":
        a, b = shape(got.json), shape(want.json)
        if "samples" in str(a):  # 3.x counts what was read, too
            a["data"]["stats"]["samples"].pop("samplesRead")
            b["data"]["stats"]["samples"].pop("totalQueryableSamplesPerStep", None)
        assert a == b


def test_vary_is_always_there(both):
    """3.x; 2.42 lacks it."""
    assert both[0].get("/api/v1/labels").headers.get_all("Vary") == ["Origin", "Accept-Encoding"]
    assert both[0].get("/-/healthy").headers.get_all("Vary") is None


def raw(port, data, timeout=10):
    """Sends bytes, returns all that comes until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        s.sendall(data)
        out = b""
        while True:
            try:
                more = s.recv(65536)
            except ConnectionResetError:
                return out
            if not more:
                return out
            out += more


def test_heads_up_to_a_mebibyte(both):
    for server in both:
        pad = "a" * ((1 << 20) - 300)
        assert request(server.port, "GET", f"/api/v1/query?query=1&pad={pad}").status == 200
    head = b"GET /api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\nX-Pad: " + b"a" * ((1 << 20) + 5000) + b"\r\n\r\n"
    for server in both:
        got = raw(server.port, head)
        assert got.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n"), got[:200]
        assert got.endswith(b"\r\n\r\n431 Request Header Fields Too Large")
        assert b"Connection: close\r\n" in got


def test_forms_up_to_ten_mebibytes(both):
    for server in both:
        form = "query=1%2B1&time=4&pad="
        full = form + "a" * ((10 << 20) - len(form))
        assert request(server.port, "POST", "/api/v1/query", headers=FORM, body=full).text.endswith('[4,"2"]}}')
        a = request(server.port, "POST", "/api/v1/query", headers=FORM, body=full + "a")
        assert a.status == 400 and "no expression found in input" in a.text
        a = request(server.port, "POST", "/api/v1/series?match[]=up", headers=FORM, body=full + "a")
        assert (a.status, a.json["error"]) == (400, "error parsing form values: http: POST too large")


def test_nonsense_is_refused_and_the_server_lives(both):
    for server in both:
        for text in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 5000 + b"x",
                     b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"):
            try:
                got = raw(server.port, text, timeout=2)
            except TimeoutError:
                got = b""  # it waits for more
            assert not got or got[:12] in (b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 505"), (text, got[:200])
        assert server.get("/-/healthy").status == 200


def test_below_a_prefix(stage):
    flags = ["--web.external-url=http://proxy.example/prom/"]
    a = stage.server("global: {}\n", name="narthex", flags=flags, wait=False)
    b = stage.run(harness.Server(harness.PROMETHEUS, stage.folder, "global: {}\n", name="reference", flags=flags), wait=False)
    for s in (a, b):
        harness.wait_for("the prefix to answer", lambda s=s: request(s.port, "GET", "/prom/-/ready").status == 200)
        assert request(s.port, "GET", "/-/ready").status == 404
        root = request(s.port, "GET", "/")
        assert (root.status, root.headers["Location"]) == (302, "/prom")
        assert request(s.port, "GET", "/prom/api/v1/query?query=1&time=1").json["data"]["resultType"] == "scalar"
        slash = request(s.port, "GET", "/prom/metrics/")
        assert (slash.status, slash.headers["Location"]) == (301, "/prom/metrics")


def test_own_metrics_read_well(both):
    """Sorted by name, HELP and TYPE once each, and nothing that promtool has to say about it."""
    text = both[0].get("/metrics").text
    families = re.findall(r"^# TYPE (\S+) ", text, re.M)
    assert families == sorted(set(families)) and len(families) > 60
    assert re.findall(r"^# HELP (\S+) ", text, re.M) == families
    said = harness.subprocess.run([harness.PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    # these two names are Prometheus's own, which its promtool finds fault with
    named = [line for line in said.stderr.splitlines() if not re.match(
        r"prometheus_rule_(evaluation|group)_duration_histogram_seconds metric name should not include type 'histogram'$", line)]
    assert named == [] and said.returncode in (0, 3)
    # every family that we share with Prometheus has its type
    theirs = dict(re.findall(r"^# TYPE (\S+) (\S+)$", both[1].get("/metrics").text, re.M))
    ours = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert {k: v for k, v in ours.items() if k in theirs} == {k: theirs[k] for k in ours if k in theirs}
    om = both[0].get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
    assert om.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert om.text.endswith("# EOF\n")
