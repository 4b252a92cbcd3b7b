#!/usr/bin/env python3
"""Runs Narthex, Prometheus and VictoriaMetrics in turn on the same load and prints figures and ratios.

    cmake --preset release && cmake --build --preset release --target narthex bench_farm
    bench/compare.py                                # ingest, small, disk, query, size: about 15 minutes
    bench/compare.py --only curve-series,curve-days,curve-query    # what costs grow with: 6 + 4 + 4 minutes
    bench/compare.py --victoria '' --only rules     # 1,000 rules over 100,000 series: four minutes
    bench/compare.py --recorded FILE.om.gz --only recorded   # bytes per sample of data of your own
    bench/compare.py --quick                        # small sizes, to see that it works

Needs Python 3 and Debian's prometheus (with promtool); victoria-metrics is taken where it is installed.
All traffic stays on 127.0.0.1; data lies in a temporary folder that is removed; only processes started
here are ended, by pid. Servers run one after the other with the same configuration, so they never
compete. CPU is the kernel's clock of the server's process alone. Ratios below 1 mean Narthex needs less.

ingest        100,000 series each second: CPU, bytes written, memory; then kill -9 and a start
small         2,500 series at 15 s: memory, CPU per second
young         500,000 series, scraped twice: memory per series
disk, query   500 series of 24 hours at 15 s, loaded from OpenMetrics: size, CPU, ten range queries
recorded      the size of a recorded file
curve-series  CPU per million samples and memory per series at 10,000, 100,000 and 1,000,000 series
curve-days    bytes a sample as loaded, start, and ten queries with 100 steps over 1, 7 and 30 days of 40 series
curve-query   one query of 60 steps over 10 to 100,000 series: CPU, and how far memory rises beside the input
rules         1,000 rules over 100,000 series (ruleset.py): CPU of an evaluation of all, what scraping takes left out
size          the binary
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import corpus
import ruleset
from engines import Farm, Narthex, Prometheus, VictoriaMetrics

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MIB = 2**20


def note(text):
    print(time.strftime("%H:%M:%S ") + text, file=sys.stderr, flush=True)


# ---- scraping ---------------------------------------------------------------------------------------

def scraped(server, farm, begin, end):
    """Samples in the window, by what a query finds: a scrape that did not happen counts for nobody."""
    window = int(end - begin)
    server.settle()
    return server.value(f"sum(sum_over_time(scrape_samples_scraped[{window}s]))", end) * (end - begin) / window


def scrape(a, engine, folder, targets, interval, warm, seconds):
    """Starts a farm and a server, waits, measures a window. The caller stops both."""
    farm = Farm(a.farm, targets, a.series)
    server = engine(a.binary[engine], folder, farm.config(interval))
    server.start()
    time.sleep(warm)
    cpu, written, begin = server.cpu(), server.written(), time.time()
    time.sleep(seconds)
    end = time.time()
    r = {"cpu": server.cpu() - cpu, "written": server.written() - written, "rss": server.memory(),
         "anon": server.memory("RssAnon"), "seconds": end - begin}
    r["samples"] = scraped(server, farm, begin, end)
    r["series"] = server.value("sum(scrape_samples_scraped)", end)
    r["up"] = server.value("sum(up)", end)
    return farm, server, r


def restart(server, farm, r):
    """kill -9, then a start: how long until the first right answer, and what is missing."""
    time.sleep(3)
    at = time.time() - 0.2
    ask = "sum(sum_over_time(scrape_samples_scraped[10m]))"
    visible = server.value(ask, at)
    server.stop(signal.SIGKILL)
    begin = time.monotonic()
    server.launch()
    found = -1
    while time.monotonic() - begin < 300:
        try:
            if server.get(server.ready_path)[0] == 200:
                last, found = found, server.value(ask, at)
                if found >= visible or (found == last and found > visible / 2):
                    break
        except (OSError, RuntimeError):
            pass
        time.sleep(0.002)
    r["answer"] = time.monotonic() - begin
    r["in_head"], r["lost"] = visible, visible - found


def ingest(a, engine, folder):
    farm, server, r = scrape(a, engine, folder, a.targets, 1, 4, a.seconds)
    try:
        restart(server, farm, r)
    finally:
        server.stop()
        farm.stop()
    return r


def scenario_ingest(a, tmp, table):
    r = each(a, tmp, "ingest", ingest)
    table.row("CPU per million samples scraped, s", r, lambda x: x["cpu"] / x["samples"] * 1e6)
    table.row("bytes written to disk per sample", r, lambda x: x["written"] / x["samples"])
    n = int(r[Narthex]["series"])
    table.row(f"resident memory, {n:,} series with {a.seconds} samples each, MiB", r, lambda x: x["rss"] / MIB)
    table.row("anonymous memory of it, MiB", r, lambda x: x["anon"] / MIB)
    table.row(f"kill -9 with {r[Narthex]['in_head'] / 1e6:.0f} M samples in the head: first right answer, s", r,
              lambda x: x["answer"])
    table.row("samples missing after it", r, lambda x: x["lost"], ratio=False)
    for e, x in r.items():
        note(f"{e.name}: {x['samples']:.0f} samples in the window, {x['up']:.0f} targets up")


def memory_of(a, engine, folder, targets, series, interval, warm, seconds):
    was, a.series = a.series, series
    try:
        farm, server, r = scrape(a, engine, folder, targets, interval, warm, seconds)
    finally:
        a.series = was
    server.stop()
    farm.stop()
    return r


def scenario_small(a, tmp, table):
    seconds = 20 if a.quick else a.small_seconds
    r = each(a, tmp, "small", lambda a, e, f: memory_of(a, e, f, 5, 500, 15, 20, seconds))
    table.row("2,500 series at 15 s: resident memory, MiB", r, lambda x: x["rss"] / MIB)
    table.row("the same: anonymous memory, MiB", r, lambda x: x["anon"] / MIB)
    table.row("the same: CPU, ms per second", r, lambda x: x["cpu"] / x["seconds"] * 1e3)


def scenario_young(a, tmp, table):
    n = 10 if a.quick else 500
    r = each(a, tmp, "young", lambda a, e, f: memory_of(a, e, f, n, 1000, 15, 18, 20))
    table.row(f"{n * 1000:,} series, young: resident bytes per series", r, lambda x: x["rss"] / x["series"])


def scenario_curve_series(a, tmp, table):
    """After a warm-up in which all series are made, two intervals and ten seconds are measured."""
    for n in (1, 10) if a.quick else (10, 100, 1000):
        interval = max(1, n // 50)
        r = each(a, tmp, f"curve{n}",
                 lambda a, e, f: memory_of(a, e, f, n, 1000, interval, interval + 4, 2 * interval + 10))
        table.row(f"{n * 1000:,} series each {interval} s: CPU per million samples, s", r, lambda x: x["cpu"] / x["samples"] * 1e6)
        table.row(f"{n * 1000:,} series: resident bytes per series", r, lambda x: x["rss"] / x["series"])


# ---- loading and asking -----------------------------------------------------------------------------

def loaded(a, engine, folder, path, samples, ask=None, wait=70, load_args=()):
    """Loads a file; weighs the folder after a minute, in which Prometheus merges its blocks."""
    server = engine(a.binary[engine], folder)
    server.load_args = list(load_args)
    r = {"load_cpu": server.load(path, path + ".ms")}
    try:
        if not a.quick:
            time.sleep(wait)
        server.stop()
        r["bytes"] = server.disk_bytes() / samples
        r["ready"] = server.start()
        if ask:
            ask(server, r)
    finally:
        server.stop()
    shutil.rmtree(folder, ignore_errors=True)
    return r


def ask_dashboard(a, start, end):
    def ask(server, r):
        r["p50"], r["bodies"], r["query_cpu"] = [], [], 0.0
        for expr in corpus.DASHBOARD:
            p = dict(query=expr, start=start + 607, end=end - 8, step=a.step)
            r["bodies"].append(json.loads(server.query("query_range", **p)))
            server.query("query_range", **p)
            took, cpu = [], server.cpu()
            for _ in range(a.rounds):
                begin = time.perf_counter()
                server.query("query_range", **p)
                took.append(time.perf_counter() - begin)
            r["query_cpu"] += (server.cpu() - cpu) / a.rounds
            r["p50"].append(statistics.median(took))
    return ask


def same_shape(x, y):
    """How many answers have the same series with as many points."""
    def shape(body):
        return sorted((json.dumps(s["metric"], sort_keys=True), len(s["values"])) for s in body["data"]["result"])
    return sum(shape(p) == shape(q) for p, q in zip(x, y))


def load_and_ask(a, tmp, table, series, hours, what, queries):
    path = os.path.join(tmp, "corpus.om")
    samples, start, end = corpus.write(path, series, hours)
    ask = ask_dashboard(a, start, end) if queries else None
    r = each(a, tmp, "load", lambda a, e, f: loaded(a, e, f, path, samples, ask))
    table.row(f"{what}: bytes per sample on disk, whole folder", r, lambda x: x["bytes"])
    table.row(f"{what}: loading {samples:,} samples, CPU s", r, lambda x: x["load_cpu"])
    return r


def scenario_disk(a, tmp, table):
    what = f"{a.backfill_series} series of {a.hours} h"
    r = load_and_ask(a, tmp, table, a.backfill_series, a.hours, what, "query" in a.only)
    if "query" not in a.only:
        return
    for i, expr in enumerate(corpus.DASHBOARD):
        table.row(f"p50 ms `{expr}`".replace("|", "\\|"), r, lambda x, i=i: x["p50"][i] * 1e3)
    table.row("p50 of the ten, geometric mean, ms", r, lambda x: statistics.geometric_mean(x["p50"]) * 1e3)
    table.row("CPU of the ten, once each, ms", r, lambda x: x["query_cpu"] * 1e3)
    if Prometheus in r:
        note(f"{same_shape(r[Narthex]['bodies'], r[Prometheus]['bodies'])} of {len(corpus.DASHBOARD)} answers have "
             "Prometheus's series and number of points")


def scenario_curve_days(a, tmp, table):
    """Blocks as large as merging would make them: promtool reads its whole input once for each block."""
    large = ["--max-block-duration=744h"]
    rounds, a.rounds = a.rounds, 3
    for days in (1,) if a.quick else (1, 7, 30):
        path, what = os.path.join(tmp, "corpus.om"), f"40 series of {days} d"
        samples, start, end = corpus.write(path, 40, 24 * days)
        a.step = 864 * days
        r = each(a, tmp, "days", lambda a, e, f: loaded(a, e, f, path, samples, ask_dashboard(a, start, end), 1, large))
        table.row(f"{what}: bytes per sample as loaded", r, lambda x: x["bytes"])
        table.row(f"{what}: start to ready, s", r, lambda x: x["ready"])
        table.row(f"{what}: ten queries of 100 steps, CPU, ms per million samples", r,
                  lambda x: x["query_cpu"] * 1e3 / samples * 1e6)
        table.row(f"{what}: the same, geometric mean of p50, ms", r, lambda x: statistics.geometric_mean(x["p50"]) * 1e3)
    a.rounds = rounds


def ask_size(server, expr, start, end, step, rounds):
    """One query: p50, CPU, and how far resident memory rises while it runs."""
    p = dict(query=expr, start=start + 300, end=end - 1, step=step)
    server.query("query_range", **p)
    time.sleep(0.3)
    before = server.memory()
    server.peak_begin()
    server.query("query_range", **p)
    peak, took, cpu = server.memory("VmHWM") - before, [], server.cpu()
    for _ in range(rounds):
        begin = time.perf_counter()
        server.query("query_range", **p)
        took.append(time.perf_counter() - begin)
    return {"p50": statistics.median(took), "cpu": (server.cpu() - cpu) / rounds, "peak": max(0, peak)}


def scenario_curve_query(a, tmp, table):
    sizes, minutes, step = (10, 100) if a.quick else (10, 100, 1000, 10000, 100000), 30, 30
    path = os.path.join(tmp, "sizes.om")
    samples, start, end = corpus.write_sizes(path, sizes, minutes, step)

    def ask(server, r):
        for n in sizes:
            r[n] = ask_size(server, f"sum by (instance) (rate(curve_{n}[5m]))", start, end, step, 3 if n > 1000 else 11)
            r[-n] = ask_size(server, f"curve_{n}", start, end, step, 3) if n <= 10000 else None

    r = each(a, tmp, "sizes", lambda a, e, f: loaded(a, e, f, path, samples, ask, wait=1))
    for n in sizes:
        what = f"sum by (instance) (rate(...)) of {n:,} series"
        table.row(f"{what}: p50, ms", r, lambda x, n=n: x[n]["p50"] * 1e3)
        table.row(f"{what}: CPU per series, us", r, lambda x, n=n: x[n]["cpu"] / n * 1e6)
        table.row(f"{what}: memory rises by, MiB (samples at 16 bytes: {n * minutes * 60 // step * 16 / MIB:.3g})", r,
                  lambda x, n=n: x[n]["peak"] / MIB)
    for n in sizes:
        if n <= 10000:
            table.row(f"all points of {n:,} series: CPU per series, us", r, lambda x, n=n: x[-n]["cpu"] / n * 1e6)
            table.row(f"all points of {n:,} series: memory rises by, MiB", r, lambda x, n=n: x[-n]["peak"] / MIB)


def evaluated(server):
    """Rules evaluated and iterations missed since the start."""
    lines = server.get("/metrics")[1].decode().splitlines()
    return [sum(float(x.split()[-1]) for x in lines if x.startswith(name)) for name in
            ("prometheus_rule_evaluations_total{", "prometheus_rule_evaluation_failures_total{",
             "prometheus_rule_group_iterations_missed_total{")]


def rules(a, engine, folder):
    """Scrapes until windows are full, then takes CPU without rules, and with them; the difference is theirs."""
    i, w, every = a.rule_scrapes, 20 * a.rule_scrapes, 15
    farm = Farm(a.farm, a.targets, a.series)
    server = engine(a.binary[engine], folder, farm.config(i, ruleset.JOBS))
    path = os.path.join(folder, "rules.yml")
    count = ruleset.write(path, 10 if a.quick else 100, every, f"{w}s")
    server.start()
    try:
        time.sleep(w - 8 * i)
        cpu, begin = server.cpu(), time.monotonic()
        time.sleep(10 * i)
        idle = (server.cpu() - cpu) / (time.monotonic() - begin)
        with open(server.config, "a") as f:
            f.write(f"rule_files: [{path}]\n")
        server.proc.send_signal(signal.SIGHUP)
        time.sleep(every + i)
        (done, failed, missed), cpu, begin = evaluated(server), server.cpu(), time.monotonic()
        time.sleep(every if a.quick else 2 * every)
        after, used = evaluated(server), server.cpu() - cpu - idle * (time.monotonic() - begin)
        r = {"cpu": used / (after[0] - done) * count, "idle": idle, "rules": count, "failed": after[1] - failed,
             "missed": after[2] - missed, "series": server.value("count({job=~'.+',__name__!~'ALERTS.*|g[0-9]+:.*'})", time.time()),
             "firing": server.value("count(ALERTS{alertstate='firing'})", time.time()), "rss": server.memory()}
    finally:
        server.stop()
        farm.stop()
    note(f"{engine.name}: {after[0] - done:.0f} evaluations, {r['failed']:.0f} failed, {r['missed']:.0f} iterations missed, "
         f"{r['firing']:.0f} alerts firing")
    return r


def scenario_rules(a, tmp, table):
    """Scrapes are closer than the 15 s of the field, and windows as many times shorter than five minutes: rules read
    the same number of samples, and nobody waits for five minutes to pass. Rules are evaluated every 15 s."""
    r = each(a, tmp, "rules", rules)
    n = r[Narthex]
    what = f"{n['rules']:,} rules over {n['series']:,.0f} series"
    table.row(f"{what}: CPU of one evaluation of all, ms", r, lambda x: x["cpu"] * 1e3)
    table.row("the same every 15 s: ms per second", r, lambda x: x["cpu"] * 1e3 / 15)
    table.row("resident memory meanwhile, MiB", r, lambda x: x["rss"] / MIB)


def scenario_recorded(a, tmp, table):
    path = os.path.join(tmp, "recorded.om")
    samples = corpus.recorded(a.recorded, path)
    r = each(a, tmp, "recorded", lambda a, e, f: loaded(a, e, f, path, samples))
    table.row(f"recorded, {samples:,} samples: bytes per sample on disk, whole folder", r, lambda x: x["bytes"])
    table.row("the same: loading, CPU s", r, lambda x: x["load_cpu"])


def scenario_size(a, tmp, table):
    def stripped(engine):
        copy = os.path.join(tmp, "stripped")
        shutil.copy(shutil.which(a.binary[engine]) or a.binary[engine], copy)
        subprocess.run(["strip", copy], check=True)
        return os.path.getsize(copy)
    table.row("binary, stripped, MiB", {e: stripped(e) for e in a.engines}, lambda x: x / MIB)


# ---- the table --------------------------------------------------------------------------------------

class Table:
    """Markdown; Narthex's ratio to each of the others at the end of a row."""

    def __init__(self, engines):
        self.engines, self.others = engines, [e for e in engines if e is not Narthex]
        print("| measure | " + " | ".join(e.name for e in engines) + " | " +
              " | ".join(f"ratio to {e.name}" for e in self.others) + " |\n|---|" +
              "--:|" * (len(engines) + len(self.others)), flush=True)

    def row(self, name, r, figure, ratio=True):
        v = {e: figure(r[e]) for e in self.engines}
        ratios = [f"{v[Narthex] / v[e]:.3f}" if ratio and v[e] else "" for e in self.others]
        print(f"| {name} | " + " | ".join(f"{v[e]:.3g}" if abs(v[e]) < 1000 else f"{v[e]:.0f}" for e in self.engines) +
              " | " + " | ".join(ratios) + " |", flush=True)


def each(a, tmp, name, run):
    r = {}
    for e in a.engines:
        note(f"{name}: {e.name}")
        r[e] = run(a, e, os.path.join(tmp, f"{name}-{e.kind}"))
    return r


SCENARIOS = {"ingest": scenario_ingest, "small": scenario_small, "young": scenario_young, "disk": scenario_disk,
             "recorded": scenario_recorded, "curve-series": scenario_curve_series, "curve-days": scenario_curve_days,
             "curve-query": scenario_curve_query, "rules": scenario_rules,
             "size": scenario_size}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--narthex", default=os.path.join(ROOT, "build/release/narthex"))
    p.add_argument("--prometheus", default="prometheus", help="empty: left out")
    p.add_argument("--victoria", default="victoria-metrics", help="empty: left out")
    p.add_argument("--farm", default=os.path.join(ROOT, "build/release/bench/bench_farm"))
    p.add_argument("--targets", type=int, default=100)
    p.add_argument("--series", type=int, default=1000, help="per target")
    p.add_argument("--seconds", type=int, default=100, help="length of the measured window of ingest")
    p.add_argument("--small-seconds", type=int, default=300, help="length of the measured window of small")
    p.add_argument("--backfill-series", type=int, default=500)
    p.add_argument("--hours", type=int, default=24)
    p.add_argument("--step", type=int, default=60, help="of range queries, seconds")
    p.add_argument("--rounds", type=int, default=11)
    p.add_argument("--rule-scrapes", type=int, default=3, help="interval of scrapes below rules, seconds; 15: as it is")
    p.add_argument("--recorded", help="an OpenMetrics file with timestamps, may be gzipped")
    p.add_argument("--only", default="ingest,small,disk,query,size")
    p.add_argument("--quick", action="store_true")
    a = p.parse_args()
    if a.quick:
        a.targets, a.series, a.seconds, a.backfill_series, a.hours, a.rounds = 10, 200, 10, 50, 3, 3
    a.only = set(a.only.split(","))
    unknown = a.only - set(SCENARIOS) - {"query"}
    if unknown:
        p.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if "recorded" in a.only and not a.recorded:
        p.error("recorded needs --recorded FILE")
    if "query" in a.only:
        a.only.add("disk")
    a.binary = {Prometheus: a.prometheus, VictoriaMetrics: a.victoria, Narthex: a.narthex}
    a.engines = [e for e in (Prometheus, VictoriaMetrics, Narthex) if a.binary[e] and shutil.which(a.binary[e])]
    if Narthex not in a.engines:
        p.error(f"{a.narthex}: not built")
    return a


def main():
    a = arguments()
    table = Table(a.engines)
    with tempfile.TemporaryDirectory(prefix="narthex-bench-") as tmp:
        for name, run in SCENARIOS.items():
            if name in a.only:
                run(a, tmp, table)


if __name__ == "__main__":
    main()
