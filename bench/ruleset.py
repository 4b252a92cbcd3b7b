"""A thousand rules of the kinds people write, over the series of farm.c: what compare.py's `rules` evaluates.

A group is about one family of series: traffic, latency or saturation. It records what its alerts and dashboards
read, as mixins do, and alerts on that, on raw series and on what is not there. Of the alerts about one in ten fires.
Rules select between 1 and some 3,600 series."""

JOBS = ("api", "web", "db", "cache", "batch")


def family(kind, n):
    """The n-th family of farm.c of a kind; its order is that of plain_family() and histogram_family()."""
    found = [f for f in range(60) if (f % 5 == 4) == (kind == "latency") and
             (kind == "latency" or f % 4 == {"setting": 0, "traffic": 1, "level": 2, "double": 3}[kind])]
    return found[n % len(found)]


def traffic(n, w):
    m, job = f"shop_requests_{family('traffic', n)}_total", JOBS[n % len(JOBS)]
    return [
        ("record", f"g{n}:requests:rate", f"sum by (job) (rate({m}[{w}]))"),
        ("record", f"g{n}:requests_instance:rate", f'sum by (instance, method) (rate({m}{{job="{job}"}}[{w}]))'),
        ("record", f"g{n}:errors:ratio",
         f'sum by (job) (rate({m}{{code=~"5.."}}[{w}])) / sum by (job) (rate({m}[{w}]))'),
        ("record", f"g{n}:requests:all", f"sum(g{n}:requests:rate)"),
        ("alert", "ErrorRateHigh", f"g{n}:errors:ratio > 0.5"),
        ("alert", "NoTraffic", f'g{n}:requests:rate{{job="{job}"}} == 0'),
        ("alert", "ErrorsOnInstance", f'sum by (instance) (rate({m}{{code="500",job="{job}"}}[{w}])) > 1000'),
        ("alert", "TrafficGone", f'absent({m}{{job="{job}",code="200"}})'),
        ("alert", "InstanceDown", f'up{{job="{job}"}} == 0'),
        ("alert", "BusyInstance", f'topk(1, g{n}:requests_instance:rate) >= 0'),
    ]


def latency(n, w):
    m, job = f"http_request_duration_{family('latency', n)}_seconds", JOBS[n % len(JOBS)]
    return [
        ("record", f"g{n}:latency:p99", f"histogram_quantile(0.99, sum by (job, le) (rate({m}_bucket[{w}])))"),
        ("record", f"g{n}:latency_handler:p50",
         f'histogram_quantile(0.5, sum by (handler, le) (rate({m}_bucket{{job="{job}"}}[{w}])))'),
        ("record", f"g{n}:latency:mean",
         f"sum by (job) (rate({m}_sum[{w}])) / sum by (job) (rate({m}_count[{w}]))"),
        ("alert", "LatencyHigh", f"g{n}:latency:p99 > 60"),
        ("alert", "LatencyMeanHigh", f'g{n}:latency:mean{{job="{job}"}} > 1e6'),
        ("alert", "BudgetBurns", f'1 - sum(rate({m}_bucket{{job="{job}",le="0.5"}}[{w}])) / '
                                 f'sum(rate({m}_count{{job="{job}"}}[{w}])) > 2'),
        ("alert", "HandlerGone", f'absent({m}_count{{handler="/h1"}})'),
        ("alert", "HandlerSlow", f'{m}_sum{{job="{job}"}} / {m}_count < 0'),
        ("alert", "ScrapeSlow", f'scrape_duration_seconds{{job="{job}"}} > 5'),
        ("alert", "Idle", f'rate({m}_count{{job="{job}",handler="/h0"}}[{w}]) < 0'),
    ]


def saturation(n, w):
    m, s, job = f"process_level_{family('level', n)}", f"node_setting_{family('setting', n)}", JOBS[n % len(JOBS)]
    d = f"process_level_{family('double', n)}"
    return [
        ("record", f"g{n}:level:avg", f"avg by (job, mode) ({m})"),
        ("record", f"g{n}:level:max", f'max by (instance) (max_over_time({m}{{job="{job}"}}[{w}]))'),
        ("record", f"g{n}:instances:count", f'count by (job) (up == 1)'),
        ("alert", "LevelHigh", f'{m}{{device="dev0"}} > 1e6'),
        ("alert", "LevelOfOne", f'{m}{{instance="target-{n % 100}",device="dev1",mode="m0"}} > 1e6'),
        ("alert", "WillBeFull", f'predict_linear({m}{{job="{job}",mode="m1"}}[{w}], 3600) < -1e9'),
        ("alert", "SettingWrong", f'{s}{{job="{job}"}} < 0'),
        ("alert", "SettingsDiffer", f'count(count by (mode) ({s})) > 100'),
        ("alert", "DoubleFalls", f'{d}{{job="{job}"}} < {d} offset {w}'),
        ("alert", "JobSmall", f'g{n}:instances:count{{job="{job}"}} < 2'),
    ]


def write(path, groups, interval, window):
    """Groups of ten rules. Returns the number of rules."""
    lines, count = ["groups:"], 0
    for n in range(groups):
        lines += [f"- name: group-{n}", f"  interval: {interval}s", "  rules:"]
        for kind, name, expr in (traffic, latency, saturation)[n % 3](n, window):
            lines += [f"  - {kind}: {name}", f"    expr: {expr!r}"]
            if kind == "alert":
                lines += [f"    for: {interval * 2}s", "    labels:", f"      severity: page", f"      group: g{n}",
                          "    annotations:", "      summary: '{{ $labels.instance }} is at {{ $value | humanize }}'"]
            count += 1
    with open(path, "w") as f:
        f.write("\n".join(lines) + "\n")
    return count
