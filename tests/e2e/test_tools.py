"""The subcommands, beside promtool's."""

import os
import re
import shutil

import pytest

import harness

RULES = "groups:\n- name: g\n  rules:\n  - record: a\n    expr: sum(up)\n  - alert: B\n    expr: up == 0\n"


def both(*args, **kw):
    return [harness.run_tool(b, *args, **kw) for b in (harness.BINARY, harness.PROMETHEUS)]


CONFIGS = {
    "empty": "",
    "plain": "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: [x:1]\n",
    "rules": "rule_files: [rules.yml]\nscrape_configs: []\n",
    "no_rules": "rule_files: ['none-*.yml']\n",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_check_config_prints_what_promtool_prints(tmp_path, name):
    path = tmp_path / "prometheus.yml"
    path.write_text(CONFIGS[name])
    (tmp_path / "rules.yml").write_text(RULES)
    ours, theirs = both("check", "config", "--syntax-only", str(path))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), ours.stderr


def test_check_config_of_several_files(tmp_path):
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(CONFIGS["plain"])
    bad.write_text("scrape_configs:\n- job_name: a\n  no_such: 1\n")
    for r in both("check", "config", str(good), str(bad)):
        assert r.returncode == 1
        assert f"Checking {good}\n SUCCESS: {good} is valid prometheus config file syntax\n" in r.stdout
        assert re.search(r"FAILED: .*line 3: field no_such not found", r.stderr, re.S), r.stderr


def test_missing_arguments():
    for args in (["check"], ["check", "config"], ["nonsense"], ["check", "config", "/nowhere/at/all.yml"]):
        for r in both(*args):
            assert r.returncode == 1 and r.stderr, args
    assert all("does not exist" in r.stderr for r in both("check", "config", "/nowhere/at/all.yml"))


OM = """# TYPE a counter
a_total{x="1"} 1 1600000000
a_total{x="1"} 2 1600000060.5
a_total{x="2"} 7 1600007300
# TYPE b gauge
b NaN 1600000000
# EOF
"""


def test_create_blocks(stage):
    source = os.path.join(stage.folder, "in.om")
    with open(source, "w") as f:
        f.write(OM)
    for binary, name in ((harness.BINARY, "tested"), (harness.PROMETHEUS, "reference")):
        out = os.path.join(stage.folder, name + "-data")
        r = harness.run_tool(binary, "tsdb", "create-blocks-from", "openmetrics", source, out)
        assert r.returncode == 0, r.stderr
        rows = [line.split() for line in r.stdout.splitlines() if line.startswith("01")]
        assert r.stdout.splitlines()[0].split()[:2] == ["BLOCK", "ULID"] and len(rows) == 2, r.stdout
        server = stage.run(harness.Server(binary, stage.folder, "{}", ["--storage.tsdb.retention.time=100y"], name=name, data=out))
        got = server.query('{__name__=~".+"}[1d]', 1600010000)["result"]
        found = {(e["metric"]["__name__"], e["metric"].get("x")): e["values"] for e in got}
        assert found == {("a_total", "1"): [[1600000000, "1"], [1600000060.5, "2"]], ("a_total", "2"): [[1600007300, "7"]],
                         ("b", None): [[1600000000, "NaN"]]}
        server.stop()


@pytest.mark.parametrize("text", ["a 1 1600000000\n", "# TYPE a gauge\na 1\n# EOF\n", "a{b=c} 1 1600000000\n# EOF\n",
                                  'a{a="1",a="2"} 1 1600000000\n# EOF\n', "a 1 x\n# EOF\n", "a 1 1600000000\n# EOF\nb"])
def test_create_blocks_refuses(stage, text):
    source = os.path.join(stage.folder, "in.om")
    with open(source, "w") as f:
        f.write(text)
    said = []
    for binary, name in ((harness.BINARY, "tested"), (harness.PROMETHEUS, "reference")):
        out = os.path.join(stage.folder, name)
        r = harness.run_tool(binary, "tsdb", "create-blocks-from", "openmetrics", source, out)
        assert r.returncode == 1 and r.stderr, (binary, r.stdout)
        said.append(r.stderr.split(" while parsing")[0].split(" (\"INVALID")[0].strip())
        shutil.rmtree(out, ignore_errors=True)
    assert said[1].startswith(said[0].rsplit(", got", 1)[0]), said  # 3.x says more of a parse error


@pytest.mark.skipif(harness.IS_REFERENCE, reason="Prometheus has no such command")
def test_scripts_can_fail(tmp_path):
    """`test promql` must see a wrong value, or the golden tests prove nothing."""
    good = "load 5m\n  m 0+1x10\n\neval instant at 50m m\n  m 10\n"
    path = tmp_path / "a.test"
    path.write_text(good)
    assert harness.run_tool(harness.BINARY, "test", "promql", str(path)).returncode == 0
    for wrong in (good.replace("m 10\n", "m 11\n"), good.replace("  m 10\n", ""), good.replace("  m 10\n", "  m 10\n  n 1\n"), good + "nonsense\n"):
        path.write_text(wrong)
        r = harness.run_tool(harness.BINARY, "test", "promql", str(path))
        assert r.returncode == 1 and r.stderr + r.stdout, wrong


@pytest.mark.skipif(harness.IS_REFERENCE, reason="it is that program")
def test_other_names(tmp_path):
    """Under the names `prometheus` and `promtool` it is those programs."""
    for name in ("prometheus", "promtool"):
        os.symlink(harness.BINARY, tmp_path / name)
    path = tmp_path / "prometheus.yml"
    path.write_text(CONFIGS["plain"])
    r = harness.subprocess.run([tmp_path / "promtool", "check", "config", str(path)], capture_output=True, text=True)
    assert r.returncode == 0 and "SUCCESS" in r.stdout
    r = harness.subprocess.run([tmp_path / "prometheus", "--help"], capture_output=True, text=True)
    assert r.returncode == 0 and "--storage.tsdb.path" in r.stdout + r.stderr
    r = harness.subprocess.run([tmp_path / "prometheus", "check"], capture_output=True, text=True)
    assert r.returncode == 1
