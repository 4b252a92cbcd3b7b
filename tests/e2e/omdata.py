"""Makes an OpenMetrics file that looks like a small shop: web servers, a machine, Redis, Postgres.

The same families and labels as real exporters have, on a 15 s grid with an offset for each target,
over four and a half hours (three blocks), with what makes queries hard: counters that reset, a target
that is away for ten minutes, series that come and go, NaN and infinities. Nothing in it is random:
two calls give the same bytes.
"""

import math
import random

START = 1_700_006_400  # a multiple of two hours
SECONDS = 4 * 3600 + 1800
STEP = 15
# Counters begin high. Where one begins near zero in the middle of a window, rate() of Prometheus 2 and 3
# extrapolate differently, and both are right.
MUCH = 100_000


class Writer:
    def __init__(self):
        self.families = {}

    def add(self, family, kind, name, labels, at, value):
        text = ",".join(f'{k}="{v}"' for k, v in labels.items())
        series = f"{name}{{{text}}}" if text else name
        self.families.setdefault((family, kind), {}).setdefault(series, []).append((at, value))

    def lines(self):
        for (family, kind), series in self.families.items():
            yield f"# TYPE {family} {kind}\n"
            for key, points in series.items():
                for at, value in points:
                    yield f"{key} {number(value)} {at}\n"
        yield "# EOF\n"


def number(v):
    if isinstance(v, float):
        if math.isnan(v):
            return "NaN"
        if math.isinf(v):
            return "+Inf" if v > 0 else "-Inf"
    return repr(v)


BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]
ROUTES = [("GET", "/", 3.0), ("GET", "/api/orders", 2.0), ("POST", "/api/orders", 0.7), ("GET", "/api/search", 1.1)]


def web(w, index, rnd):
    """One web server; web-2 restarts, web-3 is away for ten minutes."""
    base = {"instance": f"web-{index}:3000", "job": "web"}
    counts, sums, buckets = {}, {}, {}
    cpu = 1.0 * MUCH
    started = START - 1000 * index
    for n in range(SECONDS // STEP):
        at = START + n * STEP + index
        if index == 3 and 7000 <= n * STEP < 7600:
            w.add("up", "gauge", "up", base, at, 0)
            continue
        if index == 2 and n * STEP == 7800:
            counts, sums, buckets, cpu, started = {}, {}, {}, 0.0, at - 3
        w.add("up", "gauge", "up", base, at, 1)
        cpu += rnd.random() * 3
        w.add("process_cpu_seconds", "counter", "process_cpu_seconds_total", base, at, round(cpu, 3))
        w.add("process_start_time_seconds", "gauge", "process_start_time_seconds", base, at, started)
        w.add("process_resident_memory_bytes", "gauge", "process_resident_memory_bytes", base, at, 90_000_000 + rnd.randrange(4096) * 4096)
        w.add("nodejs_eventloop_lag_p99_seconds", "gauge", "nodejs_eventloop_lag_p99_seconds", base, at, round(rnd.expovariate(80), 9))
        w.add("http_requests_in_flight", "gauge", "http_requests_in_flight", base, at, rnd.randrange(4))
        for method, route, weight in ROUTES:
            if route == "/api/search" and n < 200 * index:
                continue  # a route nobody has called yet
            for status in ("200", "404", "500"):
                labels = {**base, "method": method, "route": route, "status_code": status}
                key = (method, route, status)
                if key not in counts and n * STEP != 7800:
                    counts[key], sums[key], buckets[key] = MUCH, MUCH * 0.02, [MUCH] * len(BOUNDS)
                share = {"200": 1.0, "404": 0.1, "500": 0.03}[status]
                wave = 1 + 0.5 * math.sin(n / 60 + index)
                new = int(rnd.random() * 2 * STEP * weight * share * wave)
                counts[key] = counts.get(key, 0) + new
                have = buckets.setdefault(key, [0] * len(BOUNDS))
                for _ in range(new):
                    t = rnd.lognormvariate(-3, 1)
                    sums[key] = sums.get(key, 0.0) + t
                    for i, bound in enumerate(BOUNDS):
                        if t <= bound:
                            have[i] += 1
                w.add("http_requests", "counter", "http_requests_total", labels, at, counts[key])
                family = "http_request_duration_seconds"
                for bound, c in zip(BOUNDS, have):
                    w.add(family, "histogram", family + "_bucket", {**labels, "le": repr(bound)}, at, c)
                w.add(family, "histogram", family + "_bucket", {**labels, "le": "+Inf"}, at, counts[key])
                w.add(family, "histogram", family + "_sum", labels, at, round(sums.get(key, 0.0), 9))
                w.add(family, "histogram", family + "_count", labels, at, counts[key])


def node(w, rnd):
    base = {"instance": "node-1:9100", "job": "node"}
    cpu = {(c, m): MUCH * 1.0 * len(m) for c in ("0", "1") for m in ("idle", "iowait", "system", "user")}
    received = {"eth0": 10**9, "lo": 10**6}
    read = written = 5 * 10**8
    io = 1.0 * MUCH
    for n in range(SECONDS // STEP):
        at = START + n * STEP + 4
        w.add("up", "gauge", "up", base, at, 1)
        busy = 0.3 + 0.25 * math.sin(n / 40)
        for c in ("0", "1"):
            u, s, i = STEP * busy * rnd.random(), STEP * busy * 0.3 * rnd.random(), STEP * 0.02 * rnd.random()
            for mode, more in (("user", u), ("system", s), ("iowait", i), ("idle", STEP - u - s - i)):
                cpu[c, mode] += more
                w.add("node_cpu_seconds", "counter", "node_cpu_seconds_total", {**base, "cpu": c, "mode": mode}, at, round(cpu[c, mode], 2))
        total = 8_589_934_592
        free = int(total * (0.2 + 0.1 * rnd.random()))
        for name, value in (("MemTotal", total), ("MemFree", free), ("Buffers", 123_456_512), ("Cached", 1_500_000_256 + n * 4096),
                            ("MemAvailable", free + 1_700_000_000), ("SwapTotal", 0), ("SwapFree", 0)):
            w.add(f"node_memory_{name}_bytes", "gauge", f"node_memory_{name}_bytes", base, at, value)
        disk = {**base, "device": "/dev/vda", "fstype": "ext4", "mountpoint": "/"}
        w.add("node_filesystem_size_bytes", "gauge", "node_filesystem_size_bytes", disk, at, 100_000_000_000)
        w.add("node_filesystem_avail_bytes", "gauge", "node_filesystem_avail_bytes", disk, at, 60_000_000_000 - n * 9_000_000)
        for device in received:
            received[device] += rnd.randrange(2_000_000)
            labels = {**base, "device": device}
            w.add("node_network_receive_bytes", "counter", "node_network_receive_bytes_total", labels, at, received[device])
            w.add("node_network_transmit_bytes", "counter", "node_network_transmit_bytes_total", labels, at, received[device] // 3)
        read += rnd.randrange(500_000)
        written += rnd.randrange(900_000)
        io += rnd.random()
        vda = {**base, "device": "vda"}
        w.add("node_disk_read_bytes", "counter", "node_disk_read_bytes_total", vda, at, read)
        w.add("node_disk_written_bytes", "counter", "node_disk_written_bytes_total", vda, at, written)
        w.add("node_disk_io_time_seconds", "counter", "node_disk_io_time_seconds_total", vda, at, round(io, 3))
        for minutes in (1, 5, 15):
            w.add(f"node_load{minutes}", "gauge", f"node_load{minutes}", base, at, round(0.5 + busy * rnd.random(), 2))
        w.add("node_boot_time_seconds", "gauge", "node_boot_time_seconds", base, at, START - 86_400)


def redis(w, rnd):
    base = {"instance": "db-1:9121", "job": "redis"}
    hits = misses = commands = MUCH
    by_cmd = {"get": MUCH, "set": MUCH, "expire": MUCH}
    for n in range(SECONDS // STEP):
        at = START + n * STEP + 5
        w.add("up", "gauge", "up", base, at, 1)
        w.add("redis_up", "gauge", "redis_up", base, at, 1)
        hits += rnd.randrange(300)
        misses += rnd.randrange(40)
        w.add("redis_keyspace_hits", "counter", "redis_keyspace_hits_total", base, at, hits)
        w.add("redis_keyspace_misses", "counter", "redis_keyspace_misses_total", base, at, misses)
        for cmd in by_cmd:
            by_cmd[cmd] += rnd.randrange(200)
            w.add("redis_commands", "counter", "redis_commands_total", {**base, "cmd": cmd}, at, by_cmd[cmd])
        commands += rnd.randrange(500)
        w.add("redis_commands_processed", "counter", "redis_commands_processed_total", base, at, commands)
        w.add("redis_connected_clients", "gauge", "redis_connected_clients", base, at, 5 + rnd.randrange(10))
        w.add("redis_memory_used_bytes", "gauge", "redis_memory_used_bytes", base, at, 2_000_000 + n * 100 + rnd.randrange(10_000))
        w.add("redis_memory_max_bytes", "gauge", "redis_memory_max_bytes", base, at, 0)
        for db in range(3):
            w.add("redis_db_keys", "gauge", "redis_db_keys", {**base, "db": f"db{db}"}, at, (n * (db + 1)) % 1000)


def postgres(w, rnd):
    base = {"instance": "db-1:9187", "job": "postgres", "server": "127.0.0.1:5432"}
    dbs = {"": 0, "postgres": 5, "shop": 16384}
    commit = {d: 100 * MUCH for d in dbs}
    back = {d: 100 * MUCH for d in dbs}
    hit = {d: 100 * MUCH for d in dbs}
    read = {d: 100 * MUCH for d in dbs}
    for n in range(SECONDS // STEP):
        at = START + n * STEP + 6
        w.add("up", "gauge", "up", {"instance": "db-1:9187", "job": "postgres"}, at, 1)
        w.add("pg_up", "gauge", "pg_up", {"instance": "db-1:9187", "job": "postgres"}, at, 1)
        w.add("pg_settings_max_connections", "gauge", "pg_settings_max_connections", base, at, 100)
        for name, oid in dbs.items():
            labels = {**base, "datid": str(oid), "datname": name}
            commit[name] += rnd.randrange(100)
            back[name] += rnd.randrange(5)
            hit[name] += rnd.randrange(10_000)
            read[name] += rnd.randrange(100)
            w.add("pg_stat_database_numbackends", "gauge", "pg_stat_database_numbackends", labels, at, rnd.randrange(12))
            w.add("pg_stat_database_xact_commit", "unknown", "pg_stat_database_xact_commit", labels, at, commit[name])
            w.add("pg_stat_database_xact_rollback", "unknown", "pg_stat_database_xact_rollback", labels, at, back[name])
            w.add("pg_stat_database_blks_hit", "unknown", "pg_stat_database_blks_hit", labels, at, hit[name])
            w.add("pg_stat_database_blks_read", "unknown", "pg_stat_database_blks_read", labels, at, read[name])
            if name:
                w.add("pg_database_size_bytes", "gauge", "pg_database_size_bytes", {**base, "datname": name}, at, 8_000_000 + n * oid)
                for mode in ("accesssharelock", "exclusivelock", "rowexclusivelock"):
                    w.add("pg_locks_count", "gauge", "pg_locks_count", {**base, "datname": name, "mode": mode}, at, rnd.randrange(3))


def odd(w, rnd):
    """Values and labels that are legal and rare."""
    base = {"instance": "odd:1", "job": "odd"}
    values = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 5e-324, 1.7976931348623157e308, -1.0, 0.1, 1 / 3, 2.0**53, 1e21, 1e-7]
    for n in range(SECONDS // STEP):
        at = START + n * STEP + 7
        w.add("odd_value", "gauge", "odd_value", base, at, values[n % len(values)])
        w.add("odd_label", "gauge", "odd_label", {**base, "text": "caf\u00e9 \\\\ \\\" \\n <&>", "empty": ""}, at, n)
        if n % 100 < 3:  # hardly ever there
            w.add("odd_rare", "gauge", "odd_rare", base, at, n)
        w.add("odd_state", "gauge", "odd_state", base, at, (n // 7) % 3)


def write(path, more=()):
    """`more` are functions as those below, for what only some tests want."""
    rnd = random.Random(20240229)
    w = Writer()
    for index in (1, 2, 3):
        web(w, index, rnd)
    node(w, rnd)
    redis(w, rnd)
    postgres(w, rnd)
    odd(w, rnd)
    for part in more:
        part(w, rnd)
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(w.lines())


if __name__ == "__main__":
    import sys

    write(sys.argv[1])
