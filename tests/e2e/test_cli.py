"""The program as a user starts it: flags, names, signals, exit codes, and what it says when something is wrong.
Where 2.42 is installed, the same is put to it, and the words are compared."""

import os
import re
import signal
import stat
import subprocess
import time

import pytest

import harness
from harness import BINARY, PROMETHEUS, PROMTOOL, request, wait_for

CONFIG = "global: {scrape_interval: 15s}\n"


def run(argv, cwd, timeout=20, **kw):
    return subprocess.run([str(a) for a in argv], cwd=cwd, capture_output=True, text=True, timeout=timeout, **kw)


def plain(text):
    """Without time and place of log lines, and without the one word that 2.42 writes together."""
    text = re.sub(r"^(time|ts)=\S+ (level=(\w+) )?(source|caller)=\S+ (level=\w+ )?", "", text, flags=re.M)
    return text.replace("parsing commandline", "parsing command line")


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """The program under Prometheus's two names."""
    folder = tmp_path_factory.mktemp("named")
    for name in ("prometheus", "promtool"):
        os.symlink(BINARY, folder / name)
    return folder


# --- flags that are wrong: exit code, standard error, and the first line of standard output ------------------

WRONG = [
    (["--nope"], 1),
    (["--nope=1"], 1),
    (["stray"], 1),
    (["-config.file=x"], 1),
    (["-x"], 1),
    (["--query.timeout"], 1),
    (["--web.enable-lifecycle=true"], 1),
    (["--no-config.file"], 1),
    (["--web.enable-lifecyc"], 1),
    (["@/nonexistent/args"], 1),
    (["--query.timeout=xx"], 2),
    (["--query.max-samples=abc"], 2),
    (["--query.timeout=1m", "--query.timeout=2m"], 2),
    (["--storage.tsdb.retention.size=10"], 2),
    (["--storage.tsdb.retention.size=10XB"], 2),
    (["--storage.tsdb.retention.time=xx"], 2),
    (["--web.read-timeout="], 2),
]


@pytest.mark.parametrize("args,code", WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else str(v))
def test_wrong_flags_are_refused_in_prometheus_words(named, tmp_path, args, code):
    got = run([named / "prometheus", *args], tmp_path)
    want = run([PROMETHEUS, *args], tmp_path)
    assert (got.returncode, got.stderr) == (code, plain(want.stderr))
    assert want.returncode == code
    assert got.stdout[:60] == want.stdout[:60]  # the usage, or nothing


def test_flags_that_3x_words_differently(named, tmp_path):
    got = run([named / "prometheus", "--log.level=foo"], tmp_path)
    assert (got.returncode, got.stderr) == (2, "Error parsing command line arguments: unrecognized log level foo\n")
    got = run([named / "prometheus", "--query.timeout=1.5h"], tmp_path)
    assert (got.returncode, got.stderr) == (2, 'Error parsing command line arguments: unknown unit "." in duration "1.5h"\n')
    got = run([named / "prometheus", "--storage.agent.path=x"], tmp_path)
    assert got.returncode == 3
    assert got.stderr == 'The following flag(s) can only be used in agent mode: ["--storage.agent.path"]\n'
    got = run([named / "prometheus", "--web.cors.origin=("], tmp_path)
    assert got.returncode == 2 and got.stderr.startswith('could not compile CORS regex string "(": error parsing regexp: missing closing ):')
    got = run([named / "prometheus", "--auto-gomemlimit.ratio=1.5"], tmp_path)
    assert got.returncode == 1 and "must be greater than 0 and less than or equal to 1" in got.stderr
    for url, why in (('"http://x"', "URL must not begin or end with quotes"), ("http://a:b/", "invalid port"),
                     ("localhost:9090/x", "first path segment in URL cannot contain colon"), ("http://x/%zz", "invalid URL escape")):
        got = run([named / "prometheus", f"--web.external-url={url}"], tmp_path)
        assert got.returncode == 2 and got.stderr.startswith("parse external URL ") and why in got.stderr
    for flag in ("--agent", "--web.config.file=web.yml"):  # their absence would mislead
        got = run([named / "prometheus", flag], tmp_path)
        assert got.returncode == 1 and "refusing to start" in got.stderr


def test_help_and_version(named, tmp_path):
    for flag in ("--help", "-h", "--help-long"):
        got = run([BINARY, flag], tmp_path)
        assert got.returncode == 0 and got.stderr == ""
        assert got.stdout.startswith("usage: prometheus [<flags>]\n\nThe Prometheus monitoring server\n\nFlags:\n  -h, --help ")
    ours = set(re.findall(r"^ +--(?:\[no-\])?([a-z.-]+)", got.stdout, re.M))
    theirs = set(re.findall(r"^ +--([a-z.-]+)", run([PROMETHEUS, "--help"], tmp_path).stdout, re.M))
    # 3.x has lost these; Debian's build added the last ones
    gone = {"storage.tsdb.retention", "storage.tsdb.allow-overlapping-blocks", "storage.tsdb.wal-compression", "alertmanager.timeout",
            "web.local-assets", "storage.tsdb.use-lockfile", "storage.agent.use-lockfile", "storage.tsdb.no-lockfile", "storage.agent.no-lockfile"}
    assert theirs - ours - gone == set()
    got = run([BINARY, "--version"], tmp_path)
    assert got.returncode == 0
    assert re.match(r"prometheus, version \S+ \(branch: \S+, revision: \S+\)\n  build user: +\S+\n  build date: +\S+\n  go version: ", got.stdout)
    assert run([named / "promtool", "--version"], tmp_path).stdout.startswith("promtool, version ")


def test_arguments_from_a_file(stage, tmp_path):
    (tmp_path / "args").write_text("--query.lookback-delta=1m\n--web.page-title=From a file\n")
    server = stage.server(CONFIG, name="narthex", flags=[f"@{tmp_path}/args"])
    flags = server.get("/api/v1/status/flags").data
    assert (flags["query.lookback-delta"], flags["web.page-title"]) == ("1m", "From a file")
    assert flags["web.enable-lifecycle"] == "true" and flags["storage.tsdb.min-block-duration"] == "2h"


# --- starting, and what keeps it from that -------------------------------------------------------------------


def start_args(folder, port, **flags):
    flags = {"config.file": f"{folder}/p.yml", "storage.tsdb.path": f"{folder}/data", "web.listen-address": f"127.0.0.1:{port}", **flags}
    return [f"--{k}={v}" for k, v in flags.items()]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p.yml").write_text(CONFIG)
    return tmp_path


def test_a_bad_configuration_is_exit_2(folder):
    for text in ("global: {scrape_interva: 1s}\n", "scrape_configs: [{job_name: a}, {job_name: a}]\n"):
        (folder / "p.yml").write_text(text)
        got, want = (run([b, *start_args(folder, harness.free_port())], folder) for b in (BINARY, PROMETHEUS))
        assert (got.returncode, want.returncode) == (2, 2)
        last = [plain(r.stderr).splitlines()[-1] for r in (got, want)]
        assert last[0].startswith(f'msg="Error loading config (--config.file={folder}/p.yml)" file={folder}/p.yml err=')
        assert last[0].startswith(last[1].rstrip('"'))  # ours may go on with file, line and field
    got = run([BINARY, *start_args(folder, 1, **{"config.file": "/nonexistent.yml"})], folder)
    assert got.returncode == 2 and 'err="open /nonexistent.yml: no such file or directory"' in got.stderr


def test_an_address_in_use_is_exit_1(stage, folder):
    port = stage.server(CONFIG, name="first").port
    got = run([BINARY, *start_args(folder, port)], folder)
    assert got.returncode == 1
    assert f'msg="Unable to start web listener" err="listen tcp 127.0.0.1:{port}: bind: address already in use"' in got.stderr
    assert not os.path.exists(folder / "data/wal")  # nothing was touched
    assert run([BINARY, *start_args(folder, "x")], folder).returncode == 1


def test_a_data_folder_has_one_owner(stage, folder):
    first = stage.server(CONFIG, name="first", data=folder / "data")
    got = run([BINARY, *start_args(folder, harness.free_port())], folder)
    assert got.returncode == 1 and 'msg="Fatal error" err="opening storage failed: ' in got.stderr
    assert first.query("1+1", 4)["result"] == [4, "2"]
    first.kill()  # a dead owner's lock is none
    stage.server(CONFIG, name="second", data=folder / "data")


def test_an_unwritable_data_folder_is_exit_1(folder):
    (folder / "file").write_text("")
    paths = ["/proc/narthex", f"{folder}/file", f"{folder}/file/below"]
    if os.getuid():
        (folder / "locked").mkdir()
        os.chmod(folder / "locked", stat.S_IRUSR | stat.S_IXUSR)
        paths.append(f"{folder}/locked/data")
    for path in paths:
        got = run([BINARY, *start_args(folder, harness.free_port(), **{"storage.tsdb.path": path})], folder)
        assert got.returncode == 1 and 'msg="Fatal error" err="opening storage failed: ' in got.stderr, path


def test_unknown_features_and_later_flags_are_told(stage):
    server = stage.server(CONFIG, name="narthex", flags=["--enable-feature=promql-at-modifier,native-histograms", "--enable-feature=agent",
                                                         "--storage.remote.flush-deadline=2m"])
    log = server.log()
    for name in ("promql-at-modifier", "agent"):
        assert f'msg="Unknown option for --enable-feature" option={name}' in log
    assert "option=native-histograms" in log and "flag=--storage.remote.flush-deadline" in log
    assert server.get("/api/v1/status/flags").data["enable-feature"] == "promql-at-modifier,native-histograms,agent"


def test_json_logs(stage):
    server = stage.server(CONFIG, name="narthex", flags=["--log.format=json", "--log.level=debug"])
    import json
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert {"time", "level", "source", "msg"} <= set(lines[0])


# --- signals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number,name", [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupt")])
def test_signals_end_it_cleanly(stage, number, name):
    server = stage.server(CONFIG, name="narthex")
    assert server.stop(how=number) == 0
    assert f'msg="Received an OS signal, exiting gracefully..." signal={name}' in server.log()
    assert server.log().rstrip().endswith('msg="See you next time!"')


def test_quit_by_http_ends_it_cleanly(stage):
    server = stage.server(CONFIG, name="narthex")
    assert server.post("/-/quit").text == "Requesting termination... Goodbye!"
    assert server.popen.wait(timeout=10) == 0
    assert 'msg="Received termination request via web service, exiting gracefully..."' in server.log()


def test_an_early_hangup_does_not_kill_it(stage, folder):
    for i in range(5):
        server = stage.server(CONFIG, name=f"narthex{i}", data=folder / "data", wait=False)
        wait_for("its first words", server.log, every=0.001)  # before them the kernel's default holds
        for _ in range(20):
            server.send(signal.SIGHUP)
            time.sleep(0.002)
        server.wait_ready()
        assert server.stop() == 0


def test_hangup_reloads_and_a_bad_file_changes_nothing(stage):
    server = stage.server(CONFIG, name="narthex")

    def metric():
        return re.search(r"^prometheus_config_last_reload_successful (\d)", server.get("/metrics").text, re.M).group(1)

    server.write_config(CONFIG.replace("15s", "7s"))
    server.send(signal.SIGHUP)
    wait_for("the reload", lambda: "scrape_interval: 7s" in server.get("/api/v1/status/config").data["yaml"])
    server.write_config("global: {nope: 1}\n")
    server.send(signal.SIGHUP)
    wait_for("the refusal", lambda: metric() == "0")
    assert "scrape_interval: 7s" in server.get("/api/v1/status/config").data["yaml"]
    answer = server.reload()
    assert answer.status == 500
    assert answer.text.startswith(f'failed to reload config: couldn\'t load configuration (--config.file="{server.config_path}"): ')
    assert 'msg="Error reloading config"' in server.log()
    server.write_config(CONFIG)
    assert server.reload().status == 200 and metric() == "1"


# --- promtool -----------------------------------------------------------------------------------------------------

OM = """# TYPE a counter
a_total{x="1"} 1 1700000000
a_total{x="1"} 2 1700003600
a_total{x="1"} 3 1700013600
# EOF
"""

TOOL = [
    [],
    ["check"],
    ["check", "foo"],
    ["check", "config"],
    ["check", "config", "p.yml"],
    ["check", "config", "bad.yml"],
    ["check", "config", "p.yml", "bad.yml"],
    ["check", "config", "none.yml"],
    ["check", "config", "--nope", "p.yml"],
    ["check", "config", "--syntax-only", "p.yml"],
    ["tsdb"],
    ["tsdb", "create-blocks-from"],
    ["tsdb", "create-blocks-from", "openmetrics"],
    ["tsdb", "create-blocks-from", "openmetrics", "none.om", "out"],
    ["tsdb", "create-blocks-from", "openmetrics", "no-time.om", "out"],
    ["tsdb", "create-blocks-from", "openmetrics", "no-eof.om", "out"],
    ["tsdb", "create-blocks-from", "openmetrics", "-q", "a.om", "out"],
    ["tsdb", "create-blocks-from", "openmetrics", "a.om", "out", "more"],
]


def tool_folder(path):
    path.mkdir()
    (path / "p.yml").write_text(CONFIG)
    (path / "bad.yml").write_text("global: {scrape_interva: 1s}\n")
    (path / "a.om").write_text(OM)
    (path / "no-time.om").write_text("a 1\n# EOF\n")
    (path / "no-eof.om").write_text("a 1 1\n")
    return path


@pytest.mark.parametrize("args", TOOL, ids=" ".join)
def test_promtool_answers_alike(named, tmp_path, args):
    got = run([named / "promtool", *args], tool_folder(tmp_path / "a"))
    want = run([PROMTOOL, *args], tool_folder(tmp_path / "b"))
    assert (got.returncode, got.stderr) == (want.returncode, want.stderr)
    assert got.stdout[:40] == want.stdout[:40] if not args else got.stdout == want.stdout


def test_narthex_is_promtool_when_told_a_command(tmp_path):
    folder = tool_folder(tmp_path / "a")
    assert run([BINARY, "check", "config", "p.yml"], folder).stdout == "Checking p.yml\n SUCCESS: p.yml is valid prometheus config file syntax\n\n"
    got = run([BINARY, "check", "config", "--lint=foo", "p.yml"], folder)
    assert (got.returncode, got.stdout.splitlines()[0]) == (0, 'WARNING: unknown lint option: "foo"')


def rows_of(text):
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


@pytest.mark.parametrize("human", [False, True])
def test_blocks_from_openmetrics_are_listed_and_served(stage, tmp_path, human):
    tables = []
    flags = ["-r"] if human else []
    for name, argv in (("a", [BINARY]), ("b", [PROMTOOL])):
        got = run([*argv, "tsdb", "create-blocks-from", "openmetrics", *flags, "--label=dc=eu", "a.om", "out"], tool_folder(tmp_path / name))
        if name == "b" and got.returncode == 1 and "unknown long flag" in got.stderr:  # 2.42 has no --label
            got = run([*argv, "tsdb", "create-blocks-from", "openmetrics", *flags, "a.om", "out"], tmp_path / "b")
        assert got.returncode == 0, got.stderr
        tables.append(rows_of(got.stdout))
    assert tables[0][0] == tables[1][0] and len(tables[0]) == len(tables[1]) == 3
    for ours, theirs in zip(tables[0][1:], tables[1][1:]):
        assert ours[1:7] == theirs[1:7]  # times, duration, samples, chunks, series
    # kept for ever, or retention would take what is years old
    server = stage.server(CONFIG, name="narthex", data=tmp_path / "a/out", flags=["--storage.tsdb.retention.time=100y"])
    assert server.query('a_total', 1700013600)["result"] == [
        {"metric": {"__name__": "a_total", "dc": "eu", "x": "1"}, "value": [1700013600, "3"]}]


def test_promql_scripts_pass_and_fail(tmp_path):
    (tmp_path / "good.test").write_text("load 1m\n  a 1 2 3\n\neval instant at 1m a\n  a 2\n")
    (tmp_path / "bad.test").write_text("load 1m\n  a 1 2 3\n\neval instant at 1m a\n  a 3\n")
    got = run([BINARY, "test", "promql", "good.test"], tmp_path)
    assert got.returncode == 0 and got.stdout.endswith(" 0 failed\n")
    for files in (["good.test", "bad.test"], ["bad.test", "good.test"]):
        got = run([BINARY, "test", "promql", *files], tmp_path)
        assert got.returncode == 1 and re.search(r"^bad.test:4: ", got.stdout, re.M)
        assert got.stdout.endswith("1 passed, 1 failed\n"), got.stdout
    assert run([BINARY, "test", "promql", "none.test"], tmp_path).returncode == 1
