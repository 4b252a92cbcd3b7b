"""How scrapes behave when targets do not: one HTTP server per job, which misbehaves on command.

Scrapes are quick, and so are their time-outs: on a busy machine one may fail that should not, and all its series are
stale until the next. What should be there is waited for; what should not is looked at whenever it suits.
"""

import gzip
import json
import os
import re
import time

import pytest

import harness
from served import Target


@pytest.fixture
def targets():
    made = []

    def make(answer=None):
        made.append(Target(answer))
        return made[-1]

    yield make
    for t in made:
        t.close()


def job(name, target, **more):
    return {"job_name": name, "static_configs": [{"targets": [target.address]}], **more}


def config(*jobs, interval="250ms"):
    return {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": list(jobs)}


def value(server, expr):
    """The only value of an instant query; None when there is none."""
    got = server.vector(expr)
    assert len(got) <= 1, got
    return float(next(iter(got.values()))) if got else None


def wait_value(server, expr, wanted, timeout=15):
    harness.wait_for(f"{expr} to be {wanted}", lambda: value(server, expr) == wanted or (wanted is None and value(server, expr) is None),
                     timeout=timeout, every=0.1)


def test_a_bad_line_fails_its_scrape_and_nothing_else(stage, targets):
    good, bad = targets(), targets()
    server = stage.server(config(job("good", good), job("bad", bad)))
    wait_value(server, 'fine{job="bad"}', 1)
    bad.text = 'early 1\nbroken{label="x" 2\nfine 1\nlater 3\n'
    wait_value(server, 'up{job="bad"}', 0)

    def told():
        error = server.target("bad")["lastError"]
        assert "expected" in error and "broken" in error or "label" in error, error
        assert server.target("bad")["health"] == "down"

    def untouched():
        assert server.target("good")["health"] == "up" and server.target("good")["lastError"] == ""
        assert value(server, 'up{job="good"}') == 1 and value(server, 'fine{job="good"}') == 1

    harness.settles(told)
    harness.settles(untouched)
    # What the target had is stale at once, and nothing of the failed scrape was kept.
    assert value(server, 'fine{job="bad"}') is None
    assert value(server, "later") is None and value(server, "early") is None
    bad.text = "fine 2\n"
    wait_value(server, 'fine{job="bad"}', 2)
    wait_value(server, 'up{job="bad"}', 1)
    harness.wait_for("no error", lambda: server.target("bad")["lastError"] == "")


@pytest.mark.parametrize("text", [
    "a{b='c'} 1\n", "a{b=\"c\"} one\n", "a 1 2.5\n", "1a 1\n", "a{b=\"c\"}\n", "a{b=\"c\",b=\"d\"} 1\n", "a 0x10\n", "a 1_000\n",
    "# TYPE a nonsense\na 1\n", " a 1\n", "a 1\r\n", 'a{b="\xff"} 1\n',
])
def test_malformed_text_is_refused(stage, targets, text):
    target = targets(lambda h: target.send(h, body=text.encode("latin-1"), headers={"Content-Type": "text/plain; version=0.0.4"}))
    server = stage.server(config(job("t", target)))
    wait_value(server, 'up{job="t"}', 0)
    harness.wait_for("the reason", lambda: "deadline" not in server.target("t")["lastError"])
    assert server.target("t")["lastError"]
    assert value(server, "a") is None


def test_odd_but_legal_text(stage, targets):
    target = targets()
    target.text = ("# a comment\n\n# HELP x some\\nhelp \\\\ here\n# TYPE x gauge\nx { a=\"q\\\"\\\\\\n\" , } 2\n"
                   "y\t-0\nz{}NaN\nlarge +Inf\nsmall 5e-324\nempty_label{b=\"\"} 1\nlast 7")
    server = stage.server(config(job("t", target)))
    wait_value(server, 'up{job="t"}', 1)

    def read():
        assert server.vector("x") == {(("__name__", "x"), ("a", 'q"\\\n'), ("instance", target.address), ("job", "t")): "2"}
        assert list(server.vector("y").values()) == ["-0"]
        assert list(server.vector("z").values()) == ["NaN"]
        assert list(server.vector("large").values()) == ["+Inf"]
        assert list(server.vector("small").values()) == ["5e-324"]
        assert "b" not in dict(next(iter(server.vector("empty_label"))))
        assert value(server, "last") == 7

    harness.settles(read)
    assert server.get("/api/v1/metadata", {"metric": "x"}).data == {"x": [{"type": "gauge", "help": "some\nhelp \\ here", "unit": ""}]}


def test_openmetrics_must_end(stage, targets):
    good, bad = targets(), targets()
    for t in (good, bad):
        t.content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    good.text = "# TYPE a counter\n# UNIT b_seconds seconds\n# TYPE b_seconds gauge\na_total 5\nb_seconds 1.5 1700000000.25\n# EOF\n"
    bad.text = "# TYPE a counter\na_total 5\n"
    server = stage.server(config(job("good", good, honor_timestamps=False), job("bad", bad)))
    wait_value(server, 'up{job="bad"}', 0)
    harness.wait_for("the reason", lambda: "EOF" in server.target("bad")["lastError"])
    wait_value(server, 'a_total{job="good"}', 5)
    wait_value(server, "b_seconds", 1.5)
    accept = good.requests[-1][1]["Accept"]
    assert "application/openmetrics-text" in accept and "text/plain" in accept


def test_what_a_scrape_asks(stage, targets):
    target = targets()
    server = stage.server(config(job("t", target, metrics_path="/probe", params={"module": ["http_2xx"], "target": ["a b", "c&d"]})))
    wait_value(server, 'up{job="t"}', 1)
    path, headers = target.requests[-1]
    assert path == "/probe?module=http_2xx&target=a+b&target=c%26d"
    assert headers["X-Prometheus-Scrape-Timeout-Seconds"] == "0.25"
    assert headers["Host"] == target.address
    assert "gzip" in headers["Accept-Encoding"]
    assert headers["User-Agent"].startswith(("Prometheus/", "Narthex/", "narthex/"))
    assert server.target("t")["scrapeUrl"] == f"http://{target.address}/probe?module=http_2xx&target=a+b&target=c%26d"


def test_a_slow_target_times_out(stage, targets):
    slow, quick = targets(lambda h: (time.sleep(1.5), slow.plain(h))), targets()
    server = stage.server(config(job("slow", slow), job("quick", quick), interval="500ms"))
    wait_value(server, 'up{job="slow"}', 0)
    assert "deadline exceeded" in server.target("slow")["lastError"], server.target("slow")["lastError"]
    wait_value(server, 'up{job="quick"}', 1)
    harness.wait_for("its time", lambda: 0.4 < value(server, 'scrape_duration_seconds{job="slow"}') < 1.2)


def test_a_target_that_stops_in_the_middle_times_out(stage, targets):
    def half(h):
        h.send_response(200)
        h.send_header("Content-Type", "text/plain; version=0.0.4")
        h.send_header("Content-Length", "1000")
        h.end_headers()
        h.wfile.write(b"fine 1\n")
        h.wfile.flush()
        time.sleep(2)
        h.close_connection = True

    server = stage.server(config(job("half", targets(half)), interval="500ms"))
    wait_value(server, 'up{job="half"}', 0)
    assert value(server, "fine") is None


def test_a_closed_port_is_down(stage):
    port = harness.free_port()
    server = stage.server({"global": {"scrape_interval": "250ms"}, "scrape_configs": [
        {"job_name": "t", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]})
    wait_value(server, 'up{job="t"}', 0)
    harness.wait_for("the reason", lambda: "connection refused" in server.target("t")["lastError"].lower())


@pytest.mark.parametrize("status", [404, 500, 503])
def test_other_statuses_are_down(stage, targets, status):
    target = targets(lambda h: target.send(h, status, b"fine 1\n", {"Content-Type": "text/plain; version=0.0.4"}))
    server = stage.server(config(job("t", target)))
    wait_value(server, 'up{job="t"}', 0)
    harness.wait_for("the reason", lambda: f"server returned HTTP status {status}" in server.target("t")["lastError"])
    assert value(server, "fine") is None


def test_redirects(stage, targets):
    final = targets()
    first = targets(lambda h: first.send(h, 302, headers={"Location": f"http://{final.address}/elsewhere"}))
    server = stage.server(config(job("follows", first), job("stays", first, follow_redirects=False)))
    wait_value(server, 'up{job="follows"}', 1)
    wait_value(server, 'up{job="stays"}', 0)
    assert final.requests[-1][0] == "/elsewhere"
    harness.wait_for("the reason", lambda: "302" in server.target("stays")["lastError"])


def test_gzip_and_chunks(stage, targets):
    def zipped(h):
        assert "gzip" in h.headers.get("Accept-Encoding", "")
        packed.send(h, body=gzip.compress(b"fine 5\n" * 1), headers={"Content-Type": "text/plain; version=0.0.4", "Content-Encoding": "gzip"})

    def chunked(h):
        h.send_response(200)
        h.send_header("Content-Type", "text/plain; version=0.0.4")
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        for part in (b"fi", b"ne 6\nmore", b" 7\n"):
            h.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        h.wfile.write(b"0\r\n\r\n")

    packed = targets(zipped)
    server = stage.server(config(job("packed", packed), job("chunked", targets(chunked))))
    wait_value(server, 'fine{job="packed"}', 5)
    wait_value(server, 'fine{job="chunked"}', 6)
    wait_value(server, "more", 7)


def test_credentials(stage, targets):
    def guarded(h):
        if h.headers.get("Authorization") in (harness.basic_auth("scraper", "pass:word"), "Bearer tok-1"):
            target.plain(h)
        else:
            target.send(h, 401, b"no\n", {"WWW-Authenticate": "Basic"})

    target = targets(guarded)
    secret = os.path.join(stage.folder, "password")
    with open(secret, "w") as f:
        f.write("pass:word\n")
    server = stage.server(config(
        job("basic", target, basic_auth={"username": "scraper", "password": "pass:word"}),
        job("file", target, basic_auth={"username": "scraper", "password_file": "password"}),
        job("bearer", target, authorization={"credentials": "tok-1"}),
        job("wrong", target, basic_auth={"username": "scraper", "password": "x"}),
        job("none", target)))
    for name, up in (("basic", 1), ("file", 1), ("bearer", 1), ("wrong", 0), ("none", 0)):
        wait_value(server, f'up{{job="{name}"}}', up)
    harness.wait_for("the reason", lambda: "401" in server.target("wrong")["lastError"])
    shown = server.get("/api/v1/status/config").data["yaml"]
    assert "pass:word" not in shown and "tok-1" not in shown and "<secret>" in shown


def test_honor_labels(stage, targets):
    target = targets()
    target.text = 'm{job="theirs",instance="there"} 1\n'
    server = stage.server(config(job("ours", target), job("polite", target, honor_labels=True)))
    wait_value(server, 'm{job="ours"}', 1)
    wait_value(server, 'm{job="theirs"}', 1)

    def named():
        labels = [dict(k) for k in server.vector("m")]
        assert {"__name__": "m", "job": "theirs", "instance": "there"} in labels
        assert {"__name__": "m", "job": "ours", "instance": target.address, "exported_job": "theirs", "exported_instance": "there"} in labels
        assert len(labels) == 2

    harness.settles(named)


def test_honor_timestamps(stage, targets):
    target = targets()
    stamp = int(time.time() * 1000) - 7000
    target.text = f"m 1 {stamp}\n"
    server = stage.server(config(job("kept", target), job("own", target, honor_timestamps=False)))
    wait_value(server, 'm{job="own"}', 1)
    wait_value(server, 'm{job="kept"}', 1)
    times = [t for t, _ in server.query('m{job="kept"}[1m]')["result"][0]["values"]]
    assert times == [stamp / 1000]
    assert len(server.query('m{job="own"}[1m]')["result"][0]["values"]) >= 1
    wait_value(server, f'timestamp(m{{job="own"}}) > bool {stamp / 1000 + 5}', 1)


def test_a_series_that_goes_is_stale_at_once(stage, targets):
    target = targets()
    target.text = 'stays 1\ngoes{x="1"} 1\ngoes{x="2"} 2\n'
    server = stage.server(config(job("t", target)))

    def shows(one, two, scraped):
        def all_of_it():
            assert [value(server, 'goes{x="1"}'), value(server, 'goes{x="2"}'), value(server, "stays")] == [one, two, 1]
            assert value(server, 'scrape_samples_scraped{job="t"}') == scraped
        harness.settles(all_of_it)

    shows(1, 2, 3)
    target.text = 'goes{x="2"} 3\nstays 1\n'
    shows(None, 3, 2)
    target.text = 'goes{x="1"} 9\nstays 1\n'
    shows(9, None, 2)
    # The stale marker is no value: a range shows only the samples.
    assert all(v in ("1", "9") for _, v in server.query('goes{x="1"}[1m]')["result"][0]["values"])


def test_a_target_that_dies_goes_stale(stage, targets):
    target = targets()
    server = stage.server(config(job("t", target)))
    wait_value(server, "fine", 1)
    target.close()
    wait_value(server, 'up{job="t"}', 0)
    wait_value(server, "fine", None, timeout=3)


def test_relabeling(stage, targets):
    target = targets()
    target.text = 'keep_me{path="/a/b",secret="x"} 1\ndrop_me 2\n'
    server = stage.server(config(job(
        "t", target,
        relabel_configs=[
            {"source_labels": ["__address__"], "regex": "([^:]+):(\\d+)", "target_label": "port", "replacement": "$2"},
            {"target_label": "__metrics_path__", "replacement": "/other"},
            {"target_label": "__param_who", "replacement": "me"},
            {"source_labels": ["__address__"], "modulus": 4, "target_label": "shard", "action": "hashmod"},
            {"regex": "port", "replacement": "tcp_$0", "action": "labelmap"},
        ],
        metric_relabel_configs=[
            {"source_labels": ["__name__"], "regex": "drop_.*", "action": "drop"},
            {"regex": "secret", "action": "labeldrop"},
            {"source_labels": ["path"], "regex": "/(\\w+)/.*", "target_label": "top"},
            {"source_labels": ["top"], "target_label": "top", "action": "uppercase"},
        ])))
    wait_value(server, "keep_me", 1)
    labels = dict(harness.wait_for("its labels", lambda: next(iter(server.vector("keep_me")))))
    assert labels["port"] == labels["tcp_port"] == str(target.port) and labels["top"] == "A" and labels["shard"] in "0123"
    assert "secret" not in labels
    assert value(server, "drop_me") is None
    assert target.requests[-1][0] == "/other?who=me"
    wait_value(server, "scrape_samples_scraped", 2)
    wait_value(server, "scrape_samples_post_metric_relabeling", 1)


def test_dropped_targets_are_listed(stage, targets):
    target = targets()
    server = stage.server(config(job("t", target), job("gone", target, relabel_configs=[
        {"source_labels": ["job"], "regex": "gone", "action": "drop"}])))
    wait_value(server, 'up{job="t"}', 1)
    data = server.get("/api/v1/targets").data
    assert [t["labels"]["job"] for t in data["activeTargets"]] == ["t"]
    assert [t["discoveredLabels"]["job"] for t in data["droppedTargets"]] == ["gone"]


def test_sample_limit(stage, targets):
    target = targets()
    target.text = "a 1\nb 2\nc 3\n"
    server = stage.server(config(job("over", target, sample_limit=2), job("under", target, sample_limit=3)))
    wait_value(server, 'up{job="over"}', 0)
    wait_value(server, 'up{job="under"}', 1)
    harness.wait_for("the reason", lambda: re.search("sample_limit|sample limit exceeded", server.target("over")["lastError"]))
    wait_value(server, 'a{job="under"}', 1)
    assert value(server, 'a{job="over"}') is None


def test_file_sd(stage, targets):
    """JSON and YAML files; re-read when they change, old targets kept when they break."""
    one, two, three = targets(), targets(), targets()
    folder = stage.folder_for("sd")

    def put(name, text):
        with open(os.path.join(folder, name + ".new"), "w") as f:
            f.write(text)
        os.replace(os.path.join(folder, name + ".new"), os.path.join(folder, name))

    put("a.json", json.dumps([{"targets": [one.address], "labels": {"zone": "x"}}]))
    put("b.yml", f"- targets: ['{two.address}']\n  labels: {{zone: z}}\n")
    server = stage.server({"global": {"scrape_interval": "250ms"}, "scrape_configs": [
        {"job_name": "sd", "file_sd_configs": [{"files": ["sd/*.json", "sd/*.yml"]}]}]})

    def up():
        return {dict(k)["instance"]: v for k, v in server.vector('up{job="sd"}').items()}

    harness.wait_for("two targets", lambda: up() == {one.address: "1", two.address: "1"}, 20, 0.2)
    assert dict(next(iter(server.vector(f'up{{instance="{one.address}"}}'))))["zone"] == "x"
    put("a.json", json.dumps([{"targets": [one.address, three.address], "labels": {"zone": "new"}}]))
    harness.wait_for("a third", lambda: set(up()) == {one.address, two.address, three.address}, 20, 0.2)
    harness.wait_for("the new label", lambda: {dict(k).get("zone") for k in server.vector('up{zone!="z"}')} == {"new"}, 20, 0.2)
    put("a.json", '[{"targets": [')
    time.sleep(2)
    assert set(up()) == {one.address, two.address, three.address}
    put("a.json", "[]")
    harness.wait_for("only the YAML file's", lambda: set(up()) == {two.address}, 20, 0.2)
    found = [t for t in server.targets() if t["labels"]["job"] == "sd"]
    assert found[0]["discoveredLabels"]["__meta_filepath"] == os.path.join(stage.folder, "sd/b.yml")


def test_many_targets_at_once(stage, targets):
    """Two hundred jobs-worth of targets on one address: all up, none starves."""
    target = targets()
    groups = [{"targets": [target.address], "labels": {"__metrics_path__": f"/m{n}", "n": str(n)}} for n in range(200)]
    server = stage.server({"global": {"scrape_interval": "2s", "scrape_timeout": "2s"}, "scrape_configs": [
        {"job_name": "many", "static_configs": groups}]})
    harness.wait_for("200 up", lambda: value(server, "sum(up)") == 200, 30, 0.3)
    time.sleep(4.5)
    assert value(server, "min(count_over_time(up[1m]))") >= 2
    wait_value(server, "sum(up)", 200)


@pytest.mark.skipif(harness.IS_REFERENCE, reason="Prometheus 2 takes any Content-Type for text")
def test_a_content_type_is_required(stage, targets):
    none = targets(lambda h: none.send(h, body=b"fine 1\n"))
    html = targets(lambda h: html.send(h, body=b"fine 1\n", headers={"Content-Type": "text/html"}))
    server = stage.server(config(job("none", none), job("html", html),
                                 job("told", none, fallback_scrape_protocol="PrometheusText0.0.4")))
    wait_value(server, 'up{job="told"}', 1)
    for name in ("none", "html"):
        wait_value(server, f'up{{job="{name}"}}', 0)
        harness.wait_for("the reason", lambda: re.search("content[- ]type", server.target(name)["lastError"].lower()))
