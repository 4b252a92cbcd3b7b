"""Data to load: OpenMetrics text, and the same with milliseconds for VictoriaMetrics' import."""
import gzip
import random

STEP_S = 15
START = 1735689600  # a fixed day, so that every run loads the same bytes

DASHBOARD = [
    "sum(rate(bench_requests_total[5m]))",
    "sum by (instance) (rate(bench_requests_total[5m]))",
    'sum by (job) (rate(bench_requests_total{job=~"a.*"}[5m])) / 100',
    "histogram_quantile(0.95, sum by (le) (rate(bench_latency_seconds_bucket[5m])))",
    "avg by (instance) (bench_temperature)",
    "max_over_time(bench_temperature[10m])",
    "topk(5, sum by (instance) (rate(bench_requests_total[5m])))",
    "bench_bytes / 1024 / 1024",
    "100 * sum by (instance) (bench_bytes) / ignoring() sum by (instance) (bench_bytes + 1)",
    'quantile_over_time(0.9, bench_temperature{instance="host-1"}[30m])',
]

# Of twenty series: noisy counters, decimal gauges, gauges of bytes, lines of a histogram, constants.
KINDS = ["counter"] * 6 + ["gauge"] * 2 + ["bytes"] + ["bucket"] * 2 + ["constant"] * 9
NAMES = {"counter": "bench_requests_total", "gauge": "bench_temperature", "bytes": "bench_bytes",
         "bucket": "bench_latency_seconds_bucket", "constant": "bench_limit"}


def values(kind, n, rnd):
    v = rnd.randrange(1000)
    rate = 1 + rnd.randrange(200)
    level = 4096 * rnd.randrange(1 << 20)
    for _ in range(n):
        if kind in ("counter", "bucket"):
            v += rnd.randrange(rate)
            yield v
        elif kind == "gauge":
            yield round(20 + 5 * rnd.random(), 2)
        elif kind == "bytes":
            level = max(0, level + 4096 * (rnd.randrange(201) - 100))
            yield level
        else:
            yield v


def write(path, series, hours, seed=7):
    """Writes PATH and PATH.ms; returns samples, start and end (seconds)."""
    rnd = random.Random(seed)
    n = int(hours * 3600 / STEP_S)
    with open(path, "w") as om, open(path + ".ms", "w") as ms:
        for k in range(series):
            kind, turn = KINDS[k % len(KINDS)], k // len(KINDS)
            labels = f'instance="host-{turn % 20}",job="{"api" if turn % 3 else "db"}",k="{k}"'
            if kind == "bucket":
                labels += f',le="{[0.1, 0.5, 1, 5][k % 2 + turn % 2 * 2]}"'
            head = f"{NAMES[kind]}{{{labels}}}"
            lines, millis = [], []
            for i, v in enumerate(values(kind, n, rnd)):
                lines.append(f"{head} {v} {START + STEP_S * i}\n")
                millis.append(f"{head} {v} {(START + STEP_S * i) * 1000}\n")
            om.writelines(lines)
            ms.writelines(millis)
        om.write("# EOF\n")
    return series * n, START, START + n * STEP_S


def write_sizes(path, sizes, minutes, step_s):
    """Metrics curve_10, curve_100, ... of so many series each; samples, start and end as write()."""
    n = minutes * 60 // step_s
    with open(path, "w") as om, open(path + ".ms", "w") as ms:
        for size in sizes:
            for k in range(size):
                head = f'curve_{size}{{instance="host-{k % 100}",k="{k}"}}'
                rate = 1 + k % 37
                om.write("".join(f"{head} {rate * i + k * i % 5} {START + step_s * i}\n" for i in range(n)))
                ms.write("".join(f"{head} {rate * i + k * i % 5} {(START + step_s * i) * 1000}\n" for i in range(n)))
        om.write("# EOF\n")
    return sum(sizes) * n, START, START + n * step_s


def recorded(source, path):
    """Copies a recorded OpenMetrics file (may be .gz) to PATH and PATH.ms; returns the number of samples."""
    n = 0
    with (gzip.open if source.endswith(".gz") else open)(source, "rt") as f, open(path, "w") as om, open(path + ".ms", "w") as ms:
        for line in f:
            om.write(line)
            if line[0] == "#":
                continue
            text, _, stamp = line.rstrip("\n").rpartition(" ")
            ms.write(f"{text} {round(float(stamp) * 1000)}\n")
            n += 1
    return n
