"""The alert rules of config/examples fire when what they watch goes wrong and resolve when it is well again, here and
in the reference, and reach a real Alertmanager.

Exporters are the real ones, stopped and started again; a machine and a shop that can be brought into trouble are
programs with the real client library. The rules run as they are but for their times: `for` becomes a second, and
windows become six.
"""

import os
import re

import pytest

import harness
import test_examples
from alertmanagers import Alertmanager

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ("exporters-alerts", "nodejs-postgres")


def quick(text):
    """The same rules for people in a hurry."""
    return re.sub(r"\[\d+[mh]\]", "[6s]", re.sub(r"for: \d+m", "for: 1s", text))


class World:
    def __init__(self, stage):
        self.stage, self.ports = stage, {"node": harness.start_node_exporter(stage)}
        self.ports["redis"], _ = harness.start_redis(stage)
        self.ports["postgres"], _ = harness.start_postgres(stage)
        for kind in ("machine", "shop"):
            port = self.ports[kind] = harness.free_port()
            stage.process(kind, ["/usr/bin/python3", "-B", os.path.join(HERE, "alerting_app.py"), port, kind], ready=harness.http_up(port))
        self.ports["express"] = self.ports["shop"]
        self.alertmanager = Alertmanager(stage)
        # With the reference's alerts in an Alertmanager of their own.
        self.other = Alertmanager(stage, name="alertmanager-reference")
        self.servers = {}
        for name in NAMES:
            for binary, kind in ((harness.BINARY, "tested"), (harness.PROMETHEUS, "reference")):
                self.servers[name, kind] = self.server(name, binary, kind)

    def server(self, name, binary, kind):
        server = harness.Server(binary, self.stage.folder, None, name=f"{name}-{kind}", flags=["--rules.alert.resend-delay=1s"])
        config, _ = test_examples.local_config(name, self.ports, server.port)
        config["global"].update(scrape_interval="500ms", evaluation_interval="500ms")
        for job in config["scrape_configs"]:
            job.pop("relabel_configs", None)
            if job["job_name"] == "postgres":  # without its database the exporter takes a second for each answer
                job.update(scrape_interval="3s", scrape_timeout="3s")
            if job["job_name"] == "node":
                job["static_configs"].append({"targets": [f"127.0.0.1:{self.ports['machine']}"]})
        if name == "nodejs-postgres":  # so nobody else asks it
            config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] != "postgres"]
        rules = os.path.join(self.stage.folder, f"{name}-rules.yml")
        with open(os.path.join(harness.EXAMPLES, name, "rules/alerts.yml")) as f, open(rules, "w") as to:
            to.write(quick(f.read()))
        config["rule_files"] = [rules]
        to = self.alertmanager if kind == "tested" else self.other
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [to.address]}]}]}
        server.write_config(config)
        return self.stage.run(server)

    def process(self, name):
        return next(p for p in self.stage.processes if p.name == name)

    def start_again(self, name):
        """Somebody's connection may have its port for a moment: then it ends, and is started once more."""
        def started():
            try:
                return self.process(name).start()
            except RuntimeError as e:
                raise OSError(e)
        harness.wait_for(f"{name} to be back", started, 30, 0.5)

    def tell(self, part, what):
        assert harness.request(self.ports[part], "POST", what).status == 204


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with harness.Stage(tmp_path_factory.mktemp("rules-examples")) as stage:
        world = World(stage)
        for server in world.servers.values():
            harness.wait_for("scrapes", lambda: len(server.vector("count_over_time(up[10s]) > 1")) >= 2, 60, 0.3)
        yield world


def ports_of(world, text):
    """An address means what stands there."""
    for name, port in world.ports.items():
        text = text.replace(f"127.0.0.1:{port}", name)
    return text


def shown(world, name, kind):
    """{(alert, instance or service): (state, summary)} by /api/v1/alerts."""
    found = {}
    for a in world.servers[name, kind].get("/api/v1/alerts").data["alerts"]:
        ls = a["labels"]
        where = ls.get("service") if "instance" not in ls else ls["instance"]
        found[ls["alertname"], ports_of(world, where)] = (a["state"], ports_of(world, a["annotations"]["summary"]))
    return found


def fires(world, name, alert, where):
    """In both, with the same words; the Alertmanager hears of ours."""
    key = (alert, where)
    summaries = []
    for kind in ("tested", "reference"):
        def firing():
            got = shown(world, name, kind).get(key)
            return got if got and got[0] == "firing" else None
        summaries.append(harness.wait_for(f"{alert} on {where} in {kind} to fire", firing, 30, 0.2)[1])
    # Figures in them differ by the moment.
    assert re.sub(r"[\d.]+", "#", summaries[0]) == re.sub(r"[\d.]+", "#", summaries[1])
    for manager in (world.alertmanager, world.other):
        harness.wait_for(f"{alert} to reach {manager.process.name}", lambda: key in told(world, manager), 30, 0.2)


def told(world, manager):
    """What the Alertmanager holds for active."""
    got = harness.request(manager.port, "GET", "/api/v2/alerts", {"active": "true"}).json
    return {(a["labels"]["alertname"], ports_of(world, a["labels"].get("instance") or a["labels"].get("service"))) for a in got}


def resolves(world, name, alert, where):
    key = (alert, where)
    for kind in ("tested", "reference"):
        harness.wait_for(f"{alert} on {where} in {kind} to end", lambda: key not in shown(world, name, kind), 40, 0.2)
    for manager in (world.alertmanager, world.other):
        harness.wait_for(f"{manager.process.name} to hear that {alert} is over", lambda: key not in told(world, manager), 30, 0.2)


def test_exporters_that_are_stopped_are_down(world):
    stopped = ["node_exporter", "redis_exporter", "shop"]
    for name in stopped:
        world.process(name).stop()
    fires(world, "exporters-alerts", "ServiceDown", "node")
    fires(world, "exporters-alerts", "ServiceDown", "redis")
    fires(world, "nodejs-postgres", "InstanceDown", "shop")
    for name in stopped:
        world.start_again(name)
    resolves(world, "exporters-alerts", "ServiceDown", "node")
    resolves(world, "exporters-alerts", "ServiceDown", "redis")
    resolves(world, "nodejs-postgres", "InstanceDown", "shop")


def test_databases_that_are_stopped_are_issues(world):
    for name in ("redis", "postgres"):
        world.process(name).stop(how=2)
    fires(world, "exporters-alerts", "DatabaseIssues", "redis")
    fires(world, "exporters-alerts", "DatabaseIssues", "postgres")
    for name in ("redis", "postgres"):
        world.start_again(name)
    resolves(world, "exporters-alerts", "DatabaseIssues", "redis")
    resolves(world, "exporters-alerts", "DatabaseIssues", "postgres")


def test_trouble_is_told_and_its_end(world):
    alerts = [("exporters-alerts", "HighCPUUsage", "machine"), ("exporters-alerts", "HighMemoryUsage", "machine"),
              ("exporters-alerts", "HighDiskUsage", "machine"), ("nodejs-postgres", "HighErrorRate", "shop"),
              ("nodejs-postgres", "APIHighResponseTime", "shop"), ("nodejs-postgres", "HighMemoryUsage", "shop")]
    for part in ("machine", "shop"):
        world.tell(part, "/trouble")
    for name, alert, where in alerts:
        fires(world, name, alert, where)
    for part in ("machine", "shop"):
        world.tell(part, "/peace")
    for name, alert, where in alerts:
        resolves(world, name, alert, where)


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_right_as_they_are(name):
    path = os.path.join(harness.EXAMPLES, name, "rules/alerts.yml")
    for binary in (harness.BINARY, harness.PROMETHEUS):
        r = harness.run_tool(binary, "check", "rules", path)
        assert r.returncode == 0 and "SUCCESS" in r.stdout, r.stdout + r.stderr
