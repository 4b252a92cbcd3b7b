"""`check rules` and `test rules`, beside promtool's. The files are in tests/cli/rules."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as xml

import pytest

import harness
import moments
from harness import BINARY, PROMTOOL

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="it is what is compared with")

FILES = os.path.join(harness.ROOT, "tests/cli/rules")


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(FILES, tmp_path / "rules")
    return tmp_path / "rules"


def run(argv, cwd, text=""):
    return subprocess.run([str(a) for a in argv], cwd=cwd, input=text, capture_output=True, text=True, timeout=60)


def both(args, cwd, text=""):
    return run([BINARY, *args], cwd, text), run([PROMTOOL, *args], cwd, text)


def alike(args, cwd, text=""):
    ours, theirs = both(args, cwd, text)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr), args
    return ours


# --- test rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name,code", [("passes", 0), ("ordered", 0), ("empty", 0), ("fails", 1), ("unknown_field", 1), ("no_alertname", 1),
                                       ("order_twice", 1), ("bad_value", 1), ("broken", 1)])
def test_rules_are_tested_as_promtool_tests_them(folder, name, code):
    assert alike(["test", "rules", f"{name}.test.yml"], folder).returncode == code


def test_several_files_and_paths_from_elsewhere(folder):
    assert alike(["test", "rules", "passes.test.yml", "fails.test.yml", "ordered.test.yml"], folder).returncode == 1
    assert alike(["test", "rules", "rules/passes.test.yml"], folder.parent).returncode == 0
    assert alike(["test", "rules", "passes.test.yml", "none.yml"], folder).returncode == 1


@pytest.mark.parametrize("name", ["failing", "bad_series", "bad_duration", "no_yaml"])
def test_what_is_worded_otherwise_fails_alike(folder, name):
    """An order that is nobody's promise, and places told by line and column that 2.42 does not tell."""
    ours, theirs = both(["test", "rules", f"{name}.test.yml"], folder)
    assert ours.returncode == theirs.returncode == 1 and ours.stdout == theirs.stdout
    assert ours.stderr.startswith("  FAILED:\n") and len(ours.stderr.splitlines()) == len(theirs.stderr.splitlines())


def test_a_wrong_expectation_is_seen(folder):
    """Each value of the file that passes, changed on its own, makes it fail: in both."""
    text = (folder / "passes.test.yml").read_text()
    places = [m.start(1) for m in re.finditer(r"(?:value: |exp_labels: \{job: s|rate: |seen: ')(\S)", text)]
    assert len(places) > 12
    for i, at in enumerate(places):
        (folder / "changed.test.yml").write_text(text[:at] + "9" + text[at + 1:])
        assert run([BINARY, "test", "rules", "changed.test.yml"], folder).returncode == 1, text[at - 60:at + 20]
        if i % 4 == 0:
            alike(["test", "rules", "changed.test.yml"], folder)


def test_what_came_after_242(folder):
    got = run([BINARY, "test", "rules", "--run=near", "--run=^started", "newer.test.yml"], folder)
    assert (got.returncode, got.stdout) == (0, "Unit Testing:  newer.test.yml\n  SUCCESS\n\n"), got.stderr
    got = run([BINARY, "test", "rules", "newer.test.yml"], folder)
    assert got.returncode == 1 and got.stderr == """  FAILED:
    expr: "near", time: 0s,
        exp: {__name__="near"} 3E+00
        got: {__name__="near"} 2.999999E+00
    expr: "h", time: 0s, err: native histograms are not supported in this version
"""
    assert run([BINARY, "test", "rules", "--run=nobody", "newer.test.yml"], folder).returncode == 0
    got = run([BINARY, "test", "rules", "--run=(", "newer.test.yml"], folder)
    assert got.returncode == 1 and got.stderr.startswith("promtool: error: ")


CLASHES = """groups:
- name: a
  rules:
  - {record: sum, expr: seed}
  - {record: apart, expr: seed}
- name: b
  rules:
  - {record: sum, expr: seed * FACTOR}
"""
CLASH_TEST = """rule_files: [clash.rules.yml]
group_eval_order: [a, b]
tests:
- interval: 1m
  input_series: [{series: seed, values: 0 1 2}]
  promql_expr_test: [{expr: sum, eval_time: 2m, exp_samples: [{labels: sum, value: 2}]}]
"""


def test_rules_that_write_over_one_another_fail(folder):
    """As in a server: of two values at one time the second is refused. The same value twice is none."""
    (folder / "clash.test.yml").write_text(CLASH_TEST)
    for factor, code in (("1", 0), ("2", 1)):
        (folder / "clash.rules.yml").write_text(CLASHES.replace("FACTOR", factor))
        ours, theirs = both(["test", "rules", "clash.test.yml"], folder)
        assert ours.returncode == theirs.returncode == code and ours.stdout == theirs.stdout
        # Promtool tells both values, too, except at 0.
        assert ours.stderr == re.sub(" 60000; overrides not allowed: .*", "", theirs.stderr)
    assert ours.stderr == "  FAILED:\n    rule: sum, time: 1m0s, err: duplicate sample for timestamp\n"
    (folder / "clash.rules.yml").write_text(CLASHES.replace("FACTOR", "1").replace("name: b", "name: b\n  query_offset: 1m"))
    got = run([BINARY, "test", "rules", "clash.test.yml"], folder)
    assert (got.returncode, got.stderr) == (1, "  FAILED:\n    rule: sum, time: 1m0s, err: out of order sample\n")


def test_a_file_that_two_patterns_name_is_taken_once(folder):
    """Its alerts were there twice otherwise. What is no pattern names nothing, and is told."""
    (folder / "once.rules.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: up}]}]\n")
    test = """rule_files: [once.rules.yml, 'onc*.yml', ./once.rules.yml]
tests:
- input_series: [{series: up, values: 1}]
  alert_rule_test: [{eval_time: 0m, alertname: A, exp_alerts: [{}]}]
"""
    (folder / "twice.test.yml").write_text(test)
    assert alike(["test", "rules", "twice.test.yml"], folder).returncode == 0
    for bad in ("'onc[e.yml'", "'on[]e.yml'", "'on[a-]e.yml'", "'once\\'", "'[^]'", "'[\\'"):
        (folder / "twice.test.yml").write_text(test.replace("'onc*.yml'", bad))
        got = alike(["test", "rules", "twice.test.yml"], folder)
        assert (got.returncode, got.stderr) == (1, "  FAILED:\nsyntax error in pattern\n"), bad
        (folder / "p.yml").write_text(f"rule_files: [{bad}]\n")
        assert alike(["check", "config", "p.yml"], folder).stderr == "  FAILED: syntax error in pattern\n"
    for good in ("'o[n]c*.yml'", "'on[^x]e.*.yml'", "'[a-z]nce.rules.yml'", "'\\once.rules.yml'", "'onc[\\e].rules.yml'", "'once.rules.ym[l]'"):
        (folder / "twice.test.yml").write_text(test.replace("'onc*.yml'", good))
        assert alike(["test", "rules", "twice.test.yml"], folder).stderr == "", good


def test_names_of_a_new_kind_are_quoted(folder):
    (folder / "dots.rules.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: 'up', labels: {a.b: c}}]}]\n")
    (folder / "dots.test.yml").write_text("""rule_files: [dots.rules.yml, '']
tests:
- input_series: [{series: up, values: 1}]
  alert_rule_test: [{eval_time: 0m, alertname: A, exp_alerts: [{exp_labels: {d-e: f}}]}]
  promql_expr_test: [{expr: 'vector(1)', eval_time: 0m, exp_samples: [{labels: '{"x.y"="z"}', value: 1}]}]
""")
    got = run([BINARY, "test", "rules", "dots.test.yml"], folder)
    assert got.returncode == 1 and got.stderr.startswith("  WARNING: no file match pattern \n  FAILED:\n")
    assert '\n              Labels:{alertname="A", "d-e"="f"}\n' in got.stderr
    assert '\n              Labels:{"a.b"="c", alertname="A"}\n' in got.stderr and '\n        exp: {"x.y"="z"} 1E+00\n' in got.stderr


def test_junit_debug_and_diff(folder):
    got = run([BINARY, "test", "--junit=j.xml", "rules", "--debug", "fails.test.yml", "passes.test.yml", "no_yaml.test.yml"], folder)
    assert got.returncode == 1
    suites = xml.parse(folder / "j.xml").getroot()
    assert [s.get("name") for s in suites] == ["fails.test.yml", "passes.test.yml", "no_yaml.test.yml"]
    assert [(s.get("tests"), s.get("failures"), s.get("errors"), s.get("skipped")) for s in suites] == \
        [("2", "14", "0", "0"), ("2", "0", "0", "0"), ("1", "0", "1", "0")]
    assert [c.get("name") for c in suites[0]] == ["what goes wrong", "unnamed#1"]
    failures = [f.text for f in suites[0].iter("failure")]
    assert all(f in got.stderr for f in failures)
    assert 'x\\ny' in failures[1] and "DEBUG: Dump of all data (input_series and rules) at 1h30m1s:\n" in got.stderr
    got = run([BINARY, "test", "rules", "--diff", "fails.test.yml"], folder)
    assert got.returncode == 1
    assert '\x1b[0;33m"Shop a:1 is up" => "Shop a:1 is down"\x1b[0m' in got.stderr and '\x1b[0;31m"extra": "e"\x1b[0m' in got.stderr


# --- check rules --------------------------------------------------------------------------------------------------


def test_check_rules(folder):
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".rules.yml"))
    for name in names:
        ours, theirs = both(["check", "rules", name], folder)
        assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr), name
        assert ours.stdout.strip() == theirs.stdout.strip() and ours.returncode == (name == "broken.rules.yml")
    good = [n for n in names if n != "broken.rules.yml"]
    assert alike(["check", "rules", *good], folder).returncode == 0
    for flags, code in ((["--lint-fatal"], 3), (["--lint-fatal", "--lint=all"], 3), (["--lint=none", "--lint-fatal"], 0), ([], 0)):
        assert alike(["check", "rules", *flags, "doubled.rules.yml", "shop.rules.yml"], folder).returncode == code
    assert alike(["check", "rules", "none.yml"], folder).returncode == 1


def test_check_rules_reads_standard_input(folder):
    text = (folder / "shop.rules.yml").read_text()
    got = run([BINARY, "check", "rules"], folder, text)
    assert (got.returncode, got.stdout, got.stderr) == (0, "Checking standard input\n  SUCCESS: 5 rules found\n\n", "")
    got = run([BINARY, "check", "rules"], folder, text.replace("sum by", "sun by"))
    assert (got.returncode, got.stdout) == (1, "Checking standard input\n") and got.stderr.startswith('  FAILED:\n7:11: group "orders", rule 1, "job:orders:rate5m": could not parse')
    more = text.replace("  interval: 30s", "  interval: 30s\n  owner: me")
    got = run([BINARY, "check", "rules"], folder, more)
    assert got.returncode == 1 and "field owner not found" in got.stderr
    assert run([BINARY, "check", "rules", "--ignore-unknown-fields"], folder, more).returncode == 0


def test_check_rules_tells_of_more_documents(folder):
    """They do not count, as in the server, which logs the same. 2.42 passes over them in silence."""
    text = (folder / "shop.rules.yml").read_text()
    for more, told in (("", 0), ("...\n", 0), ("---\n" + text, 1)):
        (folder / "more.rules.yml").write_text(text + more)
        for name in ("more.rules.yml", "more.rules.yml shop.rules.yml"):
            got = run([BINARY, "check", "rules", *name.split()], folder)
            assert got.returncode == 0 and got.stdout.startswith("Checking more.rules.yml\n  SUCCESS: 5 rules found\n\n"), got
            assert [line.split("msg=")[1] for line in got.stderr.splitlines()] == \
                ['"Multiple document yaml rules files are not supported, only the first document is processed"'] * told


def test_check_config_looks_into_rule_files(folder):
    for name, code, fatal in (("shop", 0, 0), ("doubled", 0, 3), ("broken", 1, 1)):
        (folder / "p.yml").write_text(f"rule_files: [{name}.rules.yml]\n")
        for flags, want in (([], code), (["--lint-fatal"], fatal), (["--syntax-only", "--lint-fatal"], 0), (["--lint=none", "--lint-fatal"], code)):
            ours, theirs = both(["check", "config", *flags, "p.yml"], folder)
            assert ours.returncode == theirs.returncode == want and ours.stdout.strip() == theirs.stdout.strip()
            assert ours.stderr == re.sub("^     ", "", theirs.stderr, flags=re.M)  # 2.42 indents them
    (folder / "more.rules.yml").write_text((folder / "shop.rules.yml").read_text().replace("  interval: 30s", "  interval: 30s\n  owner: me"))
    (folder / "p.yml").write_text("rule_files: [more.rules.yml]\n")
    assert run([BINARY, "check", "config", "p.yml"], folder).returncode == 1
    assert run([BINARY, "check", "config", "--ignore-unknown-fields", "p.yml"], folder).returncode == 0


# --- tsdb create-blocks-from rules ----------------------------------------------------------------------------------

BACKFILL = """groups:
- name: NAME_A
  interval: 4s
  rules:
  - {record: doubled, expr: seed * 2, labels: {source: rule, x: own}}
  - {alert: Never, expr: seed > 0}
- name: NAME_B
  rules:
  - {record: summed, expr: sum(seed)}
"""


def test_blocks_from_rules(stage):
    folder, start = stage.folder, 1700000040  # a whole minute
    with open(os.path.join(folder, "in.om"), "w") as f:
        f.write("# TYPE seed gauge\n" + "".join(f'seed{{x="{x}"}} {i} {start + 15 * i}\n' for x in "12" for i in range(600)) + "# EOF\n")
    with open(os.path.join(folder, "rules.yml"), "w") as f:
        f.write(BACKFILL.replace("NAME_A", moments.at_one_moment("rules.yml", "a", 4)).replace("NAME_B", moments.at_one_moment("rules.yml", "b", 5)))
    assert run([BINARY, "tsdb", "create-blocks-from", "openmetrics", "-q", "in.om", "in"], folder).returncode == 0
    server = stage.server("{}", data=os.path.join(folder, "in"), flags=["--storage.tsdb.retention.time=100y"])
    args = ["tsdb", "create-blocks-from", "rules", f"--start={start}", f"--end={start + 8999}", "--eval-interval=5s", f"--url=http://127.0.0.1:{server.port}"]
    got = run([BINARY, *args, "--output-dir=out", "rules.yml"], folder)
    assert (got.returncode, got.stdout, got.stderr) == (0, "", "")
    theirs = run([PROMTOOL, *args, "--output-dir=theirs", "rules.yml"], folder)
    assert theirs.returncode == 0, theirs.stderr

    def dump(tool, name):
        found = {}
        for line in run([*tool, "tsdb", "dump", name], folder).stdout.splitlines():
            series, value, t = line.rsplit(" ", 2)
            found.setdefault(series.replace(", ", ","), []).append((int(t), float(value)))
        return {k: sorted(v) for k, v in found.items()}

    os.mkdir(os.path.join(folder, "theirs/wal"))  # which promtool wants to see
    found, reference = dump([BINARY], "out"), dump([PROMTOOL], "theirs")
    del reference['{__name__="Never",x="1"}'], reference['{__name__="Never",x="2"}']  # 2.42 takes alerts for recording rules
    assert set(found) == {'{__name__="doubled",source="rule",x="own"}', '{__name__="summed"}'}
    assert found == reference  # to the moments
    assert [len(v) for v in found.values()] == [2250, 1800]
    assert all(v == 2 * ((t - start * 1000) // 15000) for t, v in found['{__name__="summed"}'])
    for change, why in ((["--start=x"], "error parsing start time: cannot parse \"x\" to a valid timestamp\n"),
                        (["--start=5", "--end=5"], "start time is not before end time\n")):
        ours, theirs = both([*args[:3], *change, "rules.yml"], folder)
        assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr) == (1, why)
    alike(["tsdb", "create-blocks-from", "rules", "rules.yml"], folder)
    got = run([BINARY, *args[:6], "--url=http://127.0.0.1:9", "--output-dir=none", "rules.yml"], folder)
    assert got.returncode == 1 and got.stderr.endswith("connect: connection refused\nerror importing rules\n")
    assert not os.path.exists(os.path.join(folder, "none")) or not os.listdir(os.path.join(folder, "none"))
