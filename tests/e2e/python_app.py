"""A worker with Debian's python3-prometheus-client: every kind of metric, OpenMetrics when asked for."""

import random
import sys
import time

from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary, start_http_server

TASKS = Counter("worker_tasks", "Tasks done", ["queue", "result"])
BACKLOG = Gauge("worker_backlog", "Tasks waiting", ["queue"])
SECONDS = Histogram("worker_task_duration_seconds", "Time a task takes", ["queue"], buckets=(0.1, 0.5, 1, 2.5, 10))
PAYLOAD = Summary("worker_payload_bytes", "Size of tasks")
STATE = Enum("worker_state", "What it does", states=["starting", "running", "stopping"])
BUILD = Info("worker_build", "Version")

if __name__ == "__main__":
    BUILD.info({"version": "1.2.3", "path": 'C:\\dir "x"'})
    rnd = random.Random(1)
    STATE.state("running")
    for queue in ("mail", "thumbs"):
        for result in ("ok", "failed"):
            TASKS.labels(queue, result)
        SECONDS.labels(queue)
        BACKLOG.labels(queue)
    start_http_server(int(sys.argv[1]), addr="127.0.0.1")
    while True:
        queue = rnd.choice(("mail", "thumbs"))
        TASKS.labels(queue, "failed" if rnd.random() < 0.1 else "ok").inc()
        SECONDS.labels(queue).observe(rnd.expovariate(1))
        PAYLOAD.observe(rnd.randrange(10_000))
        BACKLOG.labels(queue).set(rnd.randrange(50))
        time.sleep(0.02)
