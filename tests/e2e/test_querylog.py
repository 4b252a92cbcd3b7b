"""The query log and the file that names queries under way, beside Prometheus's own."""

import json
import os
import signal
import threading
import time

import pytest

from harness import wait_for

CONFIG = "global:\n  query_log_file: {}\n"


def lines(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def keys(value, path=""):
    """All keys of a JSON value, in dotted form."""
    if not isinstance(value, dict):
        return {path}
    return {k for name, v in value.items() for k in keys(v, f"{path}.{name}" if path else name)}


def ask(server):
    server.get("/api/v1/query", {"query": "1 + 1", "time": "1600000000.5"})
    server.get("/api/v1/query_range", {"query": "vector(time())", "start": 0, "end": 60, "step": 20})
    server.post("/api/v1/query", {"query": 'count({a="<b>"})', "time": "4"})
    server.get("/api/v1/query", {"query": "1 +"})  # does not parse: is not logged
    server.get("/api/v1/query", {"query": "vector(1) + on () (vector(1) or label_replace(vector(1), \"a\", \"b\", \"\", \"\"))",
                                     "time": 4})  # fails


@pytest.fixture(scope="module")
def both(module_stage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    paths = [str(folder / "ours.log"), str(folder / "theirs.log")]
    servers = [module_stage.server(CONFIG.format(paths[0])), module_stage.reference(CONFIG.format(paths[1]))]
    for s in servers:
        ask(s)
    return servers, [lines(p) for p in paths]


def test_lines_say_what_prometheus_says(both):
    _, (ours, theirs) = both
    assert len(ours) == len(theirs) == 4
    for a, b in zip(ours, theirs):
        assert a["params"] == b["params"]
        assert {k: v for k, v in a["httpRequest"].items() if k != "path"} == \
            {k: v for k, v in b["httpRequest"].items() if k != "path"}
        assert a["httpRequest"]["path"] == b["httpRequest"]["path"]
        assert ("error" in a) == ("error" in b)
        # 3.x adds these, 3.14 how many samples were read
        assert keys(a) - keys(b) <= {"time", "level", "source", "msg", "traceID", "stats.samples.samplesRead"}
        assert keys(b) <= keys(a)


def test_stats_are_true(both):
    _, (ours, _) = both
    for line in ours:
        t = line["stats"]["timings"]
        assert 0 <= t["evalTotalTime"] <= t["execTotalTime"] < 10


def test_reload_turns_it_off_and_on_and_opens_it_anew(stage, tmp_path):
    path = tmp_path / "q.log"
    s = stage.server(CONFIG.format(path))
    enabled = 'prometheus_engine_query_log_enabled {}'
    ask(s)
    assert enabled.format(1) in s.get("/metrics").text
    s.write_config("global: {}\n")
    s.reload()
    s.query("1")
    assert enabled.format(0) in s.get("/metrics").text
    assert len(lines(path)) == 4
    os.rename(path, tmp_path / "q.log.1")
    s.write_config(CONFIG.format(path))
    s.reload()
    s.query("1")
    assert [line["params"]["query"] for line in lines(path)] == ["1"]
    assert len(lines(tmp_path / "q.log.1")) == 4


def test_a_log_that_can_not_be_made_fails_the_reload(stage, tmp_path):
    s = stage.server("global: {}\n")
    s.write_config(CONFIG.format(tmp_path / "none" / "q.log"))
    answer = s.post("/-/reload")
    assert answer.status == 500
    assert "can't create json log file" in answer.text and "none/q.log" in answer.text
    assert "prometheus_config_last_reload_successful 0" in s.get("/metrics").text


SLOW = "max_over_time(stddev_over_time((vector(time()) % 7 / 3)[4h:500ms])[20h:500ms])"  # seconds on any machine


def hang_on(server):
    try:
        server.get("/api/v1/query", {"query": SLOW})
    except OSError:
        pass  # the server was killed


def test_the_next_start_names_queries_that_were_running(stage):
    s = stage.server("global: {}\n")
    active = os.path.join(s.data, "queries.active")
    assert os.path.getsize(active) == 20001
    thread = threading.Thread(target=hang_on, args=[s])
    thread.start()
    wait_for("the query to be noted", lambda: SLOW.encode() in open(active, "rb").read())
    s.kill()
    thread.join()
    s.start()
    told = [line for line in s.log().splitlines() if "didn't finish" in line]
    assert len(told) == 1 and SLOW in told[0]
    s.query("1")
    time.sleep(0.1)
    assert open(active, "rb").read().strip(b"\0") == b"["
    s.stop(how=signal.SIGTERM)
    s.start()
    assert len([line for line in s.log().splitlines() if "didn't finish" in line]) == 1
