"""Rules and alerts beside the reference: the same files over the same target, at every turn the same answers."""

import datetime
import json
import os
import time

import pytest

import harness
from served import Target

RECORD = """groups:
- name: record
  interval: 250ms
  rules:
  - {record: 'm:double', expr: m * 2, labels: {team: x}}
  - {record: 'm:sum', expr: 'sum(m:double)'}
  - {record: same, expr: 'label_replace(m, "l", "x", "", "")'}
  - {record: above, expr: m > 5}
  - {record: number, expr: 3}
  - {record: words, expr: '"a"'}
- name: limited
  interval: 250ms
  limit: 1
  rules:
  - {record: all, expr: m}
"""

ALERT = """groups:
- name: alert
  interval: 250ms
  rules:
  - alert: High
    expr: m > 5
    for: 500ms
    labels: {severity: '{{ if gt $value 9.0 }}bad{{ else }}warn{{ end }}', none: '{{ $labels.none }}'}
    annotations:
      plain: nothing to expand
      value: '{{ $labels.l }} of {{ $externalLabels.site }}: {{ $value }} {{ printf "%.2f" $value }} {{ humanize $value }}'
      query: '{{ with query "sum(m)" }}{{ . | first | value | humanizeDuration }}{{ end }}'
      range: '{{ range query "sort(m)" }}{{ .Labels.l }}={{ .Value }} {{ end }}'
      wrong: '{{ $labels.l.m }}'
      none: '{{ query "absent_one" | first }}'
      text: '{{ "aBc" | toUpper }} {{ reReplaceAll "(.)b" "$1-" "abab" }} {{ stripPort "h:80" }} {{ tableLink "m > 5" }}'
  - alert: Keep
    expr: m > 5
    keep_firing_for: 4s
  - alert: Twice
    expr: m
    labels: {l: one}
  - alert: Seen
    expr: 'count(ALERTS{alertname="Keep"}) > 0'
  - alert: Never
    expr: m > 1000
"""

SERIES = ["m:double", "m:sum", "same", "above", "number", "all", "ALERTS", 'count by (alertname) (ALERTS_FOR_STATE)']


@pytest.fixture
def target():
    t = Target()
    yield t
    t.close()


def config(target, rules):
    """A target that is late once is stale, and its alerts begin anew: it has time."""
    return json.dumps({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms",
                   "external_labels": {"site": "here"}},
        "rule_files": [f"{rules}/*.yml"],
        "scrape_configs": [{"job_name": "t", "static_configs": [{"targets": [target.address]}]}],
    })


def plain_alert(a):
    a.setdefault("annotations", {})
    return {k: v for k, v in a.items() if k not in ("activeAt", "keepFiringSince")} | {"keeps": "keepFiringSince" in a}


def plain_rules(server):
    """What both must say, without times."""
    groups = server.get("/api/v1/rules").data["groups"]
    for g in groups:
        for r in [g, *g["rules"]]:
            for key in ("lastEvaluation", "evaluationTime"):
                r.pop(key)
        for r in g["rules"]:
            r.setdefault("labels", {})  # which 2.42 leaves out when they are empty
            if r["type"] == "alerting":
                r.setdefault("annotations", {})
                r["alerts"] = sorted(map(plain_alert, r["alerts"] or []), key=json.dumps)
    return groups


def plain_series(server):
    return {expr: server.vector(expr) for expr in SERIES}


def agree(ours, theirs, good, what):
    """Waits for a moment at which both say the same, and it is what the test wants."""
    seen = {}

    def probe():
        seen["got"], seen["want"] = plain_rules(ours), plain_rules(theirs)
        seen["got_series"], seen["want_series"] = plain_series(ours), plain_series(theirs)
        return good(seen["want"]) and seen["got"] == seen["want"] and seen["got_series"] == seen["want_series"]

    try:
        harness.wait_for(what, probe, timeout=30, every=0.1)
    except AssertionError:
        for key in ("", "_series"):
            assert seen["got" + key] == seen["want" + key], what
        raise


def rule(groups, name):
    return next(r for g in groups for r in g["rules"] if r["name"] == name)


def write(folder, name, text):
    with open(os.path.join(folder, name + ".new"), "w") as f:
        f.write(text)
    os.replace(os.path.join(folder, name + ".new"), os.path.join(folder, name))


def when(text):
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.datetime.fromisoformat(seconds + "+00:00").timestamp() + float("0." + (fraction or "0"))


def test_rules_say_what_they_say_in_prometheus(stage, target):
    folder = stage.folder_for("rules")
    write(folder, "a.yml", RECORD)
    write(folder, "b.yml", ALERT)
    target.text = 'm{l="a"} 7\nm{l="b"} 12.5\nm{l="c"} 1\n'
    flags = ["--web.external-url=http://example.com/p/", "--web.route-prefix=/"]
    theirs = stage.reference(config(target, folder), flags=flags)
    ours = stage.server(config(target, folder), flags=flags)

    agree(ours, theirs, lambda g: rule(g, "High")["state"] == "firing" and rule(g, "same")["health"] == "err" and
          rule(g, "Seen")["state"] == "firing", "all fire")
    groups = plain_rules(ours)
    assert rule(groups, "all")["lastError"] == "exceeded limit of 1 with 3 series"
    assert len(rule(groups, "High")["alerts"]) == 2

    target.text = 'm{l="a"} 1\nm{l="b"} 12.5\nm{l="c"} 1\n'
    agree(ours, theirs, lambda g: len(rule(g, "High")["alerts"]) == 1 and
          any(a["keeps"] for a in rule(g, "Keep")["alerts"]), "one is over, one keeps firing")
    agree(ours, theirs, lambda g: len(rule(g, "Keep")["alerts"]) == 1, "it is over, too")

    # A reload: a group goes, another changes, the third says the same.
    before = [a["activeAt"] for r in ours.get("/api/v1/rules?type=alert").data["groups"][0]["rules"]
              for a in r["alerts"]]
    write(folder, "a.yml", RECORD.split("- name: limited")[0].replace("'m:sum'", "'n:sum'"))
    assert ours.reload().status == 200 and theirs.reload().status == 200
    agree(ours, theirs, lambda g: rule(g, "n:sum")["health"] == "ok" and not theirs.vector("m:sum"),
          "what is gone has ended")
    assert [a["activeAt"] for r in ours.get("/api/v1/rules?type=alert").data["groups"][0]["rules"]
            for a in r["alerts"]] == before

    # A file that is wrong changes nothing.
    write(folder, "a.yml", RECORD.replace("m * 2", "m *"))
    assert ours.reload().status == 500 and theirs.reload().status == 500
    assert "could not parse expression: 1:4: parse error: unexpected end of input" in ours.log()
    agree(ours, theirs, lambda g: rule(g, "n:sum")["health"] == "ok", "the rules from before")

    for name in ("rule_evaluations_total", "rule_group_iterations_total", "rule_group_rules", "rule_group_interval_seconds"):
        keys = [sorted(line.split()[0] for line in s.get("/metrics").text.splitlines()
                       if line.startswith(f"prometheus_{name}{{")) for s in (ours, theirs)]
        assert keys[0] == keys[1] != [], name


def test_an_alert_goes_on_where_it_was_before_a_restart(stage, target):
    folder = stage.folder_for("rules")
    # The value is remembered: a scrape that comes late is no reason to begin anew.
    write(folder, "r.yml", "groups:\n- name: g\n  interval: 250ms\n  rules:\n  - alert: Slow\n    expr: last_over_time(m[1h]) > 0\n"
                           "    for: 1h\n    labels: {v: '{{ $value }}'}\n  - {record: turn, expr: '1'}\n")
    target.text = "m 1\n"
    flags = ["--rules.alert.for-grace-period=1s", "--web.external-url=http://x:1"]
    server = stage.server(config(target, folder), flags=flags)

    def active():
        alerts = server.get("/api/v1/alerts").data["alerts"]
        return when(alerts[0]["activeAt"]) if alerts else None

    harness.wait_for("a pending alert", active, timeout=20)
    harness.wait_for("its series", lambda: server.vector("ALERTS_FOR_STATE"), timeout=20)
    first = active()
    time.sleep(3)
    server.send(9)  # not told
    server.popen.wait()
    down = time.time()
    time.sleep(0.3)
    started = int(time.time() * 1000) / 1000
    server.start()
    harness.wait_for("its state", lambda: "prometheus_rule_group_last_restore_duration_seconds{" in
                     server.get("/metrics").text, timeout=20)
    pause = time.time() - down
    # Active for as long before the stop as it was: the pause is not counted.
    assert first - 1 <= active() <= first + pause + 2.1, (first, active(), pause)
    # Without its state it would begin with the first evaluation after the start.
    turns = [t for e in server.query("turn[1h]")["result"] for t, _ in e["values"] if t >= started]
    assert active() < min(turns) - 0.01, (active(), started, turns)
    assert server.get("/api/v1/rules").data["groups"][0]["rules"][0]["state"] == "pending"


def test_filters_and_pages_of_rules(stage):
    folder = stage.folder_for("rules")
    for name in ("a", "b"):
        write(folder, f"{name}.yml", "groups:\n" + "".join(
            f"- name: g{i}\n  rules:\n  - {{record: r{i}, expr: 1, labels: {{team: t{i}}}}}\n"
            f"  - {{alert: A{i}, expr: 1}}\n" for i in range(3)))
    server = stage.server(json.dumps({"rule_files": [f"{folder}/*.yml", f"{folder}/a.yml"]}))

    def names(query):
        data = server.get("/api/v1/rules?" + query).data
        return [(os.path.basename(g["file"])[0], g["name"], *(r["name"] for r in g["rules"])) for g in data["groups"]]

    assert len(names("")) == 6
    assert names("type=alert&file[]=%s/a.yml" % folder) == [("a", f"g{i}", f"A{i}") for i in range(3)]
    assert names("type=RECORD&rule_group[]=g1") == [("a", "g1", "r1"), ("b", "g1", "r1")]
    assert names("rule_name[]=A2&rule_name[]=r0") == [("a", "g0", "r0"), ("a", "g2", "A2"), ("b", "g0", "r0"), ("b", "g2", "A2")]
    assert names("match[]=%7Bteam=~%22t[12]%22%7D&file[]=" + folder + "/b.yml") == [("b", "g1", "r1"), ("b", "g2", "r2")]
    assert names("rule_name[]=none") == []

    pages, token = [], ""
    while True:
        data = server.get("/api/v1/rules?group_limit=4" + (f"&group_next_token={token}" if token else "")).data
        pages.append(len(data["groups"]))
        token = data.get("groupNextToken")
        if not token:
            break
        assert len(token) == 64
    assert pages == [4, 2]
    assert server.get("/api/v1/rules?group_limit=1&group_next_token=x").status == 400
    assert server.get("/api/v1/rules?group_limit=0").status == 400
    rules = server.get("/api/v1/rules?exclude_alerts=true&type=alert").data["groups"][0]["rules"]
    assert rules[0]["alerts"] is None


def test_many_reloads_and_concurrent_rules(stage, target):
    """Groups come, change and go while they are evaluated; nothing is lost, and no evaluation is torn."""
    folder = stage.folder_for("rules")
    target.text = "m 1\n"

    def rules(n):
        return "groups:\n" + "".join(
            f"- name: g{g}\n  interval: 100ms\n  rules:\n" + "".join(
                f"  - {{record: 'r{g}:{i}', expr: {'m' if i % 3 else f'r{g}:{i - 1} + m' if i else 'm'}}}\n" for i in range(6))
            + f"  - {{alert: A{g}, expr: m > {n % 2}}}\n" for g in range(n))

    write(folder, "r.yml", rules(6))
    server = stage.server(config(target, folder), flags=["--enable-feature=concurrent-rule-eval"])
    for n in (3, 8, 1, 6, 0, 7):
        write(folder, "r.yml", rules(n))
        assert server.reload().status == 200
        harness.wait_for("the groups", lambda: len(server.get("/api/v1/rules").data["groups"]) == n, timeout=20)
        time.sleep(0.3)
    harness.wait_for("all rules", lambda: all(
        r["health"] == "ok" for g in server.get("/api/v1/rules").data["groups"] for r in g["rules"]), timeout=20)
    harness.wait_for("results", lambda: server.vector("r0:3") and list(server.vector("r6:3").values()) == ["2"],
                     timeout=20)


@pytest.mark.parametrize("limit, threads", [("2", (1, 2)), ("0", (0,)), ("-1", (0,))])
def test_so_many_rules_are_evaluated_beside_their_groups(stage, limit, threads):
    """Each such rule has a thread, and none is made for nothing."""
    folder = stage.folder_for("rules")
    write(folder, "r.yml", "groups:\n- name: g\n  interval: 100ms\n  rules:\n" + "".join(
        f"  - {{record: 'r{i}', expr: 'max_over_time(vector(time())[10s:1ms])'}}\n" for i in range(8)))
    server = stage.server(json.dumps({"rule_files": [f"{folder}/*.yml"]}),
                          flags=["--enable-feature=concurrent-rule-eval", f"--rules.max-concurrent-evals={limit}"])

    def rounds():
        group = server.get("/metrics").text.split("prometheus_rule_group_iterations_total{", 1)[1]
        return float(group.split("\n", 1)[0].rsplit(" ", 1)[1])

    harness.wait_for("evaluations", lambda: rounds() >= 5, timeout=20)
    names = [open(f"/proc/{server.pid}/task/{t}/comm").read().strip() for t in os.listdir(f"/proc/{server.pid}/task")]
    assert len([n for n in names if n.startswith("rule-")]) in threads, names
    assert len(server.vector('{__name__=~"r."}')) == 8
