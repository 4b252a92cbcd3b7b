"""Alerts out: to real Alertmanagers, beside the reference with the same rules over the same target."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

import harness
from alertmanagers import Alertmanager, Receiver, seconds
from served import Target

# Values are remembered: a scrape that comes late under load is no reason for an alert to end.
RULES = """groups:
- name: g
  interval: 500ms
  rules:
  - alert: High
    expr: last_over_time(m[1h]) > 5
    for: 1s
    labels: {severity: '{{ if gt $value 8.0 }}bad{{ else }}warn{{ end }}', secret: x}
    annotations: {summary: '{{ $labels.l }} on {{ $externalLabels.site }} is <{{ $value }}> & "more"', none: '{{ $labels.none }}'}
  - {alert: Hidden, expr: 'last_over_time(m[1h]) > 5'}
  - {alert: Always, expr: 'vector(1)', labels: {team: own}}
"""
RESEND = 1.0
URL = "http://prom.example:1/x"


@pytest.fixture
def receivers():
    made = []

    def make():
        made.append(Receiver())
        return made[-1]

    yield make
    for r in made:
        r.close()


@pytest.fixture
def target():
    t = Target()
    yield t
    t.close()


def section(address, **more):
    return {"static_configs": [{"targets": [address]}], **more}


def write_rules(folder, text):
    path = os.path.join(str(folder), "rules.yml")
    with open(path, "w") as f:
        f.write(text)
    return path


def config(rules, *sections, target=None, relabel=(), labels=None):
    return {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms",
                   "external_labels": labels or {}},
        "rule_files": [rules],
        "alerting": {"alert_relabel_configs": list(relabel), "alertmanagers": list(sections)},
        "scrape_configs": [{"job_name": "t", "static_configs": [{"targets": [target.address]}]}] if target else [],
    }


def counters(server):
    """{(name without prefix, URL): value} of what is told of Alertmanagers."""
    text = server.get("/metrics").text
    return {(m[1], m[2]): float(m[3]) for m in
            re.finditer(r'^prometheus_notifications_(\w+)\{alertmanager="([^"]*)"\} (\S+)$', text, re.M)}


def urls(server):
    got = server.get("/api/v1/alertmanagers").data
    return [a["url"] for a in got["activeAlertmanagers"]], [a["url"] for a in got["droppedAlertmanagers"]]


def plain(alerts):
    """What must be the same of both."""
    return {k: (a["annotations"], a["generatorURL"], a["status"]["state"]) for k, a in alerts.items()}


def test_the_same_alerts_as_the_reference(stage, receivers, target):
    hooks = receivers(), receivers()
    ams = [Alertmanager(stage, f"am{i}", hook) for i, hook in enumerate(hooks)]
    target.text = 'm{l="a"} 1\nm{l="b"} 1\n'
    rules = write_rules(stage.folder, RULES)
    relabel = [{"source_labels": ["alertname"], "regex": "Hidden", "action": "drop"},
               {"source_labels": ["site"], "target_label": "via", "replacement": "$1-relabelled"},
               {"regex": "secret", "action": "labeldrop"}]
    labels = {"site": "here", "team": "ext"}
    flags = [f"--rules.alert.resend-delay={RESEND:.0f}s", f"--web.external-url={URL}", "--web.route-prefix=/"]
    ours, theirs = [start(config(rules, section(am.address, path_prefix="/"), target=target, relabel=relabel, labels=labels), flags=flags)
                    for start, am in zip((stage.server, stage.reference), ams)]

    def agree(what, names, timeout=20):
        def probe():
            got, want = [a.alerts() for a in ams]
            assert plain(got) == plain(want)
            return sorted(dict(k)["alertname"] + dict(k).get("l", "") for k in got) == names and (got, want)

        return harness.wait_for(what, probe, timeout=timeout, every=0.1)

    agree("what always fires", ["Always"])
    changed = time.time()
    target.text = 'm{l="a"} 7\nm{l="b"} 1\n'
    got, want = agree("High of a", ["Always", "Higha"])
    key = next(k for k in got if dict(k)["alertname"] == "High")
    assert dict(key) == {"alertname": "High", "instance": target.address, "job": "t", "l": "a", "severity": "warn",
                         "site": "here", "team": "ext", "via": "here-relabelled"}
    assert got[key]["annotations"] == {"summary": 'a on here is <7> & "more"'} | (
        {"none": ""} if "none" in got[key]["annotations"] else {})
    for alerts in (got, want):  # a scrape's interval, the rule's `for`, a group's interval; a scrape may have begun before
        assert 0.5 <= seconds(alerts[key]["startsAt"]) - changed <= 6
    assert abs(seconds(got[key]["startsAt"]) - seconds(want[key]["startsAt"])) <= 2.1
    # It is good for four resends from the evaluation that sent it.
    assert 2.0 <= seconds(got[key]["endsAt"]) - seconds(got[key]["updatedAt"]) <= 4.1
    starts = [a[key]["startsAt"] for a in (got, want)]

    ended = time.time()
    target.text = 'm{l="a"} 1\nm{l="b"} 9\n'
    agree("High of b instead", ["Always", "Highb"])

    def resolved(hook):
        return [a for a in hook.alerts() if a["status"] == "resolved" and a["labels"] == dict(key)]

    ends = []
    for hook, start in zip(hooks, starts):
        alert = harness.wait_for("the resolved notice", lambda: resolved(hook))[0]
        assert seconds(alert["startsAt"]) == seconds(start)
        ends.append(seconds(alert["endsAt"]))
    assert abs(ends[0] - ends[1]) <= 2.1
    assert all(0 <= end - ended <= 5 for end in ends)
    assert not [a for hook in hooks for a in hook.alerts() if a["labels"]["alertname"] == "Hidden"]
    assert urls(ours) == ([f"http://{ams[0].address}/api/v2/alerts"], [])
    assert urls(theirs) == ([f"http://{ams[1].address}/api/v2/alerts"], [])
    numbers = counters(ours)
    url = f"http://{ams[0].address}/api/v2/alerts"
    assert numbers["sent_total", url] >= 4 and numbers["errors_total", url] == numbers["dropped_total", url] == 0
    types = {m[1]: m[2] for m in re.finditer(r"^# TYPE (prometheus_notifications_\w+) (\w+)$", theirs.get("/metrics").text, re.M)}
    text = ours.get("/metrics").text
    assert types
    for name, kind in types.items():
        assert f"# TYPE {name} {kind}\n" in text


def certificates(folder):
    """A CA, and a certificate of it for 127.0.0.1 and localhost."""
    script = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca-key.pem -out ca.pem -days 10 -subj /CN=ca
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out csr.pem -subj /CN=am
printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\\n' >san
openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 10 -extfile san -out cert.pem
"""
    subprocess.run(["bash", "-ec", script], cwd=folder, check=True, capture_output=True)


SECRET = "$2y$04$CCNPY4UIsXbe/drqlnu8me3fDLZTSFfg.GNWuJ1BzpS/lmqxERbSS"  # "secret" by bcrypt


def test_tls_passwords_and_a_prefix(stage, receivers):
    folder = stage.folder_for("tls")
    certificates(folder)
    web = {"tls_server_config": {"cert_file": f"{folder}/cert.pem", "key_file": f"{folder}/key.pem"},
           "basic_auth_users": {"prom": SECRET}}
    hook = receivers()
    am = Alertmanager(stage, hook=hook, web_config=web, prefix="/am", ready=lambda: True)
    harness.wait_for("the Alertmanager", lambda: harness.port_open(am.port))
    ca, auth = {"ca_file": "tls/ca.pem"}, {"username": "prom", "password_file": "password"}
    with open(os.path.join(stage.folder, "password"), "w") as f:
        f.write("secret\n")
    server = stage.server(config(
        write_rules(stage.folder, "groups:\n- name: g\n  rules:\n  - {alert: Up, expr: vector(1)}\n"),
        section(am.address, scheme="https", path_prefix="/am/", tls_config=ca, basic_auth=auth),
        section(f"localhost:{am.port}", scheme="https", path_prefix="/am/", tls_config=ca, basic_auth={**auth, "username": "x"}),
        section(am.address, scheme="https", path_prefix="/am/other", tls_config={**ca, "server_name": "other"}, basic_auth=auth),
    ), flags=["--rules.alert.resend-delay=1s"])
    good, bad, wrong = (f"https://{am.address}/am/api/v2/alerts", f"https://localhost:{am.port}/am/api/v2/alerts",
                        f"https://{am.address}/am/other/api/v2/alerts")
    assert urls(server) == ([good, bad, wrong], [])
    harness.wait_for("the alert", lambda: [a["labels"] for a in hook.alerts()] == [{"alertname": "Up"}])

    def all_tried():
        n = counters(server)
        return n["sent_total", good] and n["errors_total", bad] and n["errors_total", wrong]

    harness.wait_for("all to be tried", all_tried)
    n = counters(server)
    assert n["errors_total", good] == n["sent_total", bad] == n["sent_total", wrong] == 0
    assert n["dropped_total", bad] == n["errors_total", bad]
    log = server.log()
    assert re.search(rf'msg="Error sending alerts" component=notifier alertmanager={re.escape(bad)} count=1 '
                     r'err="bad response status 401 Unauthorized"', log), log
    assert re.search(rf'alertmanager={re.escape(wrong)} count=1 err="Post .*certificate', log), log


def test_one_token_serves_many_requests(stage, receivers):
    tokens, am = receivers(), receivers()
    tokens.reply = b'{"access_token": "t1", "token_type": "Bearer", "expires_in": 3600}'
    oauth2 = {"client_id": "id", "client_secret": "s", "token_url": f"http://{tokens.address}/token", "scopes": ["a"]}
    server = stage.server(config(write_rules(stage.folder, "groups:\n- name: g\n  rules:\n  - {alert: Up, expr: vector(1)}\n"),
                                 section(am.address, oauth2=oauth2)), flags=["--rules.alert.resend-delay=500ms"])
    harness.wait_for("three requests", lambda: len(am.posts) >= 3)
    assert {headers["Authorization"] for _, headers, _ in am.posts} == {"Bearer t1"}
    assert [(path, body) for path, _, body in tokens.posts] == [("/token", "grant_type=client_credentials&scope=a")]
    assert not counters(server)["errors_total", f"http://{am.address}/api/v2/alerts"]


MANY = "groups:\n- name: g\n  rules:\n  - {alert: One, expr: vector(1)}\n  - {alert: Many, expr: 'last_over_time(m[1h])'}\n"


def batches(receiver):
    return [sorted(a["labels"].get("l", "") for a in body) for _, _, body in list(receiver.posts)]


def test_a_full_queue_a_dead_neighbour_and_a_drain(stage, receivers, target):
    """Held back by its only receiver that is up, the queue overflows; a stop sends what is left."""
    slow, quick, dead = receivers(), receivers(), harness.free_port()
    target.text = ""
    slow.open.clear()
    server = stage.server(config(write_rules(stage.folder, MANY), section(slow.address, timeout="1m"), section(quick.address),
                                 section(f"127.0.0.1:{dead}"), target=target),
                          flags=["--rules.alert.resend-delay=1h", "--alertmanager.notification-queue-capacity=5",
                                 "--alertmanager.notification-batch-size=2"])
    slow_url, quick_url, dead_url = urls(server)[0]
    harness.wait_for("the first alert", lambda: slow.posts and quick.posts and counters(server)["errors_total", dead_url])
    assert batches(slow) == batches(quick) == [[""]]
    target.text = "".join(f'm{{l="{i}"}} 1\n' for i in range(8))
    harness.wait_for("an overflow", lambda: counters(server)["dropped_total", slow_url] == 3)
    assert counters(server)["queue_length", slow_url] == 5
    harness.wait_for("the neighbour", lambda: len(quick.alerts()) + counters(server)["dropped_total", quick_url] == 9)
    assert all(len(b) <= 2 for b in batches(quick))
    assert counters(server)["errors_total", dead_url] + counters(server)["queue_length", dead_url] <= 9
    assert "queue_capacity 5\n" in server.get("/metrics").text
    server.send(signal.SIGTERM)
    time.sleep(0.5)
    assert server.alive()  # it waits for what is under way
    slow.open.set()
    assert server.stop() == 0
    assert [len(b) for b in batches(slow)] == [1, 2, 2, 1]
    assert sorted(sum(batches(slow)[1:], [])) == sorted(set(a["labels"]["l"] for a in slow.alerts()[1:]))
    assert slow.posts[0][0] == "/api/v2/alerts" and slow.posts[0][1]["User-Agent"].startswith("Narthex/")


def test_a_stop_without_drain_waits_for_nobody(stage, receivers):
    slow = receivers()
    slow.open.clear()
    server = stage.server(config(write_rules(stage.folder, MANY), section(slow.address, timeout="1h")),
                          flags=["--no-alertmanager.drain-notification-queue-on-shutdown"])
    harness.wait_for("the first alert", lambda: slow.posts)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10


def test_reloads_files_and_relabelling(stage, receivers):
    static, found = receivers(), receivers()
    rules = write_rules(stage.folder, "groups:\n- name: g\n  rules:\n  - {alert: Up, expr: vector(1)}\n")
    sd = {"file_sd_configs": [{"files": ["am.yml"]}],
          "relabel_configs": [{"source_labels": ["path"], "regex": "(.+)", "target_label": "__alerts_path__"},
                              {"source_labels": ["off"], "regex": ".+", "action": "drop"}],
          "alert_relabel_configs": [{"target_label": "via", "replacement": "file"}]}
    server = stage.server(config(rules, section(static.address)), flags=["--rules.alert.resend-delay=1s"])
    static_url = f"http://{static.address}/api/v2/alerts"
    harness.wait_for("the alert", lambda: counters(server)["sent_total", static_url])
    sent = counters(server)["sent_total", static_url]
    with open(os.path.join(stage.folder, "am.yml"), "w") as f:
        f.write(json.dumps([{"targets": [found.address], "labels": {"path": "/p q"}},
                            {"targets": ["127.0.0.1:1"], "labels": {"off": "1"}}]))
    server.write_config(config(rules, section(static.address), sd))
    assert server.reload().status == 200
    found_url = f"http://{found.address}/p%20q"
    assert urls(server) == ([static_url, found_url], ["http://127.0.0.1:1/api/v2/alerts"])
    assert counters(server)["sent_total", static_url] >= sent  # it says the same, so it was kept
    harness.wait_for("the alert", lambda: found.posts)
    assert found.posts[0][0] == "/p%20q"
    assert found.alerts()[0]["labels"] == {"alertname": "Up", "via": "file"}
    assert static.alerts()[-1]["labels"] == {"alertname": "Up"}
    targets = {m[1]: m[2] for m in re.finditer(r'^prometheus_sd_discovered_targets\{config="([^"]*)",name="notify"\} (\d+)$',
                                               server.get("/metrics").text, re.M)}
    assert targets == {"config-0": "1", "config-1": "2"}
    with open(os.path.join(stage.folder, "am.yml.new"), "w") as f:
        f.write(json.dumps([{"targets": [found.address, found.address]}]))
    os.replace(os.path.join(stage.folder, "am.yml.new"), os.path.join(stage.folder, "am.yml"))
    harness.wait_for("the new path", lambda: urls(server) == ([static_url, f"http://{found.address}/api/v2/alerts"], []))
    assert ("sent_total", found_url) not in counters(server)
    server.write_config(config(rules))
    assert server.reload().status == 200
    assert urls(server) == ([], [])
    assert not counters(server)
