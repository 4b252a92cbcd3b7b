"""What `query` asks a server for, and what it makes of answers that are none of Prometheus's: behind proxies and gateways."""

import http.server
import json
import subprocess
import threading

import pytest

import harness
from harness import BINARY, PROMTOOL

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="it is what is compared with")

VALUE = {"status": "success", "data": {"resultType": "scalar", "result": [5, "1"]}}


class Fake:
    """Answers with what is in `answers`, the last one again and again, and remembers the questions."""

    def __init__(self):
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                fake.asked.append((self.command, self.path, body))
                status, text = fake.answers[min(len(fake.asked), len(fake.answers)) - 1]
                text = (text if isinstance(text, str) else json.dumps(text)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer

            def log_message(self, *args):
                pass

        self.asked, self.answers = [], []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ask(self, tool, *args, answers=((200, VALUE),)):
        self.asked, self.answers = [], answers
        args = [a.replace("URL", self.url) for a in args]
        return subprocess.run([tool, "query", *args], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def fake():
    f = Fake()
    yield f
    f.server.shutdown()
    f.server.server_close()


def alike(fake, *args, **kw):
    """Ours, after seeing that promtool prints and asks for the same."""
    theirs, asked = fake.ask(PROMTOOL, *args, **kw), fake.asked
    ours = fake.ask(BINARY, *args, **kw)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert fake.asked == asked
    return ours


def test_names_are_escaped_in_paths(fake):
    labels = ((200, {"status": "success", "data": ["x"]}),)
    for name in ("job", "a b", "é", "50%", "a?b#c", "a/b", 'a"b', "a+b&c=d:e@f,g$h;i"):
        got = alike(fake, "labels", "--start=1", "--end=2", "--match=up", "URL", name, answers=labels)
        assert (got.returncode, got.stdout) == (0, "x\n"), name


def test_who_refuses_a_post_is_asked_by_get(fake):
    for status in (405, 501):
        got = alike(fake, "instant", "--time=5", "URL", "a b", answers=((status, "no"), (200, VALUE)))
        assert (got.returncode, got.stdout) == (0, "scalar: 1 @[5]\n")
    got = fake.ask(BINARY, "instant", "--time=5", "URL", "a b", answers=((403, "read only"), (200, VALUE)))  # since 3.x
    assert (got.returncode, got.stdout) == (0, "scalar: 1 @[5]\n")
    assert fake.asked == [("POST", "/api/v1/query", "query=a+b&time=5"), ("GET", "/api/v1/query?query=a+b&time=5", "")]
    got = fake.ask(BINARY, "instant", "--time=5", "URL", "a", answers=((403, "keep out"),))
    assert (got.returncode, got.stderr) == (1, "query error: client_error: client error: 403 (detail: keep out)\n")


def test_metrics_are_printed_whatever_their_names_are(fake):
    labels = [{"__name__": "m.x", "job": "a"}, {"__name__": "a b"}, {"x": "<&>", "y": '"'}, {}]
    for kind, point in (("vector", "value"), ("matrix", "values")):
        value = [1700000000.781, "0.1"]
        answer = {"resultType": kind, "result": [{"metric": m, point: [value] if kind == "matrix" else value} for m in labels]}
        for form in ("promql", "json"):
            alike(fake, "-o", form, "instant", "--time=5", "URL", "a", answers=((200, {"status": "success", "data": answer}),))
        more = [{"__name__": "m", "job": "a", "job2": "b", "job10": "c", "jo": "d", "job_x": "e", "job2x": "f"}]
        answer = {"resultType": kind, "result": [{"metric": m, point: [value] if kind == "matrix" else value} for m in more]}
        alike(fake, "instant", "--time=5", "URL", "a", answers=((200, {"status": "success", "data": answer}),))
    listed = [fake.ask(t, "series", "--start=1", "--end=2", "--match=a", "URL", answers=((200, {"status": "success", "data": labels}),)) for t in (BINARY, PROMTOOL)]
    assert listed[0].stdout == listed[1].stdout != ""  # asked by POST since 3.x
    answer = {"resultType": "vector", "result": [{"metric": {"x.y": "z"}, "value": [5, "1"]}]}
    got = fake.ask(BINARY, "instant", "--time=5", "URL", "a", answers=((200, {"status": "success", "data": answer}),))
    assert (got.returncode, got.stdout) == (0, '{x.y="z"} => 1 @[5]\n')  # since 3.x
    histogram = [5, {"count": "5", "sum": "1.5", "buckets": [[1, "-1", "2", "3"], [0, "2", "4", "2"]]}]
    answer = {"resultType": "vector", "result": [{"metric": {"__name__": "h"}, "histogram": histogram}]}
    got = fake.ask(BINARY, "instant", "--time=5", "URL", "a", answers=((200, {"status": "success", "data": answer}),))
    assert got.stdout == "h => Count: 5.000000, Sum: 1.500000, Buckets: [[-1,2):3 (2,4]:2] @[5]\n"


def test_the_body_counts_more_than_the_status(fake):
    for status, body, want in (
        (200, {"status": "error", "errorType": "timeout", "error": "too slow"}, "timeout: too slow"),
        (422, {"status": "error", "errorType": "execution", "error": "x"}, "execution: x"),
        (400, {"status": "success", "data": {}}, "bad_response: inconsistent body for response code"),
        (502, "<html>\n", "server_error: server error: 502 (detail: <html>)"), (404, "", "client_error: client error: 404"),
    ):
        got = alike(fake, "instant", "--time=5", "URL", "a", answers=((status, body),))
        assert (got.returncode, got.stderr) == (1, f"query error: {want}\n")
