"""What is kept: bounds by the configuration, and their reload."""

import time

import pytest

import harness

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="came after 2.42")

SECTION = "storage:\n  tsdb:\n    retention:\n"


def limits(server):
    lines = server.get("/metrics").text.splitlines()
    return [float(line.split()[1]) for kind in ("seconds", "bytes", "percentage")
            for line in lines if line.startswith(f"prometheus_tsdb_retention_limit_{kind} ")]


def test_bounds_of_the_configuration(stage):
    server = stage.server(SECTION + "      percentage: 80.5\n", flags=["--storage.tsdb.retention.size=1GB"])
    assert limits(server) == [0, 2**30, 80.5]
    assert server.get("/api/v1/status/runtimeinfo").data["storageRetention"] == "1GiB or 80.5%"
    server.write_config(SECTION + "      time: 2h\n      size: 5MB\n")
    assert server.reload().status == 200
    assert limits(server) == [7200, 5 * 2**20, 0]
    server.write_config("{}")
    assert server.reload().status == 200
    assert limits(server) == [0, 2**30, 0]
    server.write_config(SECTION + "      percentage: 101\n")
    assert server.reload().status == 500
    assert limits(server) == [0, 2**30, 0]


HOUR = 3600
NAMES = ["business_orders", "business_visits", "debug_calls", "plain"]
RULES = """\
retention:
- match: '{__name__=~"business_.*"}'
  keep: 100y
- match: '{job="debug"}'
  keep: %s
"""


def make_blocks(folder, days):
    """Every hour of so many days up to now, all but `plain` with job="debug"."""
    now = int(time.time()) // HOUR * HOUR
    lines = []
    for name in NAMES:
        labels = '{job="debug"}' if name != "plain" else ""
        lines += [f"# TYPE {name} gauge"]
        lines += [f"{name}{labels} {t % 1000} {t}" for t in range(now - days * 24 * HOUR, now, HOUR)]
    (folder / "in.om").write_text("\n".join(lines) + "\n# EOF\n")
    r = harness.run_tool(harness.BINARY, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=6h", str(folder / "in.om"), str(folder / "data"))
    assert r.returncode == 0, r.stderr
    return now


def oldest(server, name, now, days):
    """How many days the oldest sample of a series is old."""
    found = server.query_range(name, now - (days + 1) * 24 * HOUR, now, HOUR)["result"]
    return (now - found[0]["values"][0][0]) / 86400 if found else None


def test_rules_by_matcher(stage, tmp_path):
    now = make_blocks(tmp_path, 12)
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES % "3d")
    server = stage.server("{}", data=tmp_path / "data", flags=["--storage.tsdb.retention.time=6d", f"--storage.tsdb.retention.rules={rules}"])

    def ages():
        return {name: oldest(server, name, now, 12) for name in NAMES}

    # A block is two hours, or half a day when it was merged (a tenth of six days).
    harness.wait_for("the rules to be in force", lambda: ages()["debug_calls"] < 3.8 and ages()["plain"] < 6.8)
    got = ages()
    assert got["business_orders"] == got["business_visits"] == 12
    assert got["debug_calls"] >= 3 and got["plain"] >= 6
    metrics = server.get("/metrics").text
    assert "\nnarthex_storage_samples_expired_total 0\n" not in metrics and "narthex_storage_samples_expired_total" in metrics

    # A file that is wrong changes nothing, and is told with its place.
    rules.write_text("retention:\n- match: '{__name__=~\"business_.*\"}'\n  keep: 100y\n- match: '{job='\n  keep: 1d\n")
    answer = server.reload()
    assert answer.status == 500 and "rules.yml:4: retention[1].match" in answer.text, answer.text
    rules.write_text(RULES % "1d")
    assert server.reload().status == 200
    harness.wait_for("the new rules to be in force", lambda: ages()["debug_calls"] < 1.8)
    got = ages()
    assert got["debug_calls"] >= 1 and got["business_orders"] == 12


def test_a_server_does_not_start_with_wrong_rules(stage, tmp_path):
    rules = tmp_path / "rules.yml"
    rules.write_text("retention:\n- match: up\n  keep: 0s\n")
    for path, said in ((rules, "rules.yml:3: retention[0].keep"), (tmp_path / "none.yml", "no such file")):
        server = stage.server("{}", flags=[f"--storage.tsdb.retention.rules={path}"], wait=False, name="with-" + path.stem)
        assert server.popen.wait(timeout=20) == 2
        assert said in server.log()


def test_rules_are_checked(tmp_path):
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(RULES % "2d")
    bad.write_text("retention:\n- match: up\n  keep: 2d\n  kept: 1\n")
    r = harness.run_tool(harness.BINARY, "check", "retention", str(good))
    assert r.returncode == 0 and "SUCCESS: 2 retention rules" in r.stdout
    r = harness.run_tool(harness.BINARY, "check", "retention", str(good), str(bad))
    assert r.returncode == 1 and "line 4: field kept not found" in r.stderr and "SUCCESS" in r.stdout
    assert harness.run_tool(harness.BINARY, "check", "retention", str(tmp_path / "none.yml")).returncode == 1


BAD_LEVELS = [
    ("- after: 1d\n  resolution: 5m\n  keep: 12h\n", "bad.yml:4: downsample[0].keep"),
    ("- after: 1d\n  resolution: 5s\n  keep: 2d\n", "bad.yml:3: downsample[0].resolution"),
    ("- resolution: 5m\n  keep: 2d\n", "bad.yml:2: downsample[0].after"),
    ("- {after: 1d, resolution: 5m, keep: 2d}\n- {after: 2d, resolution: 7m, keep: 9d}\n", "bad.yml:3: downsample[1]"),
    ("- {after: 1d, resolution: 5m, keep: 2d}\n- {after: 1d, resolution: 1h, keep: 9d}\n", "bad.yml:3: downsample[1]"),
    ("- after: 1d\n  every: 5m\n", "line 3: field every not found in type downsample.level"),
    ("-\n", "bad.yml:2: downsample[0]"),
]


@pytest.mark.parametrize("text, said", BAD_LEVELS, ids=[b[1] for b in BAD_LEVELS])
def test_levels_are_checked(tmp_path, text, said):
    bad = tmp_path / "bad.yml"
    bad.write_text("downsample:\n" + text)
    r = harness.run_tool(harness.BINARY, "check", "retention", str(bad))
    assert r.returncode == 1 and said in r.stderr, r.stderr


LEVELS = """\
downsample:
- after: 2d
  resolution: 2h
  keep: 6d
- after: 4d
  resolution: 6h
  keep: 1y
"""


def test_old_samples_are_kept_at_coarser_resolutions(stage, tmp_path):
    now = make_blocks(tmp_path, 10)
    rules = tmp_path / "rules.yml"
    rules.write_text(LEVELS)
    r = harness.run_tool(harness.BINARY, "check", "retention", str(rules))
    assert r.returncode == 0 and "2 levels of downsampling" in r.stdout
    server = stage.server("{}", data=tmp_path / "data", flags=["--storage.tsdb.retention.time=3d", f"--storage.tsdb.retention.rules={rules}"])

    def points(hours):
        """How many points or samples are told of the half day that ended so many hours ago."""
        found = server.query("plain[12h]", now - hours * HOUR)["result"]
        return len(found[0]["values"]) if found else 0

    # Samples for three days, every two hours for six, every six for the rest.
    harness.wait_for("the levels to be in force", lambda: points(24) == 12 and 6 <= points(108) < 12 and 2 <= points(192) < 6)
    end = now // (6 * HOUR) * 6 * HOUR  # whole windows: counts are those of the samples
    found = server.query_range("count_over_time(plain[6h])", end - 9 * 24 * HOUR, end - 6 * HOUR, 6 * HOUR)["result"]
    assert {v for _, v in found[0]["values"]} == {"6"} and len(found[0]["values"]) == 36
    found = server.query_range("plain", now - 9 * 24 * HOUR, now - HOUR, HOUR)["result"]
    assert len(found[0]["values"]) == 9 * 24  # an instant always finds something
    assert set(server.get("/api/v1/label/__name__/values").data) >= set(NAMES)
    assert "\nnarthex_storage_blocks_downsampled_total 0\n" not in server.get("/metrics").text
    assert server.stop() == 0
    data = str(tmp_path / "data")
    r = harness.run_tool(harness.BINARY, "tsdb", "verify", data)  # what a block of points holds lies on other times
    assert r.returncode == 0 and "no problems" in r.stdout, r.stdout
    out = str(tmp_path / "out.om")
    r = harness.run_tool(harness.BINARY, "tsdb", "export", "-o", out, data)
    assert r.returncode == 0 and "of the samples are what downsampling left" in r.stderr, r.stderr
    with open(out) as f:
        times = [float(line.split()[-1]) for line in f if line.startswith("plain ") or line.startswith("plain{")]
    assert times == sorted(set(times)) and now - 11 * 24 * HOUR < times[0] < now - 8 * 24 * HOUR and times[-1] <= now
