"""Hundreds of rules in the shape of those that people share, over the same data here and in the reference: every
recorded sample, every alert with its labels and annotations must be the same.

SHAPE  The data (collectiondata.py) ends at the moment both start, and lies in blocks. A group's moments follow from a
       hash of its file and name, which Prometheus 2 makes of other bytes than Prometheus 3 and Narthex. So each group
       gets a number behind its name with which both hashes come to the same millisecond. Then what was recorded at a
       time can be compared sample by sample, and alerts when both have just evaluated the same moment. Alerts look at
       what their file records: their moments come when that has long been written, and well before it is again.
"""

import glob
import json
import math
import os
import re
import time

import pytest
import yaml

import collectiondata
import harness
import moments

FOLDER = os.path.join(harness.ROOT, "tests/rules/collections")
FILES = sorted(glob.glob(os.path.join(FOLDER, "*.yml")))
NAMES = [os.path.basename(f) for f in FILES]
ROUND = 2  # seconds, the interval of all groups


def placed(folder):
    """Copies of the collections there, with such names."""
    made = []
    for path in FILES:
        to = os.path.join(folder, os.path.basename(path))

        def named(m):
            since = {"records": 0, "alerts": ROUND / 2}[m[1].split(".")[1]]
            return f"- name: {moments.at_one_moment(to, m[1], ROUND, since, since + ROUND / 4)}"

        with open(path) as f:
            text = re.sub(r"- name: (.*)", named, f.read()).replace("for: 10s", "for: 4s")
        with open(to, "w") as f:
            f.write(text)
        made.append(to)
    return made


def test_the_hash():
    assert moments.xxh64(b"") == 0xEF46DB3751D8E999
    assert moments.xxh64(b"abc") == 0x44BC2CF5AD770999
    assert moments.xxh64(b"Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with harness.Stage(tmp_path_factory.mktemp("collections")) as stage:
        rules = placed(stage.folder)
        om = os.path.join(stage.folder, "house.om")
        collectiondata.write(om, time.time())
        made = []
        for binary, name in ((harness.BINARY, "tested"), (harness.PROMETHEUS, "reference")):
            server = harness.Server(binary, stage.folder, {"global": {"evaluation_interval": f"{ROUND}s", "external_labels": {"site": "here"}}, "rule_files": rules},
                                    name=name, flags=["--web.external-url=http://prom.example/"])
            made.append(server)
            r = harness.run_tool(binary, "tsdb", "create-blocks-from", "openmetrics", om, server.data)
            assert r.returncode == 0, r.stderr
        os.unlink(om)
        for server in made:
            stage.run(server, wait=False)
        for server in made:
            server.wait_ready()
        # One may have been ready for a moment that the other was not: then `for` ends later there.
        harness.wait_for("rounds for four seconds, and one", lambda: min(map(rounds, made)) >= 4, 60, 0.2)
        yield made


def rounds(server):
    """How often the group that was evaluated least was."""
    text = server.get("/metrics").text
    return min(float(line.split()[-1]) for line in text.splitlines() if line.startswith("prometheus_rule_group_iterations_total{"))


def groups_of(server, file):
    return {g["name"]: g for g in server.get("/api/v1/rules").data["groups"] if os.path.basename(g["file"]) == file}


def at_rest(servers, file):
    """The groups of both, right after both evaluated the same moments."""
    def both():
        got = [groups_of(s, file) for s in servers]
        for name, group in got[0].items():
            other = got[1][name]
            t, u = (harness_seconds(g["lastEvaluation"]) for g in (group, other))
            if abs(t - u) > ROUND / 2 or time.time() - min(t, u) > ROUND - 0.7:
                return None
        return got
    return harness.wait_for(f"{file} to be evaluated by both at a time", both, 40, 0.1)


def harness_seconds(text):
    from alertmanagers import seconds
    return seconds(text)


NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


class Near:
    """A text that equals another with the same words and numbers, but for the last digits of those that are not whole:
    Prometheus 3 adds up with a compensation that 2 has not."""

    def __init__(self, text):
        self.text, self.words, self.numbers = text, NUMBER.sub("#", text), NUMBER.findall(text)

    def __eq__(self, other):
        return self.words == other.words and all(
            a == b or not (a + b).isdigit() and math.isclose(float(a), float(b), rel_tol=1e-11) for a, b in zip(self.numbers, other.numbers))

    def __repr__(self):
        return repr(self.text)


def plain(rule):
    """Without times, and alerts by their labels. Numbers in expressions are written otherwise by Prometheus 2."""
    kept = {k: rule.get(k) for k in ("name", "health", "lastError", "type", "annotations", "duration", "state")}
    kept["labels"] = rule.get("labels") or {}
    kept["query"] = re.sub(r"\b\d+(\.\d+)?(e[+-]?\d+)?\b", lambda m: repr(float(m[0])), rule["query"])
    if "alerts" in rule:
        kept["alerts"] = {harness.labels_key(a["labels"]): (a["state"], Near(a["value"]), {k: Near(v) for k, v in a["annotations"].items()})
                          for a in rule["alerts"]}
    return kept


def test_there_are_hundreds(servers):
    rules = [r for g in servers[0].get("/api/v1/rules").data["groups"] for r in g["rules"]]
    assert len(rules) >= 250
    firing = sum(r.get("state") == "firing" for r in rules)
    quiet = sum(r.get("state") == "inactive" for r in rules)
    assert firing >= 100 and quiet >= 20, (firing, quiet)  # else the house has too little or too much trouble


@pytest.mark.parametrize("file", NAMES)
def test_rules_and_alerts_are_the_same(servers, file):
    ours, theirs = at_rest(servers, file)
    assert ours.keys() == theirs.keys()
    for name in ours:
        for a, b in zip(ours[name]["rules"], theirs[name]["rules"], strict=True):
            assert plain(a) == plain(b), f"{file}: {a['name']}"
            assert a["health"] == "ok", a


@pytest.mark.parametrize("file", NAMES)
def test_what_is_recorded_is_the_same(servers, file):
    names = [r["name"] for g in groups_of(servers[0], file).values() for r in g["rules"] if r["type"] == "recording"]
    assert names
    for name in names:
        ours, theirs = ({harness.labels_key(s["metric"]): dict(s["values"]) for s in
                         server.query(f'{{__name__="{name}"}}[1m]')["result"]} for server in servers)
        assert ours.keys() == theirs.keys(), name
        for key, samples in ours.items():
            both = samples.keys() & theirs[key].keys()
            assert len(both) >= 2, (name, key, samples, theirs[key])
            assert {t: Near(samples[t]) for t in both} == {t: Near(theirs[key][t]) for t in both}, (name, key)


@pytest.mark.parametrize("file", NAMES)
def test_alerts_are_recorded_the_same(servers, file):
    names = "|".join({r["name"] for g in groups_of(servers[0], file).values() for r in g["rules"] if r["type"] == "alerting"})

    def same():
        at_rest(servers, file)
        now = time.time()
        ours, theirs = (server.vector(f'ALERTS{{alertname=~"{names}",alertstate="firing"}}', now) for server in servers)
        assert ours == theirs and ours

    harness.settles(same)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_both_tools_find_them_right(path):
    said = [harness.run_tool(b, "check", "rules", path) for b in (harness.BINARY, harness.PROMETHEUS)]
    assert [r.returncode for r in said] == [0, 0]
    assert said[0].stdout == said[1].stdout and "SUCCESS" in said[0].stdout


def unit_tests(path):
    """A file of tests that nobody passes: alerts that are not there, records that are none. What was got instead is told."""
    house = collectiondata.House(1_700_000_000)
    collectiondata.fill(house)
    with open(path) as f:
        groups = yaml.safe_load(f)["groups"]
    rules = [r for g in groups for r in g["rules"]]
    words = set(re.findall(r"[a-zA-Z_:0-9]+", " ".join(r["expr"] for r in rules)))
    # Samples lie so that no window of an evaluation begins at one: Prometheus 2 takes it and 3 does not. Without an
    # order of groups promtool evaluates them in that of a Go map, and an alert may see the record of a minute ago.
    return {"rule_files": [path], "evaluation_interval": "1m", "group_eval_order": [g["name"] for g in groups], "tests": [{
        "interval": "37s", "external_labels": {"site": "here"},
        "input_series": [{"series": s, "values": " ".join(v[-66:])} for s, v in house.values() if s.split("{")[0] in words],
        "alert_rule_test": [{"eval_time": t, "alertname": r["alert"], "exp_alerts": []} for r in rules if "alert" in r for t in ("12m", "40m")],
        "promql_expr_test": [{"expr": r["record"], "eval_time": "40m", "exp_samples": [{"labels": "none", "value": 1}]} for r in rules if "record" in r]}]}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_unit_tests_get_the_same(path, tmp_path):
    test = tmp_path / "test.yml"
    test.write_text(json.dumps(unit_tests(path)))
    ours, theirs = (harness.run_tool(b, "test", "rules", str(test)) for b in (harness.BINARY, harness.PROMETHEUS))
    assert ours.returncode == theirs.returncode == 1 and ours.stdout == theirs.stdout
    said = [list(map(Near, r.stderr.splitlines())) for r in (ours, theirs)]
    assert said[0] == said[1] and len(said[0]) > 200
