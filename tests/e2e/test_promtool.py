"""promtool's commands, beside promtool's own: what is printed where, and the exit code. Rules are in test_promtool_rules.py."""

import concurrent.futures
import os
import re
import subprocess
import tarfile
import time

import pytest

import harness
from harness import BINARY, PROMTOOL

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="it is what is compared with")


def run(argv, cwd, text=""):
    return subprocess.run([str(a) for a in argv], cwd=cwd, input=text, capture_output=True, text=True, timeout=60)


def both(args, cwd, text=""):
    return run([BINARY, *args], cwd, text), run([PROMTOOL, *args], cwd, text)


def alike(args, cwd, text=""):
    ours, theirs = both(args, cwd, text)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr), args
    return ours


# --- the command line ---------------------------------------------------------------------------------------------

LINES = [
    ["query"], ["query", "foo"], ["query", "instant"], ["query", "instant", "http://x"], ["query", "instant", "a", "b", "c"],
    ["query", "series", "http://x"], ["query", "-o", "foo", "instant", "a", "b"], ["query", "--bar"], ["query", "instant", "http://[", "up"],
    ["query", "range", "--header=a", "http://x", "a"], ["query", "range", "--step=1d", "http://x", "a"],
    ["query", "range", "--step=x", "http://x", "a"], ["query", "range", "--step=5", "http://x", "a"],
    ["query", "range", "--start=5", "--end=4", "http://127.0.0.1:9", "a"], ["query", "range", "--start=x", "http://127.0.0.1:9", "a"],
    ["query", "range", "--end=2020-13-01T00:00:00Z", "http://127.0.0.1:9", "a"],
    ["query", "instant", "--time=2020-01-01", "http://127.0.0.1:9", "a"], ["query", "instant", "http://127.0.0.1:9/x/", "up"],
    ["check", "config", "."], ["check", "web-config", "none.yml"], ["check", "metrics", "x"], ["check", "service-discovery", "none.yml", "a"],
    ["check", "service-discovery", "none.yml"], ["check", "-x"], ["check", "-xyz", "rules"], ["check", "--xyz=5"], ["debug"], ["debug", "metrics"], ["debug", "metrics", "http://127.0.0.1:9"],
]


@pytest.mark.parametrize("args", LINES, ids=" ".join)
def test_what_is_wrong_with_a_command_line(tmp_path, args):
    assert alike(args, tmp_path).returncode == 1


@pytest.mark.parametrize("words", [[], ["check"], ["check", "metrics"], ["query"], ["query", "series"], ["debug", "all"],
                                   ["tsdb", "create-blocks-from", "openmetrics"], ["promql", "label-matchers"]], ids=" ".join)
def test_usage_comes_by_flag_and_by_help(tmp_path, words):
    by_flag, by_help = run([BINARY, *(words or ["help"]), "--help"][:None if words else 2], tmp_path), run([BINARY, "help", *words], tmp_path)
    assert by_flag.returncode == 0 and by_flag.stdout == by_help.stdout
    assert by_flag.stdout.startswith("usage: promtool " + " ".join(words)) and "\nFlags:\n  -h, --[no-]help " in by_flag.stdout
    theirs = run([PROMTOOL, *words, "--help"], tmp_path)
    if theirs.returncode == 0:  # 2.42 lacks some, and more flags have come since
        first = [re.sub(r"\[<flags>\] ?", "", r.stdout.splitlines()[0]).strip() for r in (by_flag, theirs)]
        assert first[0] == first[1]
    assert max(map(len, by_flag.stdout.splitlines())) <= 130


def test_features_are_told_apart(tmp_path):
    got = run([BINARY, "promql", "format", "--experimental", "--enable-feature=foo,promql-experimental-functions", "mad_over_time(a[5m])"], tmp_path)
    assert (got.returncode, got.stdout) == (0, "  WARNING: Unknown feature passed to --enable-feature: foo\nmad_over_time(a[5m])\n")
    got = run([BINARY, "promql", "format", "--experimental", "mad_over_time(a[5m])"], tmp_path)
    assert got.returncode == 1 and "is not enabled" in got.stderr


# --- check metrics -----------------------------------------------------------------------------------------------

EVERYTHING = """# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code="200"} 5
http_requests_total{code="500"} 1
# TYPE request_ms gauge
request_ms 1
# HELP x_kilometers y
# TYPE x_kilometers gauge
x_kilometers{handlerName="a"} 1
x_kilometers{handlerName="b"} 1
# HELP fooBar_total y
# TYPE fooBar_total gauge
fooBar_total 1
# HELP my:rec y
# TYPE my:rec gauge
my:rec 1
# HELP a_bucket y
# TYPE a_bucket gauge
a_bucket{le="1"} 1
# HELP a_count y
# TYPE a_count counter
a_count{quantile="1"} 1
# HELP h_seconds y
# TYPE h_seconds histogram
h_seconds_bucket{le="1",a="1"} 1
h_seconds_bucket{le="+Inf",a="1"} 1
h_seconds_sum{a="1"} 1
h_seconds_count{a="1"} 1
# HELP s_minutes y
# TYPE s_minutes summary
s_minutes{quantile="0.5"} 1
s_minutes_sum 1 12345
s_minutes_count 1
untyped_thing_total 4
# HELP my_gauge y
# TYPE my_gauge gauge
my_gauge NaN
"""
BROKEN = [
    "a 1", "a b\n", 'a{b="1"\n', 'a{b="1",b="2"} 1\n', "a{b=1} 1\n", 'a{b="\\x"} 1\n', 'a{__name__="1"} 1\n', "# TYPE a foo\na 1\n",
    "# TYPE a gauge\n# TYPE a gauge\na 1\n", "# HELP a foo\n# HELP a gauge\na 1\n", "a 1\n# TYPE a gauge\na 1\n", "a 1 x\n", "a 1 1 2\n",
    "a{b 1} 1\n", "# HELP a! x\na 1\n", '# TYPE a histogram\na_bucket{le="x"} 1\n', '# TYPE a summary\na{quantile="x"} 1\n', "-a 1\n",
    'a{b="1" c="2"} 1\n', "# EOF", "a 0x1p3\n", "a 1_0\n", 'a{1="1"} 1\n', "a\n", "a{\n", "#", "# HELP", "# HELP a \\x\na 1\n",
]
CLEAN = ["", "# foo\n", "\n\n# HELP a x\n# TYPE a gauge\na 1\n\n", '# HELP a x\n# TYPE a gauge\na {b="1",} 1 12\na{} +Inf\n']


def test_lint_of_metrics(tmp_path):
    assert alike(["check", "metrics"], tmp_path, EVERYTHING).returncode == 3
    for text in BROKEN:
        assert alike(["check", "metrics"], tmp_path, text).returncode == 1, text
    for text in CLEAN:
        assert alike(["check", "metrics"], tmp_path, text).returncode == 0, text
        alike(["check", "metrics", "--extended"], tmp_path, text)


def test_lint_as_3x_has_it(tmp_path):
    """What 2.42's library does not know."""
    for text, want in (
        ("# HELP a x\n# TYPE a gauge\na 1\na 2\n", "a metric not unique\n"),
        ("# HELP a_timestamp_seconds x\n# TYPE a_timestamp_seconds histogram\na_timestamp_seconds_count 1\n", ""),
        ('# HELP "a.b" x\n# TYPE "a.b" gauge\n{"a.b",c="1"} 1\n', ""),
        ("# HELP a_gauge x\n# TYPE a_gauge summary\na_gauge_sum 1\n", ""),  # not its own type
    ):
        got = run([BINARY, "check", "metrics"], tmp_path, text)
        assert (got.returncode, got.stderr) == (3 if want else 0, want), text


def test_cardinality_of_metrics(tmp_path):
    got = run([BINARY, "check", "metrics", "--extended", "--lint=none"], tmp_path, EVERYTHING)
    assert got.returncode == 0 and got.stderr == ""
    rows = [line.split() for line in got.stdout.splitlines()]
    assert rows[0] == ["Metric", "Cardinality", "Percentage"] and rows[1] == ["h_seconds", "4", "22.22%"] and rows[-1] == ["Total", "18", "100%"]
    assert len({len(line) for line in got.stdout.splitlines()}) == 1
    got = run([BINARY, "check", "metrics", "--lint=none"], tmp_path, "")
    assert got.returncode == 1 and got.stderr.startswith("error: at least one of --extended or linting must be enabled\n")


# --- check web-config --------------------------------------------------------------------------------------------

HASH = "y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
WEB_ALIKE = [
    "tls_server_config: {cert_file: c.pem, key_file: k.pem}\nbasic_auth_users: {a: '$2%s'}\nhttp_server_config: {headers: {X-Frame-Options: deny}}" % HASH,
    "tls_server_config: {cert_file: c.pem, key_file: other.pem}", "tls_server_config: {cert_file: web.yml, key_file: k.pem}",
    "tls_server_config: {cert_file: c.pem, key_file: web.yml}", "basic_auth_users: {a: b}", "basic_auth_users: {a: 'x2%s'}" % HASH,
    "basic_auth_users: {a: '$3%s'}" % HASH, "basic_auth_users: {a: '$2%s'}" % HASH.replace("10", "xx"), "basic_auth_users: {a: '$2%s'}" % HASH.replace("10", "55"),
    "http_server_config: {headers: {Foo: a}}", "http_server_config: {headers: {X-Frame-Options: 'a\"b'}}", "foo: a", "", "http_server_config: {http2: foo}",
    "tls_server_config: {min_version: TLS99}", "tls_server_config: {cipher_suites: [A]}", "tls_server_config: {curve_preferences: [A]}",
]
WEB_OURS = [  # 2.42 words them otherwise, or does not know them
    ("tls_server_config: {cert_file: c.pem}", "missing one of key or key_file"), ("tls_server_config: {key_file: k.pem}", "missing one of cert or cert_file"),
    ("tls_server_config: {cert_file: none.pem, key_file: k.pem}", "failed to read cert_file (none.pem): open none.pem: no such file or directory"),
    ("tls_server_config: {cert_file: c.pem, key_file: k.pem, client_auth_type: foo}", "invalid ClientAuth: foo"),
    ("tls_server_config: {cert_file: c.pem, key_file: k.pem, client_ca_file: c.pem}", "client CA's have been configured without a Client Auth Policy"),
]


def test_check_web_config(tmp_path):
    subprocess.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k.pem -out c.pem -days 10 -subj /CN=x &&"
                   "openssl ecparam -name prime256v1 -genkey -noout -out other.pem", shell=True, cwd=tmp_path, check=True, capture_output=True)
    codes = set()
    for text in WEB_ALIKE:
        (tmp_path / "web.yml").write_text(text + "\n")
        codes.add(alike(["check", "web-config", "web.yml"], tmp_path).returncode)
    assert codes == {0, 1}
    for text, why in WEB_OURS:
        (tmp_path / "web.yml").write_text(text + "\n")
        got, theirs = both(["check", "web-config", "web.yml"], tmp_path)
        assert (got.returncode, got.stdout, got.stderr) == (1, "", f"web.yml FAILED: {why}\n") and theirs.returncode == 1
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: c.pem, key_file: k.pem, client_allowed_sans: [a]}")  # since 3.x
    assert run([BINARY, "check", "web-config", "web.yml"], tmp_path).stderr == "web.yml SUCCESS\n"
    (tmp_path / "good.yml").write_text("")
    assert alike(["check", "web-config", "good.yml", "good.yml"], tmp_path).stderr == "good.yml SUCCESS\n" * 2


# --- check config, its targets; check service-discovery --------------------------------------------------------------

JOBS = """scrape_configs:
- job_name: plain
  static_configs: [{targets: ['q:1', 'q:1', 'r:2'], labels: {x: "<a&b>"}}]
  relabel_configs: [{source_labels: [x], target_label: y}]
- job_name: dropped
  static_configs: [{targets: ['c:1', 'd:1']}]
  relabel_configs: [{source_labels: [__address__], regex: 'c:1', action: drop}]
- job_name: files
  file_sd_configs: [{files: [t.yml]}]
- job_name: nothing
"""
BAD_TARGET = "  relabel_configs: [{source_labels: [__address__], regex: 'q:1', target_label: __address__, replacement: 'a/b:1'}]\n"


def test_check_service_discovery(tmp_path):
    (tmp_path / "p.yml").write_text(JOBS)
    (tmp_path / "t.yml").write_text("[{targets: ['q:1'], labels: {__meta_x: z}}]\n")
    jobs = ("plain", "dropped", "files", "nothing", "unknown")
    # The reference waits for the whole timeout, even if it has found all: side by side.
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        answers = list(pool.map(lambda job: both(["check", "service-discovery", "--timeout=3s", "p.yml", job], tmp_path), jobs))
    for job, (ours, theirs) in zip(jobs, answers):
        assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout) and ours.returncode == (job == "unknown")
        assert ours.stderr == re.sub("^level=debug.*\n", "", theirs.stderr, flags=re.M)


def test_check_config_looks_at_targets(tmp_path):
    (tmp_path / "t.yml").write_text("[{targets: ['w:1', 'q:1']}]\n")
    for text in ("scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['w:1']}, {targets: ['w:1', 'q:1']}]\n" + BAD_TARGET,
                 "scrape_configs:\n- job_name: a\n  file_sd_configs: [{files: [t.yml]}]\n" + BAD_TARGET,
                 "alerting:\n  alertmanagers:\n  - static_configs: [{targets: ['q:1']}]\n  " + BAD_TARGET,
                 "alerting:\n  alertmanagers:\n  - file_sd_configs: [{files: [t.yml]}]\n  " + BAD_TARGET):
        (tmp_path / "p.yml").write_text(text)
        assert alike(["check", "config", "p.yml"], tmp_path).returncode == 1
    (tmp_path / "p.yml").write_text(JOBS)
    assert alike(["check", "config", "p.yml"], tmp_path).returncode == 0


# --- a server that is asked -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(module_stage):
    s = module_stage.server("scrape_configs:\n- job_name: dead\n  scrape_interval: 1s\n  static_configs: [{targets: ['127.0.0.1:1'], labels: {x: '<a&\"b>'}}]\n")
    harness.wait_for("some samples", lambda: float(s.query("count_over_time(up[1m])")["result"][0]["value"][1]) >= 5)
    return s


def test_queries(server, tmp_path):
    # Not at a time at which a scrape may come in between the two.
    url, now = f"http://127.0.0.1:{server.port}", int(time.time()) - 2
    at, span = f"--time={now}", [f"--start={now - 5}", f"--end={now}", "--step=2s"]
    for args in (
        ["instant", at, url, "up"], ["instant", at, url + "/", "1e30"], ["instant", at, url, "-1e-9"], ["instant", at, url, "NaN"], ["instant", url, "up{"],
        ["instant", url, "nosuch"], ["instant", at, url, "vector(1/3)"], ["instant", at, url, "up[3s]"], ["instant", url + "/x", "up"],
        ["instant", at, url, '{__name__=~"up|scrape.*"}'], ["range", *span, url, "up"], ["range", *span, url, '{__name__=~"up|scrape_s.*"}'],
        ["range", url, "nosuch"], ["range", *span, url, "up{"], ["labels", url, "job"], ["labels", url, "nosuch"],
        ["labels", "--match=up", url, "__name__"], ["labels", "--match=up{", url, "job"], ["series", "--match=up", url],
        ["series", "--match=up", "--match=scrape_duration_seconds", url], ["series", "--match=nosuch", url], ["series", "--match={}", url],
    ):
        for form in ("promql", "json"):
            if form == "promql" or not args[-1].startswith("up{"):
                alike(["query", "-o", form, *args], tmp_path)
    assert run([BINARY, "query", "instant", "--header=X-A=b", at, url, "1"], tmp_path).stdout == f"scalar: 1 @[{now}]\n"
    assert run([BINARY, "query", "instant", at, f"127.0.0.1:{server.port}", "1"], tmp_path).stdout == f"scalar: 1 @[{now}]\n"


def test_query_analyze(module_stage, tmp_path):
    lines = "".join(f'h_bucket{{le="{le}",a="1"}} {v} {1700000000 + t}\n' for le, counts in (("1", (0, 1)), ("2", (1, 1)), ("+Inf", (1, 5)))
                    for t, v in zip((0, 15), counts))
    (tmp_path / "in.om").write_text("# TYPE h histogram\n" + lines + "# EOF\n")
    assert run([BINARY, "tsdb", "create-blocks-from", "openmetrics", "-q", "in.om", "data"], tmp_path).returncode == 0
    s = module_stage.server("{}", name="analyzed", data=tmp_path / "data", flags=["--storage.tsdb.retention.time=100y"])
    got = run([BINARY, "query", "analyze", f"--server=http://127.0.0.1:{s.port}", "--type=histogram", "--time=1700000100", "--match=h_bucket"], tmp_path)
    assert got.returncode == 0, got.stderr
    assert '\n- h_bucket{a="1"} (classic): 1/1.500/2/3\n' in got.stdout
    assert got.stdout.endswith("""Each line shows min/avg/max over the series above.

Classic histogram series (1 in total):
- min populated: 1/1.000/1
- avg populated: 1/1.000/1
- max populated: 2/2.000/2
- total: 3/3.000/3
""")
    got = run([BINARY, "query", "analyze", f"--server=http://127.0.0.1:{s.port}", "--type=gauge", "--match=a"], tmp_path)
    assert (got.returncode, got.stderr) == (1, "analyze type is gauge, must be 'histogram'\n")


def test_healthy_and_ready(server, tmp_path):
    url = f"http://127.0.0.1:{server.port}"
    for name, body in (("healthy", "Prometheus Server is Healthy.\n"), ("ready", "Prometheus Server is Ready.\n")):
        for u in (url, url + "/"):
            got = run([BINARY, "check", name, f"--url={u}"], tmp_path)
            assert (got.returncode, got.stdout, got.stderr) == (0, "", f"  SUCCESS:  {body}\n")
        got = run([BINARY, "check", name, f"--url={url}/x"], tmp_path)
        assert (got.returncode, got.stderr) == (1, f"check failed: URL={url}/x, status=404\n")
        got = run([BINARY, "check", name, "--url=http://127.0.0.1:9"], tmp_path)
        assert got.returncode == 1 and got.stderr.endswith("connect: connection refused\n")


def test_http_settings_from_a_file(server, tmp_path):
    (tmp_path / "http.yml").write_text("basic_auth: {username: a, password_file: pw}\nhttp_headers: {X-B: {values: [c]}}\n")
    url = f"http://127.0.0.1:{server.port}"
    got = run([BINARY, "check", "ready", "--http.config.file=http.yml", f"--url={url}"], tmp_path)
    assert got.returncode == 1 and "unable to read basic auth password file pw" in got.stderr
    (tmp_path / "pw").write_text("secret")
    assert run([BINARY, "check", "ready", "--http.config.file=http.yml", f"--url={url}"], tmp_path).returncode == 0
    got = run([BINARY, "query", "--http.config.file=http.yml", "instant", f"http://u:p@127.0.0.1:{server.port}", "1"], tmp_path)
    assert got.returncode == 1 and got.stderr.startswith("promtool: error: Cannot set base auth in the server URL")
    (tmp_path / "http.yml").write_text("basic_auth: {usernam: a}\n")
    got = run([BINARY, "query", "--http.config.file=http.yml", "instant", url, "1"], tmp_path)
    assert got.returncode == 1 and "Failed to load HTTP config file" in got.stderr and "field usernam not found" in got.stderr


def test_debug(server, tmp_path):
    url = f"http://127.0.0.1:{server.port}"
    assert alike(["debug", "metrics", url], tmp_path).returncode == 0
    for what in ("metrics", "all"):
        os.unlink(tmp_path / "debug.tar.gz")
        got = run([BINARY, "debug", what, url], tmp_path)
        assert got.returncode == 0 and ("no profiles" in got.stderr) == (what == "all")
        with tarfile.open(tmp_path / "debug.tar.gz") as t:
            assert t.getnames() == ["metrics.txt"] and b"\nprometheus_build_info{" in t.extractfile("metrics.txt").read()
    got = run([BINARY, "debug", "pprof", url], tmp_path)
    assert got.returncode == 1 and got.stderr.startswith("error completing debug command: the server answers 404: profiles are")


# --- promql -----------------------------------------------------------------------------------------------------------


def test_promql_editing(tmp_path):
    for args, want in (
        (["format", "sum(rate(x[5m]))by(a)/b"], "sum by (a) (rate(x[5m])) / b\n"),
        (["label-matchers", "set", 'sum(rate(x{a="b"}[5m]))/y', "a", "c"], 'sum(rate(x{a="c"}[5m])) / y{a="c"}\n'),
        (["label-matchers", "set", "-t", "=~", "max_over_time(sum(x)[5m:])", "a", "c.*"], 'max_over_time(sum(x{a=~"c.*"})[5m:])\n'),
        (["label-matchers", "set", "--type=!~", "topk(3, -(x))", "a", "("], 'topk(3, -(x{a!~"("}))\n'),
        (["label-matchers", "delete", 'x{a="b",c="d",a!="e"} or {a="1",b="2"}', "a"], 'x{c="d"} or {b="2"}\n'),
    ):
        got = run([BINARY, "promql", *args, "--experimental"], tmp_path)
        assert (got.returncode, got.stdout, got.stderr) == (0, want, ""), args
        got = run([BINARY, "promql", *args], tmp_path)
        assert (got.returncode, got.stdout) == (1, "")
        assert got.stderr == "This command is experimental and requires the --experimental flag to be set.\n"
    got = run([BINARY, "promql", "--experimental", "format", "a+"], tmp_path)
    assert (got.returncode, got.stderr) == (1, "1:3: parse error: unexpected end of input\n")
