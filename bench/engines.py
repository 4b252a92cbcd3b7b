"""The servers that compare.py runs beside each other: how each is started, loaded, asked and weighed."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

HOST = "127.0.0.1"


def free_port():
    with socket.socket() as s:
        s.bind((HOST, 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    """User and system time of a process, from the kernel's clock of it (nanoseconds)."""
    return time.clock_gettime((~pid << 3) | 2)


def status_bytes(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return next((int(line.split()[1]) * 1024 for line in f if line.startswith(key + ":")), 0)


def written_bytes(pid):
    """What the process had written to disk, by the kernel's count."""
    with open(f"/proc/{pid}/io") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("write_bytes:"))


def tree_bytes(path, but=None):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(path) for f in files
               if not (but and os.path.relpath(d, path).split(os.sep)[0] == but))


class Server:
    """One server process on a free port. Ended by its pid, and by nothing else."""
    kind = name = ""
    load_args = []  # of the loading tool
    ready_path = "/-/ready"
    extra = {}

    def __init__(self, binary, folder, config="global: {}\n"):
        self.binary, self.folder = binary, folder
        self.data = os.path.join(folder, "data")
        self.config = os.path.join(folder, "prometheus.yml")
        self.log = os.path.join(folder, "log")
        self.port = free_port()
        self.proc = self.conn = None
        os.makedirs(self.data, exist_ok=True)
        with open(self.config, "w") as f:
            f.write(config)

    def argv(self):
        return [self.binary, f"--config.file={self.config}", f"--storage.tsdb.path={self.data}",
                f"--web.listen-address={HOST}:{self.port}", "--storage.tsdb.retention.time=50y"]

    def launch(self):
        with open(self.log, "a") as log:
            self.proc = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self):
        """Starts, and returns the seconds until it said that it is ready."""
        begin = time.monotonic()
        self.launch()
        while time.monotonic() - begin < 300:
            if self.proc.poll() is not None:
                sys.exit(f"{self.name} ended:\n" + open(self.log, errors="replace").read()[-2000:])
            try:
                if self.get(self.ready_path)[0] == 200:
                    return time.monotonic() - begin
            except OSError:
                pass
            time.sleep(0.002)
        sys.exit(f"{self.name} was not ready within five minutes")

    def get(self, path):
        for attempt in (0, 1):
            try:
                if self.conn is None:
                    self.conn = http.client.HTTPConnection(HOST, self.port, timeout=300)
                self.conn.request("GET", path, headers={"Accept-Encoding": "identity"})
                answer = self.conn.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, OSError):
                self.conn.close()
                self.conn = None
                if attempt:
                    raise

    def query(self, path, **params):
        status, body = self.get("/api/v1/" + path + "?" + urllib.parse.urlencode({**params, **self.extra}, doseq=True))
        if status != 200:
            raise RuntimeError(f"{self.name}: {path} {params}: {status} {body[:300]!r}")
        return body

    def value(self, expr, at):
        result = json.loads(self.query("query", query=expr, time=f"{at:.3f}"))["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def settle(self):
        """Makes all that was taken in visible to queries."""

    def cpu(self):
        return cpu_seconds(self.proc.pid)

    def memory(self, key="VmRSS"):
        return status_bytes(self.proc.pid, key)

    def peak_begin(self):
        """From now on VmHWM is the highest since now."""
        with open(f"/proc/{self.proc.pid}/clear_refs", "w") as f:
            f.write("5")

    def written(self):
        return written_bytes(self.proc.pid)

    def disk_bytes(self):
        return tree_bytes(self.data)

    def stop(self, sig=signal.SIGTERM):
        if self.conn:
            self.conn.close()
            self.conn = None
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(sig)
            self.proc.wait(120)

    def load_tool(self):
        """The program that has `tsdb create-blocks-from`."""
        return self.binary

    def load(self, openmetrics, _millis):
        """Loads a file into the data folder. Returns the CPU seconds it took; the server runs then."""
        begin = os.times()
        subprocess.run([self.load_tool(), "tsdb", "create-blocks-from", *self.load_args, "openmetrics", openmetrics, self.data],
                       check=True, stdout=subprocess.DEVNULL)
        end = os.times()
        self.start()
        return end.children_user + end.children_system - begin.children_user - begin.children_system


class Narthex(Server):
    kind, name = "narthex", "Narthex"


class Prometheus(Server):
    kind, name = "prometheus", "Prometheus"

    def load_tool(self):
        beside = os.path.join(os.path.dirname(shutil.which(self.binary) or self.binary), "promtool")
        return beside if os.path.exists(beside) else "promtool"


class VictoriaMetrics(Server):
    """Asked without its response cache; its caches on disk are not counted as data."""
    kind, name = "victoria", "VictoriaMetrics"
    ready_path = "/health"
    extra = {"nocache": "1"}

    def argv(self):
        return [self.binary, f"-promscrape.config={self.config}", f"-storageDataPath={self.data}",
                f"-httpListenAddr={HOST}:{self.port}", "-retentionPeriod=50y", "-search.latencyOffset=0s",
                "-search.maxUniqueTimeseries=3000000", "-search.maxQueryDuration=5m", "-search.maxSamplesPerQuery=1000000000", "-loggerLevel=WARN"]

    def settle(self):
        self.get("/internal/force_flush")

    def disk_bytes(self):
        return tree_bytes(self.data, but="cache")

    def load(self, _openmetrics, millis):
        self.start()
        begin = self.cpu()
        conn = http.client.HTTPConnection(HOST, self.port, timeout=600)
        with open(millis, "rb") as f:
            conn.request("POST", "/api/v1/import/prometheus", body=f, headers={"Content-Length": str(os.path.getsize(millis))})
            status = conn.getresponse().status
        conn.close()
        if status not in (200, 204):
            sys.exit(f"{self.name}: import: {status}")
        self.settle()
        used = self.cpu() - begin
        self.get("/internal/force_merge")
        time.sleep(1)
        for _ in range(600):
            lines = self.get("/metrics")[1].decode().splitlines()
            if not sum(float(x.split()[-1]) for x in lines if x.startswith(("vm_active_merges", "vm_active_force_merges"))):
                break
            time.sleep(0.5)
        self.stop()
        self.start()
        return used


class Farm:
    """Exporters in one process (farm.c); what it uses is in no figure."""

    def __init__(self, binary, targets, series):
        self.targets, self.series, self.port = targets, series, free_port()
        self.proc = subprocess.Popen([binary, "--port", str(self.port), "--targets", str(targets), "--series", str(series)],
                                     stdout=subprocess.PIPE)
        self.proc.stdout.readline()

    def config(self, interval, jobs=("farm",)):
        """The targets are shared out to the jobs, in turn."""
        lines = ["global:", f"  scrape_interval: {interval}s", f"  scrape_timeout: {min(interval, 10)}s", "scrape_configs:"]
        for k, job in enumerate(jobs):
            lines += [f"- job_name: {job}", "  static_configs:"] + self.entries(range(k, self.targets, len(jobs)))
        return "\n".join(lines) + "\n"

    def entries(self, targets):
        lines = []
        for i in targets:
            lines += [f"  - targets: ['{HOST}:{self.port}']", "    labels:", f"      __metrics_path__: /{i}/metrics",
                      f"      instance: target-{i}"]
        return lines

    def stop(self):
        self.proc.terminate()
        self.proc.wait()
