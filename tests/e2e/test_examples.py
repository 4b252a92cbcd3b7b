"""The five stacks of config/examples, with those of their parts that Debian and npm have.

The shipped prometheus.yml runs with its targets pointed at the parts here; jobs without a part
(cAdvisor, Loki) are left out. Then every panel of the shipped dashboards is asked as Grafana asks it.
"""

import glob
import json
import os
import re
import time

import pytest
import yaml

import harness

# host:port in the shipped configuration -> the part that is meant
PARTS = {
    "nodejs-postgres": {"app:3000": "express", "postgres-exporter:9187": "postgres"},
    "exporters-alerts": {"node-exporter:9100": "node", "postgres-exporter:9187": "postgres", "redis-exporter:9121": "redis"},
    "fastapi": {"api:8000": "fastapi"},
    "django": {"web:8000": "django", "postgres-exporter:9187": "postgres", "redis-exporter:9121": "redis", "node-exporter:9100": "node"},
    "express-loki": {"app:3000": "express_loki"},
}
ABSENT = {"cadvisor:8080", "loki:3100"}
# Panels that rightly show nothing on an idle machine: what they count has not happened.
MAY_BE_EMPTY = re.compile(r"container_|gc_duration|inventory_items|redis_keyspace|blks_read|device!~|fstype")


def local_config(name, ports, own_port):
    """The shipped configuration with local targets and quick scrapes; returns it with its job names."""
    with open(os.path.join(harness.EXAMPLES, name, "prometheus.yml")) as f:
        config = yaml.safe_load(f)
    config["global"]["scrape_interval"] = "1s"
    config["global"].pop("scrape_timeout", None)
    config.pop("alerting", None)
    jobs = []
    for job in config["scrape_configs"]:
        job.pop("scrape_interval", None)
        for group in job["static_configs"]:
            wanted = group["targets"]
            group["targets"] = [f"127.0.0.1:{own_port if t == 'localhost:9090' else ports[PARTS[name][t]]}"
                                for t in wanted if t not in ABSENT]
        if any(g["targets"] for g in job["static_configs"]):
            jobs.append(job)
    config["scrape_configs"] = jobs
    if "rule_files" in config:
        config["rule_files"] = [os.path.join(harness.EXAMPLES, name, "rules/*.yml")]
    return config, sorted(j["job_name"] for j in jobs)


def panels(name):
    for path in glob.glob(os.path.join(harness.EXAMPLES, name, "grafana/dashboards/*.json")):
        with open(path) as f:
            for panel in json.load(f)["panels"]:
                if panel["datasource"]["type"] == "prometheus":
                    for target in panel["targets"]:
                        yield panel["title"], target["expr"]


class Stack:
    pass


@pytest.fixture(scope="module")
def stacks(parts, tmp_path_factory):
    """All five at once, here and in Prometheus."""
    made = {}
    with harness.Stage(tmp_path_factory.mktemp("stacks")) as stage:
        for name in PARTS:
            made[name] = stack = Stack()
            stack.servers = []
            for binary, kind in ((harness.BINARY, "tested"), (harness.PROMETHEUS, "reference")):
                server = harness.Server(binary, stage.folder, None, name=f"{name}-{kind}")
                config, stack.jobs = local_config(name, parts, server.port)
                server.write_config(config)
                stack.servers.append(stage.run(server))
        for stack in made.values():
            for server in stack.servers:
                harness.wait_for(f"scrapes by {server.name}", lambda: len(server.vector("count_over_time(up[1m]) > 20")) == len(stack.jobs), 90, 0.5)
        yield made


def test_every_example_is_here():
    assert set(PARTS) == {os.path.basename(os.path.dirname(p)) for p in glob.glob(os.path.join(harness.EXAMPLES, "*/prometheus.yml"))}


@pytest.mark.parametrize("name", PARTS)
def test_all_is_up(stacks, name):
    def all_up():
        for server in stacks[name].servers:
            up = {dict(k)["job"]: v for k, v in server.vector("up").items()}
            assert up == {job: "1" for job in stacks[name].jobs}, [t["lastError"] for t in server.targets()]

    harness.settles(all_up)


PANELS = [(name, title, expr) for name in PARTS for title, expr in panels(name)]


def test_dashboards_have_panels():
    assert len(PANELS) > 60
    for name in PARTS:
        with open(os.path.join(harness.EXAMPLES, name, "grafana/provisioning/datasources/datasources.yml")) as f:
            sources = yaml.safe_load(f)["datasources"]
        assert [s["url"] for s in sources if s["type"] == "prometheus"] == ["http://prometheus:9090"]
        with open(os.path.join(harness.EXAMPLES, name, "docker-compose.yml")) as f:
            assert yaml.safe_load(f)["services"]["prometheus"]["image"] == "narthex"


@pytest.mark.parametrize("name, title, expr", PANELS, ids=[f"{n} {t} {e[:40]}" for n, t, e in PANELS])
def test_panels_show_what_prometheus_shows(stacks, name, title, expr):
    expr = expr.replace("$__rate_interval", "15s").replace("$instance", ".*")

    def agree():
        now = time.time()
        found = []
        for server in stacks[name].servers:
            data = server.post("/api/v1/query_range", {"query": expr, "start": now - 8, "end": now - 1, "step": 1}).data
            assert data["resultType"] == "matrix"
            # What each process says about itself differs by its name and port.
            found.append({harness.series_key(e["metric"]) for e in data["result"] if e["metric"].get("job") != "prometheus"})
        assert found[0] == found[1], f"{title}: {expr}"
        assert found[0] or MAY_BE_EMPTY.search(expr), f"{title}: {expr} shows nothing"

    harness.settles(agree)  # a series that has just been born is in one of them a second sooner
