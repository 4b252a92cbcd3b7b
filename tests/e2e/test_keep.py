"""What is kept: bounds by the configuration, and their reload."""

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
