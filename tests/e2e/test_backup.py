"""Copies of a folder in use, made by the very lines of docs/BACKUP.md: all that a query had shown before is in them.

Blocks are made every few seconds here instead of every two hours, and merged, and so are chunk files and
segments of the log, so that files come and go while they are copied.
"""

import pathlib
import re
import shutil
import subprocess
import threading

import pytest

import harness
from served import Target

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="about our own files")

DOC = pathlib.Path(__file__).parents[2] / "docs" / "BACKUP.md"
FLAGS = ["--storage.tsdb.min-block-duration=3s", "--storage.tsdb.max-block-duration=20s", "--storage.tsdb.retention.time=1d"]


def lines_with(word):
    """The indented block of the page in which that word is."""
    blocks = re.findall(r"^  ```\n(.*?)^  ```", DOC.read_text(), re.S | re.M)
    found = [re.sub(r"^  ", "", b, flags=re.M) for b in blocks if word in b]
    assert len(found) == 1
    return found[0]


def samples(server):
    data = server.query('{job="backup"}[10m]')
    return {(harness.labels_key(e["metric"]), t): v for e in data["result"] for t, v in e["values"]}


def more_than(n, found):
    return found if len(found) > n else None


@pytest.fixture
def busy(stage):
    """A server that scrapes twenty times a second."""
    target = Target()
    stop = threading.Event()

    def expose():
        n = 0
        while not stop.wait(0.02):
            n += 1
            target.text = "".join(f'value{{n="{i}"}} {n * 1.1 + i!r}\n' for i in range(30))

    writer = threading.Thread(target=expose, daemon=True)
    writer.start()
    config = {"global": {"scrape_interval": "50ms", "scrape_timeout": "50ms"},
              "scrape_configs": [{"job_name": "backup", "static_configs": [{"targets": [target.address]}]}]}
    yield stage.server(config, flags=FLAGS)
    stop.set()
    writer.join()
    target.close()


def copy(server, word, place):
    """Runs the lines with our paths for those of the page."""
    text = lines_with(word).replace("cd data", f"cd '{server.data}'").replace("sleep 10", "sleep 0.1")
    text = text.replace("/backup/narthex.tar", f"'{place}'").replace("backup:/srv/narthex/", f"'{place}/'")
    subprocess.run(["bash", "-c", text], check=True, timeout=60)


def restored(stage, folder, shown):
    server = stage.server("{}", data=folder)
    after = samples(server)
    assert not [k for k in shown if after.get(k) != shown[k]]
    metrics = server.get("/metrics").text
    assert re.search(r"^prometheus_tsdb_wal_corruptions_total 0$", metrics, re.M)
    r = harness.run_tool(harness.BINARY, "tsdb", "verify", str(folder))
    assert r.returncode == 0, r.stdout
    server.stop()


def blocks_of(server):
    return [p for p in pathlib.Path(server.data).iterdir() if len(p.name) == 26]


def test_tar_and_rsync_of_a_folder_in_use(stage, busy, tmp_path):
    harness.wait_for("blocks", lambda: len(blocks_of(busy)) > 1)
    for n in range(2):
        shown = harness.wait_for("samples", lambda: more_than(1000, samples(busy)))
        copy(busy, "tar ", tmp_path / "narthex.tar")
        folder = tmp_path / f"tar{n}"
        folder.mkdir()
        subprocess.run(["tar", "-xf", str(tmp_path / "narthex.tar"), "-C", str(folder)], check=True)
        restored(stage, folder, shown)
        shown = samples(busy)
        copy(busy, "rsync ", tmp_path / "rsync")  # the second time it sends what is new
        shutil.copytree(tmp_path / "rsync", tmp_path / f"rsync{n}")
        restored(stage, tmp_path / f"rsync{n}", shown)
