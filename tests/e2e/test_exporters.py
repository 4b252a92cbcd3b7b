"""Real exporters, scraped by the program and by Prometheus side by side, with the same configuration."""

import time

import pytest

import harness

JOBS = ("node", "redis", "postgres", "express", "python", "django", "fastapi")


def config(ports):
    return {
        "global": {"scrape_interval": "1s", "external_labels": {"where": "here"}},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{ports[job]}"], "labels": {"tier": "test"}}]}
            for job in JOBS
        ],
    }


class Setup:
    pass


@pytest.fixture(scope="module")
def setup(parts, module_stage):
    s = Setup()
    s.ports = parts
    s.config = config(s.ports)
    s.tested = module_stage.server(s.config, name="tested")
    s.reference = module_stage.reference(s.config)
    s.servers = (s.tested, s.reference)
    for server in s.servers:
        harness.wait_for(f"12 scrapes by {server.name}", lambda: all(
            float(v) >= 12 for v in server.vector("count_over_time(up[5m])").values())
            and len(server.vector("count_over_time(up[5m])")) == len(JOBS), timeout=60, every=0.3)
    return s


@pytest.mark.parametrize("job", JOBS)
def test_is_up_on_both(setup, job):
    def is_up():
        for server in setup.servers:
            got = server.vector(f'up{{job="{job}"}}')
            assert list(got.values()) == ["1"], (server.name, server.target(job)["lastError"])
            labels = dict(next(iter(got)))
            assert labels == {"__name__": "up", "job": job, "instance": f"127.0.0.1:{setup.ports[job]}", "tier": "test"}

    harness.settles(is_up)


@pytest.mark.parametrize("job", JOBS)
def test_targets_agree(setup, job):
    def agree():
        ours, theirs = (s.target(job) for s in setup.servers)
        for key in ("labels", "scrapePool", "scrapeUrl", "health", "lastError", "scrapeInterval", "scrapeTimeout", "discoveredLabels"):
            assert ours[key] == theirs[key], key

    harness.settles(agree)


@pytest.mark.parametrize("job", JOBS)
def test_series_agree(setup, job):
    """The very same series, at one moment: what is in the newest scrape of each."""
    def both():
        got, want = ({harness.series_key(e["metric"]) for e in s.query(f'{{job="{job}"}}')["result"]} for s in setup.servers)
        return got, want

    def agree():
        got, want = both()
        return got == want and len(got) > 10

    try:  # a series that has just been born is in one of them a second sooner
        harness.wait_for("both to have the same series", agree, timeout=15, every=0.5)
    except AssertionError:
        got, want = both()
        assert not (got ^ want), {"only here": sorted(got - want)[:5], "missing": sorted(want - got)[:5]}
        raise


CONSTANT = [
    'node_memory_MemTotal_bytes', 'node_uname_info', 'node_boot_time_seconds', 'node_exporter_build_info',
    'count by (cpu) (node_cpu_seconds_total)', 'node_filesystem_size_bytes', 'node_network_mtu_bytes',
    'redis_up', 'redis_instance_info', 'redis_memory_max_bytes', 'redis_start_time_seconds',
    'pg_up', 'pg_settings_max_connections', 'pg_settings_shared_buffers_bytes', 'pg_static', 'pg_exporter_last_scrape_error',
    'nodejs_version_info', 'process_start_time_seconds', 'process_max_fds', 'python_info', 'worker_build_info',
    'worker_state', 'scrape_samples_scraped{job="redis"}', 'django_migrations_applied_total',
    'absent(up{job="node"})', 'count by (job) (up)',
    'label_replace(pg_settings_max_connections, "port", "$1", "server", ".*:(.*)")',
]


@pytest.mark.parametrize("expr", CONSTANT)
def test_what_does_not_change_is_equal(setup, expr):
    def lines():
        ours, theirs = (s.query(expr) for s in setup.servers)
        for data in (ours, theirs):
            for e in data["result"]:
                e["value"][0] = 0  # each was asked at its own moment
        return harness.differences(ours, theirs), theirs["result"]

    def equal():
        wrong, found = lines()
        assert not wrong, "\n".join(wrong[:10])
        assert found or expr.startswith("absent")

    harness.settles(equal)  # a filesystem or a container's network may just have come or gone


MOVING = [  # what people watch; each server scraped it at its own moments, so the answers are near, not equal
    ('sum(rate(node_cpu_seconds_total[10s]))', 0.15),
    ('100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)', 0.15),
    ('100 - 100 * node_filesystem_avail_bytes{mountpoint="/"} / node_filesystem_size_bytes{mountpoint="/"}', 0.05),
    ('sum(rate(redis_commands_processed_total[10s]))', 0.35),
    ('redis_db_keys{db="db0"}', 0.1),
    ('sum(redis_memory_used_bytes)', 0.2),
    ('sum(pg_database_size_bytes)', 0.05),
    ('sum(rate(http_requests_total{job="express"}[10s]))', 0.35),
    ('100 * sum(rate(http_requests_total{job="express",status_code=~"5.."}[20s])) / sum(rate(http_requests_total{job="express"}[20s]))', 0.5),
    ('sum(rate(worker_tasks_total[10s]))', 0.35),
    ('histogram_quantile(0.9, sum by (le) (rate(worker_task_duration_seconds_bucket[20s])))', 0.5),
    ('sum(increase(worker_task_duration_seconds_count[20s]))', 0.35),
    ('rate(worker_payload_bytes_sum[20s]) / rate(worker_payload_bytes_count[20s])', 0.35),
    ('sum(rate(http_request_duration_seconds_count{job="fastapi"}[10s]))', 0.35),
    ('sum(rate(django_http_requests_total_by_method_total[20s]))', 0.35),
    ('avg(nodejs_heap_size_total_bytes)', 0.5),
    ('sum by (job) (process_resident_memory_bytes{job!="node"})', 0.3),
]


@pytest.mark.parametrize("expr, tolerance", MOVING, ids=[e for e, _ in MOVING])
def test_what_moves_is_near(setup, expr, tolerance):
    def near():
        at = time.time()
        ours, theirs = (s.vector(expr, at) for s in setup.servers)
        assert set(ours) == set(theirs) and ours
        for key in ours:
            a, b = float(ours[key]), float(theirs[key])
            assert abs(a - b) <= tolerance * max(abs(a), abs(b)), (key, a, b)

    harness.settles(near)  # where all stood still for a while, the second between the two's scrapes makes more of a difference


def test_metadata_agrees(setup):
    def plain(es):
        return sorted((e["type"].replace("unknown", "untyped"), e["help"], e["unit"]) for e in es)

    def agree():
        ours, theirs = (s.get("/api/v1/metadata").data for s in setup.servers)
        for name, entries in theirs.items():
            assert name in ours, name
            assert plain(ours[name]) == plain(entries), name
        assert set(ours) == set(theirs)

    harness.settles(agree)


def test_scrapes_keep_their_interval(setup):
    """Sample times keep to the schedule: a late scrape is late by itself and moves none after it."""
    def keeps(server):
        data = server.query('up{job="node"}[10s]')
        times = [t for t, _ in data["result"][0]["values"]]
        assert len(times) >= 8
        steps = [round(b - a, 3) for a, b in zip(times, times[1:])]
        offsets = [(t - times[0] + 0.5) % 1 - 0.5 for t in times]
        assert all(0.7 < s < 1.3 for s in steps), (server.name, steps)
        assert max(offsets) - min(offsets) < 0.3 and abs(sum(steps) / len(steps) - 1) < 0.03, (server.name, times)

    for server in setup.servers:  # ten seconds in which the machine let it
        harness.wait_for("scrapes in time", lambda: keeps(server) or True, 60, 1)


def test_report_series_are_there(setup):
    for name in ("scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"):
        ours, theirs = (s.vector(name) for s in setup.servers)
        assert set(ours) == set(theirs) and len(ours) == len(JOBS), name
