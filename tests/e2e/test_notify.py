"""Direct notification: rules fire, and receivers that speak each service's format hear of it; mail goes to a real SMTP server."""

import email
import email.header
import email.policy
import json
import re
import socket
import ssl
import subprocess
import time

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

import harness
import served
from alertmanagers import Receiver

pytestmark = pytest.mark.skipif(harness.IS_REFERENCE, reason="not in Prometheus")


class Fake(served.Served):
    """Takes POSTs, by path: (path, headers, JSON). `codes` are answered first, then 200."""

    def __init__(self):
        self.posts, self.codes = [], []
        self.answers = {}  # path: (code, headers, body), for good
        self.asked = []  # (path, when): of all, answered well or not
        super().__init__()
        self.url = f"http://{self.address}"

    def post(self, request):
        body = json.loads(self.body(request))
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["User-Agent"].startswith("Narthex/")
        code, headers, text = self.answers.get(request.path) or (self.codes.pop(0) if self.codes else 200, {}, b"ok")
        self.asked.append((request.path, time.monotonic()))
        if code == 200:
            self.posts.append((request.path, dict(request.headers), body))
        self.send(request, code, text, headers)

    def at(self, path, n, timeout=15):
        """The n-th post (from 1) to a path, when it is there."""
        def found():
            got = [p for p in list(self.posts) if p[0] == path]
            return len(got) >= n and got[n - 1]
        return harness.wait_for(f"post {n} to {path}", found, timeout)

    def count(self, path):
        return sum(p[0] == path for p in list(self.posts))


class Gauges(served.Served):
    """A target whose values the test sets."""

    def __init__(self):
        self.values = {}
        super().__init__()

    def get(self, request):
        body = "".join(f'level{{which="{k}"}} {v}\n' for k, v in self.values.items())
        self.send(request, body=body.encode(), headers=served.EXPOSITION)


@pytest.fixture
def fake():
    f = Fake()
    yield f
    f.close()


@pytest.fixture
def gauges():
    g = Gauges()
    yield g
    g.close()


class TlsFirst(Controller):
    """Its own first connection, to see that it is up, needs no certificate."""

    def _trigger_server(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((self.hostname, self.port), 5) as s, context.wrap_socket(s) as tls:
            tls.recv(1024)


class Mailbox:
    def __init__(self):
        self.mails = []  # (from, to, the message as parsed, and as it came)
        self.greetings = []
        self.logins = []
        self.tls = []

    async def handle_DATA(self, server, session, envelope):
        self.tls.append(session.ssl is not None)
        self.greetings.append(session.host_name)
        self.mails.append((envelope.mail_from, envelope.rcpt_tos,
                           email.message_from_bytes(envelope.content, policy=email.policy.SMTP), envelope.content))
        return "250 OK"

    def authenticate(self, server, session, envelope, mechanism, data):
        login = (data.login.decode(), data.password.decode())
        self.logins.append(login)
        return AuthResult(success=login == ("narthex", "pass word"), handled=login == ("narthex", "pass word"))


@pytest.fixture
def smtp():
    running = []

    def start(**kw):
        box = Mailbox()
        if kw.pop("login", False):
            kw.update(authenticator=box.authenticate, auth_required=True)
        c = Controller(box, hostname="127.0.0.1", port=harness.free_port(), ready_timeout=30, **kw)
        c.start()
        running.append(c)
        box.address = f"127.0.0.1:{c.port}"
        return box

    yield start
    for c in running:
        c.stop()


RULES = {"groups": [{"name": "g", "interval": "200ms", "rules": [
    {"alert": "High", "expr": "level > 5", "labels": {"severity": '{{ if gt $value 50.0 }}page{{ else }}warn{{ end }}'},
     "annotations": {"summary": "level of {{ $labels.which }} is \"high\" \u00fc", "description": "<b>{{ $value }}</b>"}}]}]}


def config(stage, gauges):
    with open(f"{stage.folder}/rules.yml", "w") as f:
        json.dump(RULES, f)
    # a scrape that fails, or an alert that nobody confirms in time, on a busy machine would end alerts that the tests want to fire
    return {"global": {"scrape_interval": "1s", "scrape_timeout": "1s", "external_labels": {"site": "s1"}},
            "rule_files": [f"{stage.folder}/rules.yml"],
            "scrape_configs": [{"job_name": "j", "static_configs": [{"targets": [gauges.address]}]}]}


def notify_file(stage, receivers, silences=(), name="notify.yml", templates=()):
    path = f"{stage.folder}/{name}"
    with open(path, "w") as f:
        json.dump({"notify": {"external_url": "http://mon.example", "receivers": receivers, "silences": list(silences),
                              "templates": list(templates)}}, f)
    return path


FLAGS = ["--rules.alert.resend-delay=1s", "--rules.alert.for-grace-period=1s", "--log.level=debug"]
FAST = {"group_wait": "300ms", "group_interval": "500ms", "send_resolved": True}


def serve(stage, gauges, path, **kw):
    return stage.server(config(stage, gauges), flags=[f"--notify.file={path}", *FLAGS], **kw)


def metric(server, name, **labels):
    want = "{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}" if labels else ""
    for line in server.get("/metrics").text.splitlines():
        if line.startswith(f"narthex_notify_{name}{want} "):
            return float(line.split()[-1])
    return None


def only(got, *keys):
    assert set(got) == set(keys), sorted(got)


def check_webhook(first, last):
    for body, status in ((first, "firing"), (last, "resolved")):
        only(body, "receiver", "status", "alerts", "groupLabels", "commonLabels", "commonAnnotations", "externalURL", "version", "groupKey",
             "truncatedAlerts")
        assert (body["version"], body["receiver"], body["status"], body["truncatedAlerts"]) == ("4", "webhook", status, 0)
        assert body["externalURL"] == "http://mon.example"
        assert body["groupLabels"] == {"alertname": "High"}
        assert body["groupKey"] == '{}/{severity=~"warn|page"}:{alertname="High"}'
        (alert,) = body["alerts"]
        only(alert, "status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint")
        assert alert["labels"] == body["commonLabels"]
        assert alert["labels"] == {"alertname": "High", "instance": alert["labels"]["instance"], "job": "j", "severity": "warn", "site": "s1", "which": "a"}
        assert alert["annotations"]["summary"] == 'level of a is "high" \u00fc'
        assert re.fullmatch(r"[0-9a-f]{16}", alert["fingerprint"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", alert["startsAt"])
        assert "/graph?g0.expr=level" in alert["generatorURL"]
        assert (alert["endsAt"] == "0001-01-01T00:00:00Z") == (status == "firing")


def check_chats(fake):
    slack = [fake.at("/slack", n)[2] for n in (1, 2)]
    for body, word, color in zip(slack, ("FIRING:1", "RESOLVED"), ("danger", "good")):
        only(body, "channel", "username", "attachments")
        (a,) = body["attachments"]
        only(a, "title", "title_link", "text", "fallback", "color", "mrkdwn_in")
        assert (body["channel"], a["color"], a["title_link"]) == ("#ops", color, "http://mon.example")
        assert a["title"] == f'[{word}] High: level of a is "high" \u00fc'
    teams = fake.at("/teams", 1)[2]
    only(teams, "type", "attachments")
    (a,) = teams["attachments"]
    assert (teams["type"], a["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    card = a["content"]
    assert (card["type"], card["version"], card["$schema"]) == ("AdaptiveCard", "1.4", "http://adaptivecards.io/schemas/adaptive-card.json")
    assert [b["type"] for b in card["body"]] == ["TextBlock", "TextBlock"] and all(b["wrap"] is True for b in card["body"])
    assert fake.at("/teams", 2)[2]["attachments"][0]["content"]["body"][0]["color"] == "Good"
    discord = fake.at("/discord", 1)[2]
    only(discord, "embeds", "content")
    (e,) = discord["embeds"]
    only(e, "title", "description", "color")
    assert discord["content"] == "firing!" and isinstance(e["color"], int) and "which=a" in e["description"]


def check_pagers(fake):
    events = [fake.at("/pagerduty", n)[2] for n in (1, 2)]
    assert [e["event_action"] for e in events] == ["trigger", "resolve"]
    assert events[0]["dedup_key"] == events[1]["dedup_key"] and re.fullmatch(r"[0-9a-f]{64}", events[0]["dedup_key"])
    for e in events:
        only(e, "routing_key", "event_action", "dedup_key", "client", "client_url", "payload")
        only(e["payload"], "summary", "source", "severity", "custom_details")
        assert e["routing_key"] == "R-SECRET" and e["payload"]["severity"] == "warning"
        only(e["payload"]["custom_details"], "firing", "resolved", "num_firing", "num_resolved")
    assert events[0]["payload"]["custom_details"]["num_firing"] == "1"
    path, headers, body = fake.at("/", 1)  # ntfy
    only(body, "topic", "title", "message", "priority", "tags", "click")
    assert (headers["Authorization"], body["topic"], body["priority"], body["tags"]) == ("Bearer N-SECRET", "my-topic", 4, ["rotating_light"])
    assert fake.at("/", 2)[2]["priority"] == 3


def test_every_service(stage, fake, gauges, smtp):
    box = smtp()
    for name, text in (("slack-url", f"{fake.url}/slack\n"), ("key", "R-SECRET\n")):
        with open(f"{stage.folder}/{name}", "w") as f:
            f.write(text)
    via = {
        "webhook": {"url": f"{fake.url}/hook?t=W-SECRET", "http_config": {"basic_auth": {"username": "u", "password": "P-SECRET"}}},
        "slack": {"api_url_file": "slack-url", "channel": "#ops"},
        "teams": {"webhook_url": f"{fake.url}/teams"},
        "discord": {"webhook_url": f"{fake.url}/discord", "content": "{{ .Status }}!"},
        "pagerduty": {"routing_key_file": "key", "url": f"{fake.url}/pagerduty", "severity": '{{ if eq .CommonLabels.severity "warn" }}warning{{ end }}'},
        "ntfy": {"url": f"{fake.url}/my-topic", "token": "N-SECRET"},
        "email": {"to": "Öps <ops@example.com>, dev@example.com", "from": "Narthex <narthex@example.com>", "smarthost": box.address,
                  "require_tls": False, "hello": "mon.example", "headers": {"X-Which": "{{ .CommonLabels.which }}"}},
    }
    receivers = [{"name": k, **FAST, "group_by": ["alertname"], "matchers": ['severity=~"warn|page"'], k: v} for k, v in via.items()]
    gauges.values = {"a": 7}
    server = serve(stage, gauges, notify_file(stage, receivers))
    fake.at("/hook?t=W-SECRET", 1)
    for path in ("/slack", "/teams", "/discord", "/pagerduty", "/"):
        fake.at(path, 1)
    harness.wait_for("a mail", lambda: box.mails)
    gauges.values = {"a": 1}
    first, last = (fake.at("/hook?t=W-SECRET", n) for n in (1, 2))
    assert first[1]["Authorization"] == "Basic dTpQLVNFQ1JFVA=="
    check_webhook(first[2], last[2])
    check_chats(fake)
    check_pagers(fake)
    harness.wait_for("two mails", lambda: len(box.mails) == 2)
    assert box.greetings == ["mon.example", "mon.example"]
    sender, to, mail, raw = box.mails[0]
    assert max(len(line) for line in raw.split(b"\r\n")) <= 90 and b"\n" not in raw.replace(b"\r\n", b"")
    assert (sender, to) == ("narthex@example.com", ["ops@example.com", "dev@example.com"])
    assert mail["Subject"] == '[FIRING:1] High: level of a is "high" ü' and mail["X-Which"] == "a"
    assert mail["To"] == "Öps <ops@example.com>, dev@example.com"
    assert mail["From"] == "Narthex <narthex@example.com>"
    assert mail.get_content_type() == "multipart/alternative" and not mail.defects
    assert [p.get_content_type() for p in mail.iter_parts()] == ["text/plain", "text/html"]
    plain, html = (p.get_content() for p in mail.iter_parts())
    assert "which = a" in plain and "<b>7</b>" in plain and "&lt;b&gt;7" in html and "<b>7" not in html
    assert abs(email.utils.parsedate_to_datetime(mail["Date"]).timestamp() - time.time()) < 60
    assert re.fullmatch(r"<[^<>@\s]+@example\.com>", mail["Message-ID"]) and mail["Message-ID"] != box.mails[1][2]["Message-ID"]
    assert box.mails[1][2]["Subject"].startswith("[RESOLVED] High")
    for kind in via:
        harness.wait_for(f"both of {kind}", lambda k=kind: metric(server, "notifications_total", integration=k) == 2)
        assert metric(server, "notifications_failed_total", integration=kind, reason="other") == 0
        assert metric(server, "requests_total", integration=kind) == 2
    harness.wait_for("nothing to be left", lambda: metric(server, "alerts") == 0 and metric(server, "groups") == 0)
    server.stop()
    assert "SECRET" not in server.log()


def certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{folder}/key.pem",
                    "-out", f"{folder}/cert.pem", "-days", "10", "-subj", "/CN=mail", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    return context


def test_mail_by_starttls_and_login(stage, gauges, smtp):
    safe = smtp(tls_context=certificate(stage.folder), require_starttls=True, login=True)
    bare = smtp()
    with open(f"{stage.folder}/password", "w") as f:
        f.write("pass word\n")
    base = {"to": "a@b.example", "from": "n@b.example", "smarthost": safe.address, "auth_username": "narthex"}
    good = {**base, "auth_password_file": "password", "tls_config": {"ca_file": "cert.pem"}}
    ways = {"good": good,
            "wrong": {**good, "auth_password_file": "", "auth_password": "WRONG-SECRET"},
            "untrusted": {**good, "tls_config": {}},
            "bare": {"to": "a@b.example", "from": "n@b.example", "smarthost": bare.address}}
    receivers = [{"name": k, "group_wait": "0s", "group_interval": "1h", "email": v} for k, v in ways.items()]
    gauges.values = {"a": 99}
    server = serve(stage, gauges, notify_file(stage, receivers))
    harness.wait_for("a mail", lambda: safe.mails)
    assert safe.tls == [True] and ("narthex", "pass word") in safe.logins
    harness.wait_for("two that are refused", lambda: sum(
        f"receiver={k} " in line for k in ("wrong", "bare") for line in server.log().splitlines() if "Notification failed" in line and "tried again" not in line) == 2)
    harness.wait_for("one that may pass", lambda: re.search(r"tried again.*receiver=untrusted", server.log()))
    assert not bare.mails and len(safe.mails) == 1  # nothing without the TLS that it requires
    server.stop()
    assert "SECRET" not in server.log() and "pass word" not in server.log()


def test_mail_by_tls_from_the_start(stage, gauges):
    """smtps: the server takes nothing else."""
    box = Mailbox()
    server = TlsFirst(box, hostname="127.0.0.1", port=harness.free_port(), ssl_context=certificate(stage.folder))
    server.start()
    try:
        mail = {"to": "a@b.example", "from": "n@b.example", "smarthost": f"127.0.0.1:{server.port}", "force_implicit_tls": True}
        receivers = [{"name": "good", "email": {**mail, "tls_config": {"ca_file": "cert.pem"}}},
                     {"name": "untrusted", "email": mail}]
        gauges.values = {"a": 99}
        narthex = serve(stage, gauges, notify_file(stage, [{**r, "group_wait": "0s", "group_interval": "1h"} for r in receivers]))
        harness.wait_for("a mail", lambda: box.mails)
        harness.wait_for("one that may pass", lambda: re.search(r"tried again.*receiver=untrusted.*certificate", narthex.log()))
        assert len(box.mails) == 1
    finally:
        server.stop()


def test_oauth2(stage, gauges):
    """A token is asked for before the message; a server of tokens that hangs or refuses holds nobody else up."""
    tokens, hung, refuses, hooks = Receiver(), Receiver(), Receiver(), Receiver()
    try:
        tokens.reply = b'{"access_token": "t1", "token_type": "Bearer", "expires_in": 3600}'
        hung.open.clear()
        refuses.status = 401
        receivers = [{"name": name, **FAST, "group_interval": "1h", "webhook": {"url": f"http://{hooks.address}/{name}", "timeout": "60s", "http_config": {"oauth2": {
            "client_id": "id", "client_secret": "SECRET", "token_url": f"http://{at.address}/token", "scopes": ["a"]}}}}
            for name, at in (("hung", hung), ("refused", refuses), ("good", tokens))]
        gauges.values = {"a": 7}
        server = serve(stage, gauges, notify_file(stage, receivers))
        harness.wait_for("the message", lambda: hooks.posts)
        harness.wait_for("the refusal", lambda: "oauth2: cannot fetch token: server returned HTTP status 401 Unauthorized" in server.log())
        harness.wait_for("the third", lambda: hung.posts)
        assert [(path, headers["Authorization"]) for path, headers, _ in hooks.posts] == [("/good", "Bearer t1")]
        assert [(path, body) for path, _, body in tokens.posts] == [("/token", "grant_type=client_credentials&scope=a")]
        assert [body for _, _, body in refuses.posts[:2]] == [
            "grant_type=client_credentials&scope=a", "grant_type=client_credentials&scope=a&client_id=id&client_secret=SECRET"]
        server.stop()
        assert "SECRET" not in server.log()
    finally:
        for r in (tokens, hung, refuses, hooks):
            r.close()


def test_templates_of_files(stage, fake, gauges):
    with open(f"{stage.folder}/own.tmpl", "w") as f:
        f.write('{{ define "site.title" }}{{ .Status | toUpper }} at {{ .CommonLabels.site }}{{ end }}\n'
                '{{ define "site.text" }}{{ range .Alerts }}{{ template "site.one" . }}{{ end }}{{ end }}\n'
                '{{ define "site.one" }}<{{ .Labels.which }}>{{ end }}\n{{ define "site.bad" }}\n{{ .Nope }}{{ end }}')
    receivers = [{"name": name, **FAST, "slack": {"api_url": f"{fake.url}/{name}", "title": '{{ template "site.title" . }}', "text": text}}
                 for name, text in (("good", '{{ template "site.text" . }}'), ("bad", '{{ template "site.bad" . }}'))]
    path = notify_file(stage, receivers, templates=["own*.tmpl"])
    gauges.values = {"a": 7, "b": 8}
    server = serve(stage, gauges, path)
    shown = fake.at("/good", 1)[2]["attachments"][0]
    assert (shown["title"], shown["text"]) == ("FIRING at s1", "<a><b>")
    assert "template: own.tmpl:5:3: executing \"site.bad\" at <.Nope>" in fake.at("/bad", 1)[2]["attachments"][0]["text"]
    with open(f"{stage.folder}/own2.tmpl", "w") as f:
        f.write("{{ end }}")
    answer = server.reload()
    assert answer.status == 500 and "template: own2.tmpl:1: unexpected {{end}}" in answer.text, answer.text


def test_from_firing_to_resolved(stage, fake, gauges):
    hook = {"name": "hook", "group_by": ["alertname"], **FAST, "webhook": {"url": f"{fake.url}/hook"}}
    path = notify_file(stage, [{**hook, "repeat_interval": "1s"}])
    gauges.values = {"a": 7, "b": 60}
    fake.codes = [503]  # the first try fails
    server = serve(stage, gauges, path)
    which = lambda post: {a["labels"]["which"]: a["status"] for a in post[2]["alerts"]}  # noqa: E731
    assert which(fake.at("/hook", 1)) == {"a": "firing", "b": "firing"}
    assert which(fake.at("/hook", 2)) == {"a": "firing", "b": "firing"}  # repeat_interval
    assert metric(server, "requests_failed_total", integration="webhook") == 1

    # b is silenced, and nothing is repeated any more
    notify_file(stage, [hook], [{"matchers": ["which=b"], "comment": "at work"}])
    assert server.reload().status == 200
    assert metric(server, "alerts_silenced") == 1
    time.sleep(0.5)  # a repetition that was under way has come
    n = fake.count("/hook")
    gauges.values = {"a": 7, "b": 60, "c": 8}
    assert which(fake.at("/hook", n + 1)) == {"a": "firing", "c": "firing"}

    # a crash in between; a ends before the server is back
    harness.wait_for("the state to be written", lambda: '"which":"c"' in open(server.data + "/notify.json").read())
    server.kill()
    n = fake.count("/hook")
    gauges.values = {"b": 60, "c": 8, "a": 1}
    server.start()
    harness.wait_for("rules to speak again", lambda: metric(server, "alerts") == 3)
    assert fake.count("/hook") == n  # c is not told again
    post = fake.at("/hook", n + 1, timeout=20)  # and a, of which no rule speaks any more, is not forgotten
    assert which(post) == {"a": "resolved", "c": "firing"}

    # the silence is taken away, then all ends
    notify_file(stage, [hook])
    assert server.reload().status == 200
    gauges.values = {}
    harness.wait_for("all to be over", lambda: which(fake.posts[-1]) == {"b": "resolved", "c": "resolved"} or which(fake.posts[-1]) == {"b": "resolved"}
                     or which(fake.posts[-1]) == {"c": "resolved"})
    harness.wait_for("nothing to be left", lambda: metric(server, "alerts") == 0)
    ends = {}
    for post in fake.posts:
        ends.update(which(post))
    assert ends == {"a": "resolved", "b": "resolved", "c": "resolved"}


def test_what_services_answer(stage, fake, gauges):
    """A 200 that is a no, a wait that is asked for, a final no, and nothing."""
    fake.answers = {"/slack": (200, {"Content-Type": "application/json"}, b'{"ok":false,"error":"channel_not_found"}'),
                    "/later": (429, {"Retry-After": "3"}, b"slow down"),
                    "/gone": (404, {}, b"no such\nhook")}
    slow = {"group_wait": "0s", "group_interval": "1h"}
    receivers = [{"name": "chat", **slow, "slack": {"api_url": f"{fake.url}/slack"}},
                 {"name": "later", **slow, "discord": {"webhook_url": f"{fake.url}/later"}},
                 {"name": "gone", **slow, "teams": {"webhook_url": f"{fake.url}/gone"}},
                 {"name": "dead", **slow, "webhook": {"url": f"http://127.0.0.1:{harness.free_port()}/SECRET"}}]
    gauges.values = {"a": 7}
    server = serve(stage, gauges, notify_file(stage, receivers))
    harness.wait_for("the second try", lambda: sum(p == "/later" for p, _ in fake.asked) == 2)
    first, second = (when for path, when in fake.asked if path == "/later")
    assert 2.9 < second - first < 10
    log = server.log()
    assert re.search(r'Notification failed".*receiver=chat .*attempts=1 .*channel_not_found', log)
    assert re.search(r'Notification failed".*receiver=gone .*attempts=1 .*404 Not Found: no such hook', log)
    assert re.search(r'tried again".*receiver=dead .*connection refused', log)
    for kind in ("slack", "teams"):
        assert metric(server, "notifications_failed_total", integration=kind, reason="clientError") == 1
    assert [p for p, _ in fake.asked].count("/slack") == 1
    server.stop()
    assert "SECRET" not in server.log()


def test_files_that_are_wrong(stage, fake, gauges):
    hook = {"name": "hook", **FAST, "webhook": {"url": f"{fake.url}/hook"}}
    path = notify_file(stage, [hook])
    server = serve(stage, gauges, path)
    assert "narthex_notify_groups 0" in server.get("/metrics").text
    notify_file(stage, [{**hook, "group_wait": "soon"}])
    answer = server.reload()
    assert answer.status == 500 and "not a valid duration" in answer.text and path in answer.text
    gauges.values = {"a": 7}
    fake.at("/hook", 1)  # by the old one
    with open(path, "w") as f:
        f.write("notify:\n  receivers:\n  - name: x\n    slack: {api_url: 'http://SECRET'}\n    matchers: ['a=']\n")
    for args in (["--config.file=" + server.config_path, "--storage.tsdb.path=" + stage.folder + "/other", "--notify.file=" + path,
                  "--web.listen-address=127.0.0.1:0"], ["check", "notify", path]):
        r = harness.run_tool(harness.BINARY, *args, timeout=30)
        assert r.returncode == (2 if len(args) == 4 else 1)
        assert f"{path}:3: notify.receivers[0].matchers[0]" in r.stderr and "SECRET" not in r.stdout + r.stderr
    r = harness.run_tool(harness.BINARY, "check", "notify", harness.ROOT + "/config/examples/notify/notify.yml")
    assert r.returncode == 0 and "4 receivers found" in r.stdout and "pager: pagerduty" in r.stdout
    quiet = stage.server("{}", name="without")
    assert "narthex_notify_" not in quiet.get("/metrics").text
