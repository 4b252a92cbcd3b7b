"""The real exporters and apps, started once for all tests that scrape them, and kept busy."""

import json
import os
import threading

import harness

HERE = os.path.dirname(os.path.abspath(__file__))


def drive(ports, redis, stop):
    """Some life for the apps to report."""
    n = 0
    while not stop.wait(0.1):
        n += 1
        try:
            harness.redis_command(redis, "SET", f"key{n % 50}", n)
            harness.redis_command(redis, "GET", f"key{n % 80}")
            harness.request(ports["express"], "GET", ("/", "/orders", "/orders/fail", "/nowhere")[n % 4])
            harness.request(ports["express_loki"], "GET", ("/", "/work?ms=5", "/fail")[n % 3])
            harness.request(ports["express"], "POST", "/orders", body=json.dumps({"item": "pen"}),
                            headers={"Content-Type": "application/json"})
            harness.request(ports["fastapi"], "GET", ("/", "/items/pen", "/fail")[n % 3])
            harness.request(ports["fastapi"], "PUT", "/items/pen?count=2")
            if n % 5 == 0:
                harness.request(ports["django"], "POST", "/orders/", form={"item": "ink"})
            harness.request(ports["django"], "GET", ("/orders/", "/orders/1/", "/fail/")[n % 3])
        except OSError:
            pass  # the parts end before this thread does


class Parts:
    """`ports` by part; close() stops the traffic. The processes are the stage's."""

    def __init__(self, stage):
        self.ports = ports = {"node": harness.start_node_exporter(stage)}
        ports["redis"], redis = harness.start_redis(stage)
        ports["postgres"], _ = harness.start_postgres(stage)
        ports["express"] = harness.start_express(stage, "express", os.path.join(harness.EXAMPLES, "nodejs-postgres/app/app.js"))
        ports["express_loki"] = harness.start_express(stage, "express_loki", os.path.join(harness.EXAMPLES, "express-loki/app/app.js"))
        ports["python"] = harness.free_port()
        stage.process("python_app", ["/usr/bin/python3", "-B", os.path.join(HERE, "python_app.py"), ports["python"]],
                      ready=harness.http_up(ports["python"]))
        ports["fastapi"] = harness.start_fastapi(stage)
        ports["django"] = harness.start_django(stage)
        self.stop = threading.Event()
        self.driver = threading.Thread(target=drive, args=(ports, redis, self.stop), daemon=True)
        self.driver.start()

    def close(self):
        self.stop.set()
        self.driver.join(timeout=10)
