"""kill -9 in the middle of scraping and of block writing: what a query has shown once stays.

Blocks are made every few seconds here instead of every two hours. After each kill the server starts
again on the same data, and every sample that any query had returned before must be there, with its
value to the bit.
"""

import os
import random
import threading
import time

import pytest

import harness
from served import Target

# Prometheus waits five seconds before it scrapes; fewer, longer rounds prove the test on it.
ROUNDS, SHORTEST, LONGEST = (8, 5.1, 7.0) if harness.IS_REFERENCE else (50, 0.1, 1.5)
ASK = '{job="crash"}[10m]'


def samples(server):
    """{(series, time): value} of everything there is."""
    data = server.query(ASK)
    return {(harness.labels_key(e["metric"]), t): v for e in data["result"] for t, v in e["values"]}


def test_nothing_shown_is_lost_by_kill_9(stage):
    seed = int(os.environ.get("NX_SEED", "0")) or random.randrange(1, 1 << 31)
    print(f"NX_SEED={seed}")
    rnd = random.Random(seed)
    target = Target()
    stop = threading.Event()

    def expose():  # values that all differ, a series that comes and goes, and new ones all the time
        n = 0
        while not stop.wait(0.01):
            n += 1
            lines = [f'crash_value{{n="{i}"}} {n * 1.1 + i!r}\n' for i in range(20)]
            if n // 30 % 2:
                lines.append(f"crash_now_and_then {n}\n")
            lines.append(f'crash_new{{generation="{n // 50}"}} {n}\n')
            target.text = "".join(lines)

    writer = threading.Thread(target=expose, daemon=True)
    config = {"global": {"scrape_interval": "50ms", "scrape_timeout": "50ms"},
              "scrape_configs": [{"job_name": "crash", "static_configs": [{"targets": [target.address]}]}]}
    flags = ["--storage.tsdb.min-block-duration=4s", "--storage.tsdb.max-block-duration=20s", "--storage.tsdb.retention.time=1d"]
    server = harness.Server(harness.BINARY, stage.folder, config, flags, name="crash")
    stage.processes.append(server)
    shown, starts = {}, []
    writer.start()
    try:
        for n in range(ROUNDS):
            began = time.monotonic()
            server.start()
            starts.append(time.monotonic() - began)
            after = samples(server)
            lost = [k for k in shown if k not in after]
            changed = [k for k in shown if k in after and after[k] != shown[k]]
            assert not lost, f"round {n}: {len(lost)} of {len(shown)} samples are gone, such as {sorted(lost)[:5]}"
            assert not changed, f"round {n}: {len(changed)} samples changed, such as {[(k, shown[k], after[k]) for k in changed[:5]]}"
            end = time.monotonic() + rnd.uniform(SHORTEST, LONGEST)
            while time.monotonic() < end:
                shown.update(samples(server))
                time.sleep(rnd.uniform(0, 0.05))
            shown.update(samples(server))
            server.kill()
        server.start()
        after = samples(server)
        assert all(after.get(k) == v for k, v in shown.items())
        assert len(shown) > 1000, f"only {len(shown)} samples were ever seen: that proves nothing"
        assert blocks_of(server) > 0, "no block was ever written: min-block-duration had no effect"
        server.stop()
        assert server.popen.returncode == 0
    finally:
        stop.set()
        writer.join(timeout=5)
        target.close()
    print(f"{len(shown)} samples over {ROUNDS} kills; starts took {min(starts):.2f} to {max(starts):.2f} s")


def blocks_of(server):
    """Blocks on disk: folders named by a ULID, wherever below the data folder they are kept."""
    found = 0
    for _, dirs, files in os.walk(server.data):
        found += sum(1 for d in dirs + files if len(d.split(".")[0]) == 26 and d[:2] == "01" and d.split(".")[0].isalnum())
    return found


def test_a_torn_log_is_cut_not_fatal(stage):
    """Bytes missing at the end of the newest log segment cost those bytes and nothing else."""
    target = Target()
    server = stage.server({"global": {"scrape_interval": "100ms"}, "scrape_configs": [
        {"job_name": "crash", "static_configs": [{"targets": [target.address]}]}]}, name="torn")
    try:
        harness.wait_for("thirty samples", lambda: len(samples(server)) > 180, 30)
        before = samples(server)
        server.kill()
        wal = os.path.join(server.data, "wal")
        newest = max((os.path.join(wal, f) for f in os.listdir(wal) if os.path.isfile(os.path.join(wal, f))), key=os.path.getmtime)
        data = open(newest, "rb").read().rstrip(b"\0")
        with open(newest, "r+b") as f:
            f.truncate(len(data) - 5)
        server.start()
        after = samples(server)
        lost = {t for (_, t) in before} - {t for (_, t) in after}
        assert len(lost) <= 2, f"{len(lost)} scrapes lost by five bytes"
        harness.wait_for("new samples", lambda: len(samples(server)) > len(after))
    finally:
        target.close()


def test_a_full_queue_of_restarts_keeps_ready_honest(stage):
    """Ready means that queries are answered: the first one after ready must not fail."""
    server = stage.server("{}", name="ready")
    for _ in range(5):
        server.kill()
        server.start()
        assert server.query("vector(1)", 4)["result"][0]["value"] == [4, "1"]


@pytest.mark.skipif(harness.IS_REFERENCE, reason="Debian's Prometheus keeps no lock file by default")
def test_two_servers_cannot_share_a_folder(stage):
    first = stage.server("{}", name="first")
    second = stage.run(harness.Server(harness.BINARY, stage.folder, "{}", name="second", data=first.data), wait=False)
    assert second.popen.wait(timeout=20) == 1
    assert first.is_ready()
