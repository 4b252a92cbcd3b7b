"""What the example rules look at, by Debian's python3-prometheus-client: a machine and a shop that are well until
POST /trouble says otherwise, and again after POST /peace. The first argument is the port, the second what it is."""

import http.server
import sys
import threading
import time

from prometheus_client import Counter, Gauge, Histogram, generate_latest, CONTENT_TYPE_LATEST, REGISTRY, PROCESS_COLLECTOR

trouble = threading.Event()


def machine():
    cpu = Counter("node_cpu_seconds", "Seconds spent", ["cpu", "mode"])
    total = Gauge("node_memory_MemTotal_bytes", "Memory")
    available = Gauge("node_memory_MemAvailable_bytes", "Memory that programs may have")
    labels = ("device", "fstype", "mountpoint")
    size = Gauge("node_filesystem_size_bytes", "Size", labels).labels("/dev/vda1", "ext4", "/data")
    avail = Gauge("node_filesystem_avail_bytes", "What is left", labels).labels("/dev/vda1", "ext4", "/data")
    total.set(8 << 30)
    size.set(100 << 30)

    def live(seconds):
        idle = 0.02 if trouble.is_set() else 0.8
        for k in "01":
            cpu.labels(k, "idle").inc(seconds * idle)
            cpu.labels(k, "user").inc(seconds * (1 - idle))
        available.set((8 << 30) * (0.05 if trouble.is_set() else 0.5))
        avail.set((100 << 30) * (0.1 if trouble.is_set() else 0.6))
    return live


def shop():
    names = ["method", "route", "status_code"]
    requests = Counter("http_requests", "Requests answered", names)
    seconds = Histogram("http_request_duration_seconds", "Time they took", names, buckets=(0.01, 0.1, 0.5, 1, 2.5, 5))
    resident = Gauge("process_resident_memory_bytes", "Memory")

    def live(_):
        bad = trouble.is_set()
        requests.labels("GET", "/orders", "200").inc(5)
        requests.labels("GET", "/orders", "500").inc(5 if bad else 0)
        for _ in range(5):
            seconds.labels("GET", "/orders", "200").observe(2 if bad else 0.05)
        resident.set((900 if bad else 90) << 20)
    return live


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = generate_latest()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        (trouble.set if self.path == "/trouble" else trouble.clear)()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    REGISTRY.unregister(PROCESS_COLLECTOR)
    live = {"machine": machine, "shop": shop}[sys.argv[2]]()
    live(0.1)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        time.sleep(0.1)
        live(0.1)
