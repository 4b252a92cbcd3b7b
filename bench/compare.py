#!/usr/bin/env python3
"""Runs Narthex and Prometheus in turn on the same load and prints figures and their ratios.

    cmake --preset release && cmake --build --preset release --target narthex bench_farm
    bench/compare.py                       # everything, about 10 minutes
    bench/compare.py --only ingest,disk    # some of it
    bench/compare.py --quick               # small sizes, to see that it works

Needs Python 3 and Debian's prometheus (with promtool). All traffic stays on 127.0.0.1; data lies in a
temporary folder that is removed; only processes started here are ended, by pid. Servers run one after
the other with the same configuration file, so they never compete. CPU is the kernel's clock of the
server's process: what the exporter farm uses is not in it. Ratios below 1 mean Narthex needs less.
"""
import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def proc_cpu(pid):
    """User and system seconds, from the scheduler's clock where the kernel has it."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        except (OSError, ValueError, IndexError):
            with open(f"/proc/{pid}/stat") as f:
                v = f.read().rsplit(")", 1)[1].split()
            return (int(v[11]) + int(v[12])) / TICKS
    return total / 1e9


def proc_status(pid, key):
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return 0


def tree_bytes(path):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(path) for f in files)


class Server:
    """One server process on a free port; `kind` only decides how its tool is called."""

    def __init__(self, kind, binary, folder, config_text):
        self.kind, self.binary, self.folder = kind, binary, folder
        self.data = os.path.join(folder, "data")
        self.config = os.path.join(folder, "prometheus.yml")
        self.log = os.path.join(folder, "log")
        self.port = free_port()
        os.makedirs(self.data, exist_ok=True)
        with open(self.config, "w") as f:
            f.write(config_text)
        self.proc = None
        self.conn = None

    def start(self):
        """Starts and returns the seconds until /-/ready said yes."""
        begin = time.monotonic()
        with open(self.log, "a") as log:
            self.proc = subprocess.Popen(
                [self.binary, f"--config.file={self.config}", f"--storage.tsdb.path={self.data}",
                 f"--web.listen-address=127.0.0.1:{self.port}", "--storage.tsdb.retention.time=10y"],
                stdout=log, stderr=log)
        while time.monotonic() - begin < 120:
            if self.proc.poll() is not None:
                sys.exit(f"{self.kind} ended: see\n" + open(self.log).read()[-2000:])
            try:
                if self.get("/-/ready")[0] == 200:
                    return time.monotonic() - begin
            except OSError:
                pass
            time.sleep(0.002)
        sys.exit(f"{self.kind} was not ready within two minutes")

    def get(self, path):
        for attempt in (0, 1):
            try:
                if self.conn is None:
                    self.conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
                self.conn.request("GET", path)
                answer = self.conn.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, OSError):
                self.conn.close()
                self.conn = None
                if attempt:
                    raise

    def query(self, path, **params):
        status, body = self.get("/api/v1/" + path + "?" + urllib.parse.urlencode(params))
        if status != 200:
            sys.exit(f"{self.kind}: {path} {params}: {status} {body[:300]!r}")
        return body

    def value(self, expr, at):
        result = json.loads(self.query("query", query=expr, time=at))["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def cpu(self):
        return proc_cpu(self.proc.pid)

    def stop(self, sig=signal.SIGTERM):
        if self.conn:
            self.conn.close()
            self.conn = None
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(sig)
            self.proc.wait(60)

    def load(self, openmetrics):
        """Loads a file as blocks; returns the CPU seconds it took."""
        tool = [self.binary] if self.kind == "narthex" else [shutil.which("promtool")]
        begin = os.times()
        subprocess.run(tool + ["tsdb", "create-blocks-from", "openmetrics", openmetrics, self.data],
                       check=True, stdout=subprocess.DEVNULL)
        end = os.times()
        return end.children_user + end.children_system - begin.children_user - begin.children_system


# ---- the loads --------------------------------------------------------------------------------------

def farm_config(port, targets, interval):
    lines = ["global:", f"  scrape_interval: {interval}s", f"  scrape_timeout: {interval}s", "scrape_configs:",
             "- job_name: farm", "  static_configs:"]
    for i in range(targets):
        lines += [f"  - targets: ['127.0.0.1:{port}']", "    labels:", f"      __metrics_path__: /{i}/metrics",
                  f"      instance: target-{i}"]
    return "\n".join(lines) + "\n"


def ingest(a, kind, binary, folder):
    """Scrapes the farm; then kills the server and starts it again."""
    port = free_port()
    farm = subprocess.Popen([a.farm, "--port", str(port), "--targets", str(a.targets), "--series", str(a.series)],
                            stdout=subprocess.PIPE)
    farm.stdout.readline()
    server = Server(kind, binary, folder, farm_config(port, a.targets, a.interval))
    try:
        server.start()
        time.sleep(2.5 * a.interval)
        cpu, begin = server.cpu(), time.time()
        time.sleep(a.seconds)
        cpu, end = server.cpu() - cpu, time.time()
        # By the samples that a query finds in the window, so that a scrape that did not happen counts
        # for nobody. One look-back is left out at both ends.
        window = int(end - begin)
        per_series = server.value(f"sum(count_over_time(scrape_samples_scraped[{window}s]))", end) / a.targets
        scraped = server.value("sum(scrape_samples_scraped)", end)
        samples = per_series * scraped
        rss, anon = proc_status(server.proc.pid, "VmRSS"), proc_status(server.proc.pid, "RssAnon")
        up = server.value("sum(up)", end)
        before = server.value(f"sum(count_over_time(up[{window}s]))", end)
        server.stop(signal.SIGKILL)
        ready = server.start()
        after = server.value(f"sum(count_over_time(up[{window}s]))", end)
        first = server.value("sum(up)", time.time())
    finally:
        server.stop()
        farm.terminate()
        farm.wait()
    return {"cpu_per_million": cpu / samples * 1e6, "rss": rss, "anon": anon, "series": scraped, "up": up,
            "samples": samples, "ready": ready, "lost_scrapes": before - after, "up_after": first}


def write_backfill(path, series, hours, seed=7):
    """OpenMetrics text: counters, gauges, constants and a histogram, every 15 s; the same for everyone."""
    rnd = random.Random(seed)
    start = 1735689600
    n = 0
    with open(path, "w") as f:
        for k in range(series):
            kind, instance, job = k % 10, k // 10 % 20, "api" if k % 3 else "db"
            labels = f'instance="host-{instance}",job="{job}",k="{k}"'
            name = ("bench_requests_total" if kind < 3 else "bench_temperature" if kind < 5 else
                    "bench_bytes" if kind == 5 else "bench_latency_seconds_bucket" if kind == 6 else "bench_limit")
            if kind == 6:
                labels += f',le="{[0.1, 0.5, 1, 5][k // 10 % 4]}"'
            v = rnd.randrange(1000)
            lines = []
            for i in range(hours * 240):
                if kind < 3 or kind == 6:
                    v += rnd.randrange(20)
                elif kind < 5:
                    v = round(20 + 5 * rnd.random(), 2)
                elif kind == 5:
                    v = 4096 * rnd.randrange(100000)
                lines.append(f"{name}{{{labels}}} {v} {start + 15 * i}\n")
            f.writelines(lines)
            n += len(lines)
        f.write("# EOF\n")
    return n, start, start + hours * 3600


DASHBOARD = [
    "sum(rate(bench_requests_total[5m]))",
    "sum by (instance) (rate(bench_requests_total[5m]))",
    'sum by (job) (rate(bench_requests_total{job=~"a.*"}[5m])) / 100',
    "histogram_quantile(0.95, sum by (le) (rate(bench_latency_seconds_bucket[5m])))",
    "avg by (instance) (bench_temperature)",
    "max_over_time(bench_temperature[10m])",
    "topk(5, sum by (instance) (rate(bench_requests_total[5m])))",
    "bench_bytes / 1024 / 1024",
    "100 * sum by (instance) (bench_bytes) / ignoring() sum by (instance) (bench_bytes + 1)",
    'quantile_over_time(0.9, bench_temperature{instance="host-1"}[30m])',
]


def disk(a, kind, binary, folder, openmetrics, samples, end):
    """Loads blocks, weighs them, and asks the dashboard's queries over the whole time."""
    server = Server(kind, binary, folder, "global: {}\n")
    load_cpu = server.load(openmetrics)
    size = tree_bytes(server.data)
    times, bodies, cpu = [], [], 0.0
    try:
        server.start()
        for expr in DASHBOARD:
            ask = dict(query=expr, start=end - a.hours * 3600 + 607, end=end - 8, step=60)
            bodies.append(json.loads(server.query("query_range", **ask)))
            server.query("query_range", **ask)
            one, used = [], server.cpu()
            for _ in range(a.rounds):
                begin = time.perf_counter()
                server.query("query_range", **ask)
                one.append(time.perf_counter() - begin)
            cpu += (server.cpu() - used) / a.rounds
            times.append(statistics.median(one))
    finally:
        server.stop()
    return {"bytes_per_sample": size / samples, "load_cpu": load_cpu, "p50": times, "query_cpu": cpu, "bodies": bodies}


def same_answers(a, b):
    """How many of the range answers have the same series and number of points."""
    def shape(body):
        return sorted((json.dumps(s["metric"], sort_keys=True), len(s["values"])) for s in body["data"]["result"])
    return sum(shape(x) == shape(y) for x, y in zip(a, b))


def binary_bytes(path, folder):
    copy = os.path.join(folder, "stripped")
    shutil.copy(path, copy)
    subprocess.run(["strip", copy], check=True)
    return os.path.getsize(copy)


# ---- the tables ---------------------------------------------------------------------------------------

def row(name, unit, ours, theirs, digits=3):
    print(f"| {name} | {unit} | {theirs:.{digits}g} | {ours:.{digits}g} | {ours / theirs if theirs else float('nan'):.3f} |",
          flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--narthex", default=os.path.join(ROOT, "build/release/narthex"))
    p.add_argument("--prometheus", default=shutil.which("prometheus") or "prometheus")
    p.add_argument("--farm", default=os.path.join(ROOT, "build/release/bench/bench_farm"))
    p.add_argument("--targets", type=int, default=100)
    p.add_argument("--series", type=int, default=1000, help="per target")
    p.add_argument("--interval", type=int, default=5, help="seconds between scrapes")
    p.add_argument("--seconds", type=int, default=120, help="length of the measured window")
    p.add_argument("--backfill-series", type=int, default=500)
    p.add_argument("--hours", type=int, default=24)
    p.add_argument("--rounds", type=int, default=11)
    p.add_argument("--only", default="ingest,disk,size")
    p.add_argument("--quick", action="store_true")
    a = p.parse_args()
    if a.quick:
        a.targets, a.series, a.seconds, a.backfill_series, a.hours, a.rounds = 10, 200, 15, 50, 3, 3
    engines = [("prometheus", a.prometheus), ("narthex", a.narthex)]
    only = set(a.only.split(","))

    print("| measure | unit | Prometheus | Narthex | ratio |\n|---|---|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="narthex-bench-") as tmp:
        if "ingest" in only:
            r = {k: ingest(a, k, b, os.path.join(tmp, "ingest-" + k)) for k, b in engines}
            ours, theirs = r["narthex"], r["prometheus"]
            row("CPU per million samples scraped", "s", ours["cpu_per_million"], theirs["cpu_per_million"])
            row(f"resident memory at {int(ours['series']):,} series", "MiB", ours["rss"] / 2**20, theirs["rss"] / 2**20)
            row("anonymous memory of it", "MiB", ours["anon"] / 2**20, theirs["anon"] / 2**20)
            row("start to ready after kill -9", "s", ours["ready"], theirs["ready"])
            for k in r:
                print(f"  {k}: {r[k]['samples']:.0f} samples in the window, {r[k]['up']:.0f} targets up, "
                      f"{r[k]['lost_scrapes']:.0f} scrapes lost by the kill", file=sys.stderr)
        if "disk" in only:
            path = os.path.join(tmp, "backfill.om")
            samples, _, end = write_backfill(path, a.backfill_series, a.hours)
            r = {k: disk(a, k, b, os.path.join(tmp, "disk-" + k), path, samples, end) for k, b in engines}
            ours, theirs = r["narthex"], r["prometheus"]
            row(f"disk, {samples:,} samples", "B/sample", ours["bytes_per_sample"], theirs["bytes_per_sample"])
            row("loading them from OpenMetrics, CPU", "s", ours["load_cpu"], theirs["load_cpu"])
            ratios = []
            for expr, x, y in zip(DASHBOARD, ours["p50"], theirs["p50"]):
                ratios.append(x / y)
                row(f"p50 `{expr}`".replace("|", "\\|"), "ms", x * 1e3, y * 1e3)
            row("p50 of the ten, geometric mean", "ms", statistics.geometric_mean(ours["p50"]) * 1e3,
                statistics.geometric_mean(theirs["p50"]) * 1e3)
            row("CPU of the ten, once each", "ms", ours["query_cpu"] * 1e3, theirs["query_cpu"] * 1e3)
            print(f"  {same_answers(ours['bodies'], theirs['bodies'])} of {len(DASHBOARD)} answers have the same series "
                  "and number of points", file=sys.stderr)
        if "size" in only:
            row("binary, stripped", "MiB", binary_bytes(a.narthex, tmp) / 2**20, binary_bytes(a.prometheus, tmp) / 2**20)


if __name__ == "__main__":
    main()
