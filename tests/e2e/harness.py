"""Starts programs on free loopback ports in folders of their own, waits for them, and ends them.

RULES  H1  Every process is ended by its pid, at the latest when its `Stage` closes; if the test run
           itself is killed, the kernel kills them (PR_SET_PDEATHSIG).
       H2  Nothing listens on or talks to anything but 127.0.0.1.
       H3  Every wait has an end; what was waited for is in the message.
       H4  A port that was given belongs to this run until it ends, also while nobody listens on it.
       H5  A machine may stand still for a second: what a scrape in time makes true is waited for (`settles`),
           what must never be is looked at once.

The program under test is NX_BINARY (build/release/narthex without it). It may be a Prometheus: then
the tests run against that, which proves them on the reference.
"""

import base64
import ctypes
import fcntl
import gzip
import http.client
import http.server
import json
import math
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
BINARY = os.path.abspath(os.environ.get("NX_BINARY") or os.path.join(ROOT, "build/release/narthex"))
SHARED = os.environ.get("NX_SHARED") or os.path.join(ROOT, "../shared")
PROMETHEUS = "/usr/bin/prometheus"
PROMTOOL = "/usr/bin/promtool"
TIMEOUT = float(os.environ.get("NX_TIMEOUT", "30"))  # seconds for one answer
# True when the program under test is the reference itself (and of the 2.x line, as Debian's is).
IS_REFERENCE = os.path.basename(BINARY) == "prometheus"

SANITIZER = re.compile(r"^.*(ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error: ).*$", re.M)

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def tool_of(binary):
    """The command that takes promtool's arguments for this server binary."""
    return [os.path.join(os.path.dirname(binary), "promtool")] if os.path.basename(binary) == "prometheus" else [binary]


def run_tool(binary, *args, **kw):
    kw.setdefault("timeout", 120)
    return subprocess.run(tool_of(binary) + list(args), capture_output=True, text=True, **kw)


_held_ports = []


def free_port():
    """A loopback port that nobody else gets (H4): neither another test that asks for one, nor a client's end of a
    connection. A bound socket holds it. The kernel lets another be bound to the same address, and listen, where both
    have SO_REUSEADDR, as all our servers have."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", 0))
    _held_ports.append(s)
    return s.getsockname()[1]


def wait_for(what, probe, timeout=30.0, every=0.05):
    """Calls `probe` until it returns something true, and returns that; fails naming `what`."""
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            got = probe()
            if got:
                return got
        except (OSError, http.client.HTTPException, AssertionError, LookupError, ValueError, StopIteration) as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:.0f} s for {what}" + (f"; last: {last!r}" if last else ""))
        time.sleep(every)


def settles(check, timeout=20.0):
    """Calls `check` until it fails no more (H5)."""
    wait_for(check.__name__, lambda: check() or True, timeout, 0.1)


class HttpServer(http.server.ThreadingHTTPServer):
    """A server in this process. Clients that come at once find room; what one gives up is no news."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, handler):
        super().__init__(("127.0.0.1", free_port()), handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def close(self):
        self.shutdown()
        self.server_close()


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.raw = body
        self.body = gzip.decompress(body) if response.headers.get("Content-Encoding") == "gzip" else body

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        got = self.json
        assert self.status == 200 and got["status"] == "success", (self.status, self.text[:2000])
        return got["data"]


def request(port, method, path, params=None, form=None, headers=None, timeout=TIMEOUT, connection=None, body=None):
    """One HTTP request. `params` go into the URL, `form` into the body; both are lists or dicts."""
    headers = dict(headers or {})
    if params:
        path += ("&" if "?" in path else "?") + urllib.parse.urlencode(params, doseq=True)
    if form is not None:
        body = urllib.parse.urlencode(form, doseq=True)
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    conn = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        conn.request(method, path, body=body, headers=headers)
        response = conn.getresponse()
        return Answer(response, response.read())
    finally:
        if connection is None:
            conn.close()


class Process:
    def __init__(self, name, argv, cwd, env=None, user=None, ready=None, timeout=30.0):
        self.name, self.argv, self.cwd = name, [str(a) for a in argv], str(cwd)
        self.env, self.user, self.ready, self.timeout = env, user, ready, timeout
        self.log_path = os.path.join(self.cwd, f"{name}.log")
        self.popen = None

    def start(self, wait=True):
        def child():  # dies with us (H1)
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        kw = {}
        if self.user and os.getuid() == 0:
            kw = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(self.argv, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env={**os.environ, **(self.env or {})}, preexec_fn=child, **kw)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def probe():
            if self.popen.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.popen.returncode}:\n{self.log()[-3000:]}")
            return self.ready is None or self.ready()

        try:
            wait_for(f"{self.name} to be ready", probe, self.timeout)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log()[-3000:]}") from None

    def log(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen is not None and self.popen.poll() is None

    def send(self, number):
        self.popen.send_signal(number)

    def kill(self):
        """kill -9, and gone when this returns."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait(timeout=10)

    def stop(self, timeout=20, how=signal.SIGTERM):
        """Ends it politely, otherwise hard; returns its exit status."""
        if self.popen is None:
            return None
        if self.popen.poll() is None:
            self.popen.send_signal(how)
            try:
                self.popen.wait(timeout=timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode


def port_open(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


class Server(Process):
    """A Narthex or a Prometheus with a data folder of its own."""

    def __init__(self, binary, cwd, config, flags=(), name=None, data=None, port=None):
        self.binary = binary
        self.port = port or free_port()
        self.config_path = os.path.join(str(cwd), (name or "server") + ".yml")
        if config is not None:
            self.write_config(config)
        self.data = str(data or os.path.join(str(cwd), (name or "server") + "-data"))
        argv = [binary, f"--config.file={self.config_path}", f"--storage.tsdb.path={self.data}",
                f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-lifecycle", *flags]
        super().__init__(name or os.path.basename(binary), argv, cwd, ready=self.is_ready, timeout=60)

    def write_config(self, config):
        """Published by rename, so that no reader sees half of it."""
        with open(self.config_path + ".new", "w") as f:
            f.write(config if isinstance(config, str) else json.dumps(config))  # JSON is YAML
        os.replace(self.config_path + ".new", self.config_path)

    def is_ready(self):
        return request(self.port, "GET", "/-/ready", timeout=5).status == 200

    def get(self, path, params=None, **kw):
        return request(self.port, "GET", path, params=params, **kw)

    def post(self, path, form=None, **kw):
        return request(self.port, "POST", path, form=form if form is not None else {}, **kw)

    def query(self, expr, time=None, **extra):
        params = {"query": expr, **extra}
        if time is not None:
            params["time"] = repr(float(time)) if not isinstance(time, str) else time
        return self.get("/api/v1/query", params).data

    def query_range(self, expr, start, end, step):
        return self.get("/api/v1/query_range", {"query": expr, "start": start, "end": end, "step": step}, timeout=60).data

    def vector(self, expr, time=None):
        """{labels as a tuple of pairs: value text} of an instant query."""
        data = self.query(expr, time)
        assert data["resultType"] == "vector", data
        return {labels_key(e["metric"]): e["value"][1] for e in data["result"]}

    def targets(self, state="active"):
        return self.get("/api/v1/targets", {"state": state}).data["activeTargets"]

    def target(self, job):
        found = [t for t in self.targets() if t["labels"].get("job") == job]
        assert len(found) == 1, (job, found)
        return found[0]

    def reload(self):
        return self.post("/-/reload")


def labels_key(metric, without=()):
    return tuple(sorted((k, v) for k, v in metric.items() if k not in without))


class Stage:
    """Everything one test starts; closing it ends all of it, last started first (H1)."""

    def __init__(self, folder):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Ends everything; fails if a program built with sanitizers had something to say."""
        for p in reversed(self.processes):
            try:
                p.stop(timeout=20)
            except Exception:  # the others still have to end
                p.kill()
        said = [f"{p.name}: {p.log()[m.start():m.start() + 6000]}" for p in self.processes
                for m in [SANITIZER.search(p.log())] if m]
        self.processes = []
        assert not said, "\n".join(said)

    def run(self, process, wait=True):
        self.processes.append(process)
        return process.start(wait=wait)

    def process(self, name, argv, **kw):
        return self.run(Process(name, argv, kw.pop("cwd", self.folder), **kw))

    def server(self, config, binary=None, wait=True, **kw):
        return self.run(Server(binary or BINARY, self.folder, config, **kw), wait=wait)

    def reference(self, config, **kw):
        kw.setdefault("name", "reference")
        return self.run(Server(PROMETHEUS, self.folder, config, **kw))

    def folder_for(self, name, user=None):
        path = os.path.join(self.folder, name)
        os.makedirs(path, exist_ok=True)
        if user and os.getuid() == 0:
            shutil.chown(path, user)
            # pytest's folders are closed to others; the way to this one must be open.
            up = os.path.dirname(path)
            while os.stat(up).st_uid == os.getuid() and up not in ("/", "/tmp"):
                os.chmod(up, os.stat(up).st_mode | 0o711)
                up = os.path.dirname(up)
        return path


# --- the real parts -----------------------------------------------------------------------------


def http_up(port, path="/metrics"):
    return lambda: request(port, "GET", path, timeout=10).status == 200


def start_node_exporter(stage):
    port = free_port()
    stage.process("node_exporter", ["/usr/bin/prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}",
                                    "--no-collector.systemd"], ready=http_up(port))
    return port


def start_redis(stage):
    """redis-server and its exporter; returns (exporter's port, redis's port)."""
    redis, exporter = free_port(), free_port()
    folder = stage.folder_for("redis")
    stage.process("redis", ["/usr/bin/redis-server", "--port", redis, "--bind", "127.0.0.1", "--dir", folder,
                            "--save", "", "--appendonly", "no"], ready=lambda: port_open(redis))
    stage.process("redis_exporter", ["/usr/bin/prometheus-redis-exporter", "-redis.addr", f"redis://127.0.0.1:{redis}",
                                     "-web.listen-address", f"127.0.0.1:{exporter}"], ready=http_up(exporter))
    return exporter, redis


def redis_command(port, *words):
    """One command in the redis protocol; returns the first reply line."""
    out = f"*{len(words)}\r\n".encode()
    for w in words:
        w = str(w).encode()
        out += b"$%d\r\n%s\r\n" % (len(w), w)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(out)
        return s.makefile("rb").readline().strip().decode()


def postgres_bin():
    top = "/usr/lib/postgresql"
    versions = sorted((v for v in os.listdir(top) if v.isdigit()), key=int)
    return os.path.join(top, versions[-1], "bin")


def start_postgres(stage):
    """postgresql and its exporter; returns (exporter's port, postgres's port)."""
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder = stage.folder_for("postgres", user)
    port, exporter = free_port(), free_port()
    init = Process("initdb", [os.path.join(postgres_bin(), "initdb"), "-D", folder + "/data", "-U", "monitor", "-A", "trust",
                              "--no-sync", "--locale=C", "-E", "UTF8"], stage.folder, user=user)
    init.start(wait=False)
    assert init.popen.wait(timeout=60) == 0, init.log()
    stage.process("postgres", [os.path.join(postgres_bin(), "postgres"), "-D", folder + "/data", "-p", port,
                               "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off", "-c", "max_connections=50"],
                  user=user, ready=lambda: port_open(port))
    stage.process("postgres_exporter", ["/usr/bin/prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{exporter}"],
                  env={"DATA_SOURCE_NAME": f"postgresql://monitor@127.0.0.1:{port}/postgres?sslmode=disable"},
                  ready=lambda: "pg_up 1" in request(exporter, "GET", "/metrics").text)
    return exporter, port


def node_modules():
    """The npm packages of tests/e2e/node, installed once into a cache outside of the tree."""
    here = os.path.join(ROOT, "tests/e2e/node")
    cache = os.environ.get("NX_NODE_CACHE") or os.path.join(ROOT, "build/e2e-node")
    stamp = os.path.join(cache, ".installed")
    with open(os.path.join(here, "package-lock.json"), "rb") as f:
        want = f.read()
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(cache, ".lock"), "w") as lock:  # two test runs beside each other want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(stamp) or open(stamp, "rb").read() != want:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(os.path.join(here, name), cache)
            r = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], cwd=cache,
                               capture_output=True, text=True, timeout=300)
            assert r.returncode == 0, r.stderr + r.stdout
            with open(stamp, "wb") as f:
                f.write(want)
    return os.path.join(cache, "node_modules")


def start_express(stage, name, source):
    """An Express app with prom-client; `source` is its .js file. Node looks for packages beside it."""
    port = free_port()
    folder = stage.folder_for(name)
    shutil.copy(source, os.path.join(folder, "app.js"))
    if not os.path.exists(os.path.join(folder, "node_modules")):
        os.symlink(node_modules(), os.path.join(folder, "node_modules"))
    stage.process(name, ["node", "app.js"], cwd=folder,
                  env={"PORT": str(port), "HOST": "127.0.0.1", "NODE_ENV": "production"}, ready=http_up(port), timeout=60)
    return port


EXAMPLES = os.path.join(ROOT, "config/examples")


def start_fastapi(stage):
    port = free_port()
    stage.process("fastapi", ["/usr/bin/python3", "-B", "-m", "uvicorn", "main:app", "--host", "127.0.0.1", "--port", port,
                              "--log-level", "warning"], cwd=stage.folder, env={"PYTHONPATH": os.path.join(EXAMPLES, "fastapi/app")},
                  ready=http_up(port))
    return port


def start_django(stage):
    port = free_port()
    env = {"SQLITE_PATH": os.path.join(stage.folder_for("django"), "db.sqlite3"), "PYTHONDONTWRITEBYTECODE": "1"}
    manage = ["/usr/bin/python3", "-B", os.path.join(EXAMPLES, "django/app/manage.py")]
    migrate = Process("migrate", manage + ["migrate"], stage.folder, env=env).start(wait=False)
    assert migrate.popen.wait(timeout=60) == 0, migrate.log()
    stage.process("django", manage + ["runserver", "--noreload", f"127.0.0.1:{port}"], env=env, ready=http_up(port))
    return port


# --- comparing answers --------------------------------------------------------------------------


def canonical_bound(text):
    """le and quantile as numbers: Prometheus 3 stores "1.0" where 2.x kept "1"."""
    try:
        return repr(float(text))
    except ValueError:
        return text


def series_key(metric, ignore=()):
    return tuple(sorted((k, canonical_bound(v) if k in ("le", "quantile") else v)
                        for k, v in metric.items() if k not in ignore))


def same_number(a, b, rel=1e-9):
    """a, b are value texts. Sums over many series may be added in another order: `rel` allows for that."""
    x, y = float(a), float(b)
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    return x == y or math.isclose(x, y, rel_tol=rel, abs_tol=1e-12)


def differences(got, want, ordered=False, ignore=(), rel=1e-9):
    """What differs between two answers' `data`, as a list of lines; empty when they agree."""
    if got["resultType"] != want["resultType"]:
        return [f"resultType: got {got['resultType']}, want {want['resultType']}"]
    if got["resultType"] in ("scalar", "string"):
        (t1, v1), (t2, v2) = got["result"], want["result"]
        same = v1 == v2 if got["resultType"] == "string" else same_number(v1, v2, rel)
        return [] if t1 == t2 and same else [f"got {got['result']}, want {want['result']}"]

    def points(data):
        out, order = {}, []
        for e in data["result"]:
            key = series_key(e["metric"], ignore)
            if key in out:
                out[key + (("answered", "twice"),)] = []
            out[key] = [e["value"]] if "value" in e else e["values"]
            order.append(key)
        return out, order

    a, order_a = points(got)
    b, order_b = points(want)
    lines = [f"only in what we got: {dict(k)}" for k in a if k not in b]
    lines += [f"missing: {dict(k)}" for k in b if k not in a]
    for key in a:
        if key not in b:
            continue
        pa, pb = {t: v for t, v in a[key]}, {t: v for t, v in b[key]}
        for t in sorted(set(pa) | set(pb)):
            if t not in pa or t not in pb:
                lines.append(f"{dict(key)} at {t}: got {pa.get(t)}, want {pb.get(t)}")
            elif not same_number(pa[t], pb[t], rel):
                lines.append(f"{dict(key)} at {t}: got {pa[t]}, want {pb[t]}")
    if not lines and ordered and order_a != order_b:
        lines.append(f"order: got {order_a}, want {order_b}")
    return lines


def basic_auth(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
