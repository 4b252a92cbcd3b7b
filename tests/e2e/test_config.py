"""Configuration from outside: check config, start-up, reload."""

import glob
import os
import re
import signal
import time

import pytest

import harness

EXAMPLES = sorted(glob.glob(os.path.join(harness.ROOT, "config/examples/*/prometheus.yml")))
SHIPPED = EXAMPLES + [os.path.join(harness.ROOT, "config/narthex.yml")]
GOOD = "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\nscrape_configs:\n- job_name: self\n  static_configs:\n  - targets: ['127.0.0.1:%d']\n"


def test_all_five_examples_are_there():
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: os.path.relpath(p, harness.ROOT))
def test_shipped_configurations_are_valid(path):
    for binary in (harness.BINARY, harness.PROMETHEUS):
        r = harness.run_tool(binary, "check", "config", path)
        assert r.returncode == 0, (binary, r.stdout, r.stderr)
        assert "SUCCESS" in r.stdout


BAD = [
    ("unknown field", "global:\n  scrape_intervall: 15s\n", r"line 2.*scrape_intervall"),
    ("wrong type", "scrape_configs: fennel\n", r"line 1"),
    ("bad duration", "global:\n  scrape_interval: 15\n", r"15"),
    ("duplicate job", "scrape_configs:\n- job_name: a\n- job_name: a\n", r'"a"'),
    ("timeout over interval", "scrape_configs:\n- job_name: a\n  scrape_interval: 5s\n  scrape_timeout: 6s\n", r"greater than"),
    ("bad label name", "global:\n  external_labels:\n    \"\": c\n", r"label name"),
    ("bad regex", "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - regex: '('\n    target_label: b\n", r"(?i)paren|regex"),
    ("no job name", "scrape_configs:\n- metrics_path: /x\n", r"job_name"),
    ("not YAML", "scrape_configs: [\n", r"(?i)yaml"),
    ("bad rule path", "rule_files: ['a/*/b.yml']\n", r"rule file"),
    ("hashmod without modulus", "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - action: hashmod\n    target_label: b\n", r"modulus"),
    ("two kinds of credentials", "scrape_configs:\n- job_name: a\n  basic_auth: {username: u}\n  authorization: {credentials: c}\n", r"at most one"),
    ("duplicate key", "global: {}\nglobal: {}\n", r"line 2|already"),
]


@pytest.mark.parametrize("name, text, wanted", BAD, ids=[b[0] for b in BAD])
def test_bad_configurations_are_refused(tmp_path, name, text, wanted):
    path = tmp_path / "bad.yml"
    path.write_text(text)
    r = harness.run_tool(harness.BINARY, "check", "config", str(path))
    assert r.returncode == 1, r
    assert "FAILED" in r.stderr and re.search(wanted, r.stderr) and "bad.yml" in r.stdout + r.stderr, r.stderr


def test_a_bad_configuration_stops_the_start(stage):
    server = stage.server("scrape_configs:\n- job_name: a\n  nonsense: 1\n", wait=False)
    assert server.popen.wait(timeout=20) != 0
    assert "nonsense" in server.log()


def test_an_absent_configuration_stops_the_start(stage):
    server = stage.run(harness.Server(harness.BINARY, stage.folder, None), wait=False)
    assert server.popen.wait(timeout=20) != 0
    assert "server.yml" in server.log() or server.config_path in server.log()


def metric(server, name):
    """A metric of the server's own /metrics, by either prefix."""
    text = server.get("/metrics").text
    found = {}
    for prefix in ("prometheus_", "narthex_"):
        m = re.search(rf"^{prefix}{name} (\S+)$", text, re.M)
        if m:
            found[prefix] = float(m.group(1))
    assert "prometheus_" in found
    if not harness.IS_REFERENCE:
        assert found.get("narthex_") == found["prometheus_"]
    return found["prometheus_"]


def jobs(server):
    return {t["labels"]["job"] for t in server.targets()}


def reload_by_signal(server):
    server.send(signal.SIGHUP)


def reload_by_post(server):
    server.reload()


@pytest.mark.parametrize("reload", [reload_by_signal, reload_by_post], ids=["SIGHUP", "POST"])
def test_reload(stage, reload):
    server = harness.Server(harness.BINARY, stage.folder, "{}")
    server.write_config(GOOD % server.port)
    stage.run(server)
    harness.wait_for("the target", lambda: jobs(server) == {"self"})
    assert metric(server, "config_last_reload_successful") == 1
    first = metric(server, "config_last_reload_success_timestamp_seconds")
    assert abs(first - time.time()) < 60

    # A good one: a new job appears and an unchanged target keeps its state.
    harness.wait_for("some scrapes", lambda: float(next(iter(server.vector('count_over_time(up{job="self"}[1m])').values()))) > 3)
    server.write_config(GOOD % server.port + f"- job_name: second\n  static_configs:\n  - targets: ['127.0.0.1:{server.port}']\n")
    reload(server)
    harness.wait_for("the second job", lambda: jobs(server) == {"self", "second"})
    harness.wait_for("the second job up", lambda: server.vector('up{job="second"}'))
    assert metric(server, "config_last_reload_successful") == 1
    assert "second" in server.get("/api/v1/status/config").data["yaml"]
    up, took = (dict(server.query(name + '{job="self"}[1m]')["result"][0]["values"]) for name in ("up", "scrape_duration_seconds"))
    assert all(v == "1" or float(took[t]) >= 0.25 for t, v in up.items()), (up, took)  # none failed that had its time

    # A bad one: refused, said so, and the old one goes on.
    server.write_config("scrape_configs:\n- job_name: third\n  nonsense: 1\n")
    if reload is reload_by_post:
        answer = server.reload()
        assert answer.status == 500 and "failed to reload config" in answer.text and "nonsense" in answer.text
    else:
        reload(server)
    harness.wait_for("the refusal", lambda: metric(server, "config_last_reload_successful") == 0)
    assert jobs(server) == {"self", "second"}
    assert server.is_ready()
    before = float(next(iter(server.vector('count_over_time(up{job="self"}[5m])').values())))
    harness.wait_for("more scrapes", lambda: float(next(iter(server.vector('count_over_time(up{job="self"}[5m])').values()))) > before + 2)

    # And a good one again.
    server.write_config(GOOD % server.port)
    reload(server)
    harness.wait_for("the first job alone", lambda: jobs(server) == {"self"})
    harness.wait_for("success", lambda: metric(server, "config_last_reload_successful") == 1)
    assert metric(server, "config_last_reload_success_timestamp_seconds") >= first


def test_lifecycle_is_off_by_default(stage):
    server = harness.Server(harness.BINARY, stage.folder, "{}")
    server.argv.remove("--web.enable-lifecycle")
    stage.run(server)
    for path in ("/-/reload", "/-/quit"):
        assert server.post(path).status == 403
    assert server.alive()


def test_quit_and_signals_end_it_cleanly(stage):
    server = stage.server("{}", name="quit")
    assert "Requesting termination" in server.post("/-/quit").text
    assert server.popen.wait(timeout=20) == 0
    for number in (signal.SIGTERM, signal.SIGINT):
        server = stage.server("{}", name=f"signal{number}")
        server.send(number)
        assert server.popen.wait(timeout=20) == 0


def test_external_labels_and_environment(stage):
    os.environ["NX_E2E_REGION"] = "north"
    try:
        flags = ["--enable-feature=expand-external-labels"]  # on by itself in Prometheus 3, where the name is accepted
        server = stage.server("global:\n  external_labels:\n    region: ${NX_E2E_REGION}\n    cost: $$5\n", flags=flags)
    finally:
        del os.environ["NX_E2E_REGION"]
    shown = server.get("/api/v1/status/config").data["yaml"]
    assert "region: north" in shown and "cost: $5" in shown


def test_flags_are_shown(stage):
    server = stage.server("{}", flags=["--query.lookback-delta=3m", "--storage.tsdb.retention.time=20d"])
    flags = server.get("/api/v1/status/flags").data
    assert flags["query.lookback-delta"] == "3m" and flags["storage.tsdb.retention.time"] == "20d"
    assert flags["web.enable-lifecycle"] == "true" and flags["web.enable-admin-api"] == "false"
    assert all(isinstance(v, str) for v in flags.values())
    assert "20d" in server.get("/api/v1/status/runtimeinfo").data["storageRetention"]


@pytest.mark.parametrize("flag, status", [("--no-such-flag", 1), ("--query.timeout=xx", 2)])
def test_bad_flags(stage, flag, status):
    server = stage.server("{}", flags=[flag], wait=False)
    assert server.popen.wait(timeout=20) in ((1, 2) if harness.IS_REFERENCE else (status,))
    assert flag.strip("-").split("=")[0] in server.log()


def test_version():
    r = harness.subprocess.run([harness.BINARY, "--version"], capture_output=True, text=True, timeout=20)
    assert r.returncode == 0 and "version" in r.stdout + r.stderr


def test_relative_paths_are_the_config_files_own(stage):
    """Paths in the file are relative to the file, not to where the server was started."""
    folder = stage.folder_for("etc")
    with open(os.path.join(folder, "targets.json"), "w") as f:
        f.write('[{"targets": ["127.0.0.1:1"]}]')
    server = harness.Server(harness.BINARY, stage.folder, None)
    server.config_path = os.path.join(folder, "prometheus.yml")
    server.argv[1] = f"--config.file={server.config_path}"
    server.write_config("scrape_configs:\n- job_name: f\n  file_sd_configs:\n  - files: [targets.json]\n")
    stage.run(server)
    harness.wait_for("the target of targets.json", lambda: jobs(server) == {"f"})
