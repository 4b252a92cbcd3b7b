"""A client that hangs up stops its query: while it is evaluated, while it waits for a place, while its answer is sent."""

import json
import os
import socket
import time
import urllib.parse

import pytest

import harness
from harness import wait_for

SERIES = 300
START, END, STEP = 1700000000, 1700003600, 15
LOG = "queries.log"
WITHIN = 1.0 if "rel" in harness.BINARY else 6.0  # seconds from the hang-up; of CPU, as the machine may be busy

# Each would take minutes.
HEAVY = {
    "rows": "sum(max_over_time(stddev_over_time(m[30m])[50m:2ms]))",
    "one series": "max_over_time(stddev_over_time((vector(time()) % 7 / 3)[4h:500ms])[200h:500ms])",
    "windows": "max_over_time(quantile_over_time(0.5, (vector(time()) % 7 / 3)[40h:500ms])[400h:500ms])",
    "matching": "count(m * on () group_left m{i=\"1\"}) or count(max_over_time((m > on (i) m)[50m:5ms]))",
}

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="looks at metrics and files of ours")


def write_data(path):
    with open(path, "w") as f:
        f.write("# TYPE m gauge\n")
        for i in range(SERIES):
            for t in range(START, END + 1, STEP):
                f.write(f'm{{i="{i}"}} {(t // STEP + i) * 7919 % 1000} {t}\n')
        f.write("# EOF\n")


@pytest.fixture(scope="module")
def server(module_stage):
    om = os.path.join(module_stage.folder, "m.om")
    data = os.path.join(module_stage.folder, "data")
    write_data(om)
    os.makedirs(data)
    r = harness.run_tool(harness.BINARY, "tsdb", "create-blocks-from", "openmetrics", om, data)
    assert r.returncode == 0, r.stderr
    config = f"global:\n  query_log_file: {os.path.join(module_stage.folder, LOG)}\n"
    return module_stage.server(config, data=data, flags=["--query.max-concurrency=1", "--query.timeout=10m", "--query.max-samples=10000000000",
                                                          "--storage.tsdb.retention.time=100y"])


def metric(server, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in server.get("/metrics").text.splitlines()
               if line.split("{")[0].split(" ")[0] == name)


def running(server):
    return metric(server, "prometheus_engine_queries")


def noted(server):
    with open(os.path.join(server.data, "queries.active"), "rb") as f:
        return f.read().strip(b"[\0")


def logged(server):
    with open(os.path.join(server.cwd, LOG)) as f:
        return [json.loads(line) for line in f]


def cpu(server):
    with open(f"/proc/{server.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send(server, path, params, receive=None):
    s = socket.socket()
    if receive:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    s.connect(("127.0.0.1", server.port))
    s.sendall(f"GET {path}?{urllib.parse.urlencode(params)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return s


def ends_soon(server, what, ended):
    """`ended` comes true in time, and the process has nothing to do then."""
    before = cpu(server)
    wait_for(what, ended, timeout=10 * WITHIN, every=0.02)
    took = cpu(server) - before
    assert took < WITHIN, f"{what} took {took:.1f} s"
    before = cpu(server)
    time.sleep(0.2)
    assert cpu(server) - before < 0.1, "the server is still busy"


def idle(server):
    return lambda: running(server) == 0 and noted(server) == b""


@pytest.mark.parametrize("kind,path", [(k, "query") for k in HEAVY] + [("rows", "query_range")])
def test_a_query_ends_with_its_client(server, kind, path):
    params = {"query": HEAVY[kind], "time": END}
    if path == "query_range":
        params = {"query": HEAVY[kind], "start": END - 60, "end": END, "step": 15}
    client = send(server, f"/api/v1/{path}", params)
    wait_for("the query to begin", lambda: running(server) == 1)
    wait_for("it to be noted", lambda: b"over_time" in noted(server))
    time.sleep(0.2)  # it is well under way
    client.close()
    ends_soon(server, f"{kind} by {path}", idle(server))
    line = logged(server)[-1]
    assert line["params"]["query"] == HEAVY[kind]
    assert line["error"] == "query was canceled in expression evaluation"


def test_bytes_that_nobody_read_hide_no_hang_up(server):
    """As the end of a TLS session does, and a request behind the first."""
    client = send(server, "/api/v1/query", {"query": HEAVY["rows"], "time": END})
    client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for("the query to begin", lambda: running(server) == 1)
    client.close()
    ends_soon(server, "the query", idle(server))


def test_a_query_that_waits_for_a_place_ends_with_its_client(server):
    first = send(server, "/api/v1/query", {"query": HEAVY["rows"], "time": END})
    wait_for("the first to begin", lambda: running(server) == 1)
    n = len(logged(server))
    second = send(server, "/api/v1/query", {"query": "1 + 41"})
    time.sleep(1)
    assert len(logged(server)) == n, "there is but one place"
    second.close()
    wait_for("the second to end", lambda: len(logged(server)) > n, timeout=10 * WITHIN)
    line = logged(server)[-1]
    assert (line["params"]["query"], line["error"]) == ("1 + 41", "query was canceled in query queue")
    times = line["stats"]["timings"]
    assert times["evalTotalTime"] == 0 and 0.3 <= times["execQueueTime"] <= times["execTotalTime"]
    assert running(server) == 1, "the first goes on"
    first.close()
    ends_soon(server, "the first", idle(server))


def test_an_answer_that_is_sent_goes_with_its_client(server):
    def memory():
        return metric(server, "narthex_memory_query_bytes")

    empty = memory()
    client = send(server, "/api/v1/query_range", {"query": "m + 0.1", "start": START, "end": END, "step": "0.4"}, receive=4096)
    assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert idle(server)(), "the query itself is over"
    assert memory() > empty + 20_000_000, "the result is held while it is sent"
    client.close()
    ends_soon(server, "the result", lambda: memory() < empty + 1_000_000)


def ask_for_labels(server, path, n):
    """Many selectors that cost something: what one does where there are very many series."""
    match = urllib.parse.urlencode([("match[]", '{i=~"(.*%d|.*a){50}x"}' % i) for i in range(n)])
    head = "Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    if path == "label/i/values":  # has no form
        text = f"GET /api/v1/{path}?{match} HTTP/1.1\r\n{head}\r\n"
    else:
        text = f"POST /api/v1/{path} HTTP/1.1\r\n{head}Content-Length: {len(match)}\r\n\r\n{match}"
    s = socket.create_connection(("127.0.0.1", server.port))
    s.sendall(text.encode())
    return s


@pytest.mark.parametrize("path,n", [("labels", 20000), ("series", 20000), ("label/i/values", 8000)])
def test_a_call_about_labels_ends_with_its_client(server, path, n):
    before = cpu(server)
    client = ask_for_labels(server, path, n)
    wait_for("the call to begin", lambda: cpu(server) - before > 0.3)
    client.close()

    def at_rest():
        before = cpu(server)
        time.sleep(0.3)
        return cpu(server) - before < 0.05

    ends_soon(server, "the call", at_rest)
