"""An HTTP server in this process: the targets and receivers that tests play themselves."""

import http.server

import harness

EXPOSITION = {"Content-Type": "text/plain; version=0.0.4"}


class Served:
    """Listens at a free port until close(). Who derives from it has get(request), post(request) or put(request), which
    answer by send(); they are called by a thread for each connection."""

    protocol = "HTTP/1.1"  # 1.0: a connection for each request

    def __init__(self):
        self.closed = False
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = self.protocol

            def answer(self, method):
                if served.closed:  # a connection kept alive dies with its server
                    self.close_connection = True
                else:
                    method(self)

            def do_GET(self):
                self.answer(served.get)

            def do_POST(self):
                self.answer(served.post)

            def do_PUT(self):
                self.answer(served.put)

            def log_message(self, *args):
                pass

        self.server = harness.HttpServer(Handler)
        self.port = self.server.port
        self.address = f"127.0.0.1:{self.port}"

    @staticmethod
    def body(request):
        return request.rfile.read(int(request.headers["Content-Length"]))

    @staticmethod
    def send(request, status=200, body=b"", headers=None):
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self):
        if not self.closed:
            self.closed = True
            self.server.close()


class Target(Served):
    """A target that shows `text`, or whose `answer(request)` writes the answer. What came in is kept."""

    def __init__(self, answer=None):
        self.requests = []  # (path, headers), the newest
        self.text = "fine 1\n"
        self.content_type = EXPOSITION["Content-Type"]
        self.answer = answer or self.plain
        super().__init__()

    def get(self, request):
        self.requests.append((request.path, dict(request.headers)))
        del self.requests[:-200]
        self.answer(request)

    def plain(self, request):
        self.send(request, body=self.text.encode(), headers={"Content-Type": self.content_type})
