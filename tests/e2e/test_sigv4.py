"""Alerts to an Alertmanager at AWS: a server that checks signatures by AWS's published steps, and one that gives keys for roles."""

import datetime
import hashlib
import hmac
import json
import re
import urllib.parse

import pytest

import harness
import served
from test_alertmanager import counters, section, write_rules
from test_alertmanager import config as config_with

RULES = "groups:\n- name: g\n  interval: 200ms\n  rules:\n  - {alert: Up, expr: vector(1)}\n"
VARIABLES = ("ACCESS_KEY_ID", "ACCESS_KEY", "SECRET_ACCESS_KEY", "SECRET_KEY", "SESSION_TOKEN", "PROFILE", "DEFAULT_PROFILE", "REGION",
             "DEFAULT_REGION", "CONFIG_FILE", "SHARED_CREDENTIALS_FILE", "WEB_IDENTITY_TOKEN_FILE", "ROLE_ARN", "ROLE_SESSION_NAME",
             "ENDPOINT_URL", "ENDPOINT_URL_STS", "IGNORE_CONFIGURED_ENDPOINT_URLS", "CONTAINER_CREDENTIALS_RELATIVE_URI",
             "CONTAINER_CREDENTIALS_FULL_URI", "CONTAINER_AUTHORIZATION_TOKEN", "CONTAINER_AUTHORIZATION_TOKEN_FILE",
             "EC2_METADATA_SERVICE_ENDPOINT")


def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def escape(path):
    """Once more than it is on the way, as all services but S3 want it."""
    return urllib.parse.quote(path, safe="/-_.~")


class Aws(served.Served):
    """Takes signed POSTs at any path, and at /sts asks for roles. Keeps what was right as (path, access key, body)."""

    def __init__(self):
        self.keys = {}  # access key: (secret, token or None)
        self.taken, self.refused, self.asked = [], [], []
        self.allowed, self.seconds, self.moved = True, 900, None
        super().__init__()

    def post(self, request):
        status, text = (self.give if request.path == "/sts" else self.take)(request, self.body(request))
        self.send(request, status, text.encode(), {"Location": self.moved} if status == 307 else None)

    def get(self, request):
        text = self.around(request.command, request.path, request.headers)
        self.send(request, 200 if text else 404, (text or "").encode())

    put = get

    def judge(self, request, body, service):
        """The access key of a request that is signed right; else why not."""
        head = {name.lower(): " ".join(value.split()) for name, value in request.headers.items()}
        m = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([a-z0-9;-]+), "
                         r"Signature=([0-9a-f]{64})", head.get("authorization", ""))
        if not m:
            return None, "no signature"
        access, day, region, named, names, signature = m.groups()
        secret, token = self.keys.get(access, ("", None))
        names = names.split(";")
        if names != sorted(names) or not {"host", "x-amz-date", "content-type"} <= set(names):
            return None, "headers"
        if any(name.startswith("x-amz-") and name not in names for name in head):
            return None, "an unsigned x-amz header"
        if head.get("x-amz-security-token") != token or (region, named) != ("eu-test-1", service):
            return None, "token or scope"
        when = datetime.datetime.strptime(head["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        if abs((when - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) > 300 or not head["x-amz-date"].startswith(day):
            return None, "time"
        path, _, query = request.path.partition("?")
        canonical = "\n".join(["POST", escape(path), query, *(f"{name}:{head[name]}" for name in names), "", ";".join(names),
                               hashlib.sha256(body).hexdigest()])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", head["x-amz-date"], f"{day}/{region}/{named}/aws4_request",
                             hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4" + secret.encode()
        for part in (day, region, named, "aws4_request"):
            key = digest(key, part)
        return (access, "") if hmac.compare_digest(digest(key, to_sign).hex(), signature) else (None, "signature")

    def take(self, request, body):
        access, why = self.judge(request, body, "other" if request.path.startswith("/other") else "aps")
        if self.moved:
            return 307, ""
        if not access:
            self.refused.append((request.path, why))
            return 403, f'{{"message": "{why}"}}'
        self.taken.append((request.path, access, json.loads(body)))
        return 200, ""

    def give(self, request, body):
        form = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
        web = form["Action"] == "AssumeRoleWithWebIdentity"
        who, why = ("web", "") if web else self.judge(request, body, "sts")
        self.asked.append((who, form))
        if not who or not self.allowed:
            return 403, (f"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{why or 'not &amp; never'}</Message>"
                         "</Error></ErrorResponse>")
        access = f"ASIA{len(self.asked)}"
        self.keys[access] = (f"temporary+{access}", f"token/{access}==")
        ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.seconds)
        return 200, (f'<{form["Action"]}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n  <{form["Action"]}Result>\n'
                     f"    <AssumedRoleUser><Arn>arn:x</Arn></AssumedRoleUser>\n    <Credentials>\n"
                     f"      <AccessKeyId>{access}</AccessKeyId>\n      <SecretAccessKey>temporary+{access}</SecretAccessKey>\n"
                     f"      <SessionToken>token/{access}==</SessionToken>\n"
                     f"      <Expiration>{ends:%Y-%m-%dT%H:%M:%SZ}</Expiration>\n    </Credentials>\n"
                     f"  </{form['Action']}Result>\n</{form['Action']}Response>\n")

    def around(self, method, path, head):
        """What containers and machines are asked for."""
        self.asked.append((method, path))
        roles = "/latest/meta-data/iam/security-credentials/"
        if (method, path) == ("PUT", "/latest/api/token"):
            return "machine-token==" if head["X-aws-ec2-metadata-token-ttl-seconds"] and "Content-Type" not in head else None
        if path.startswith(roles) and head["X-aws-ec2-metadata-token"] != "machine-token==":
            return None
        if path == roles:
            return "of-the-machine\n"
        access = {roles + "of-the-machine": "AMACHINE", "/container": "ACONTAINER"}.get(path)
        if not access or (access == "ACONTAINER" and head["Authorization"] != "of the pod"):
            return None
        self.keys[access] = ("hush", "to/ken")
        ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.seconds)
        return json.dumps({"Code": "Success", "AccessKeyId": access, "SecretAccessKey": "hush", "Token": "to/ken",
                           "Expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})

    def by(self, path):
        return {access for p, access, _ in list(self.taken) if p == path}


@pytest.fixture
def aws(stage, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("HOME", stage.folder)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    a = Aws()
    yield a
    a.close()


def config(stage, *sections):
    return config_with(write_rules(stage.folder, RULES), *sections)


FLAGS = ["--rules.alert.resend-delay=200ms"]
STATIC = {"region": "eu-test-1", "access_key": "AKIA", "secret_key": "very/secret"}


def test_requests_are_signed(stage, aws, monkeypatch):
    """With the section's keys, the environment's, and those of a profile; and with keys that are wrong."""
    aws.keys = {"AKIA": ("very/secret", None), "AKENV": ("s", "to/ken=="), "AKPROF": ("p", None)}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "to/ken==")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{stage.folder}/credentials")
    with open(f"{stage.folder}/credentials", "w") as f:
        f.write("[other]\naws_access_key_id = X\naws_secret_access_key = X\n\n[mine]\naws_access_key_id = AKPROF\n"
                "aws_secret_access_key = p\nregion = eu-test-1\n")
    server = stage.server(config(
        stage,
        section(aws.address, path_prefix="/workspaces/a b+c/alertmanager/", sigv4=STATIC),
        section(aws.address, path_prefix="/env", sigv4={"region": "eu-test-1"}),
        section(aws.address, path_prefix="/profile", sigv4={"profile": "mine"}),
        section(aws.address, path_prefix="/other", sigv4={**STATIC, "service_name": "other"}, http_headers={"X-More": {"values": ["1"]}}),
        section(aws.address, path_prefix="/wrong", sigv4={**STATIC, "secret_key": "wrong"}),
        section(aws.address, path_prefix="/elsewhere", sigv4={**STATIC, "region": "eu-west-1"})), flags=FLAGS)
    path = "/workspaces/a%20b+c/alertmanager/api/v2/alerts"
    harness.wait_for("all to be taken", lambda: {p for p, _, _ in list(aws.taken)} >= {
        path, "/env/api/v2/alerts", "/profile/api/v2/alerts", "/other/api/v2/alerts"})
    assert (aws.by(path), aws.by("/env/api/v2/alerts"), aws.by("/profile/api/v2/alerts")) == ({"AKIA"}, {"AKENV"}, {"AKPROF"})
    assert aws.taken[0][2][0]["labels"] == {"alertname": "Up"}
    wrong, elsewhere = (f"http://{aws.address}/{name}/api/v2/alerts" for name in ("wrong", "elsewhere"))
    harness.wait_for("refusals", lambda: min(counters(server)["errors_total", u] for u in (wrong, elsewhere)) >= 2)
    assert {(p, why) for p, why in aws.refused} == {("/wrong/api/v2/alerts", "signature"), ("/elsewhere/api/v2/alerts", "token or scope")}
    n = counters(server)
    assert n["sent_total", wrong] == 0 and n["errors_total", wrong] == n["dropped_total", wrong]
    assert n["errors_total", f"http://{aws.address}{path}"] == 0
    log = server.log()
    assert f'alertmanager={wrong} count=1 err="bad response status 403 Forbidden"' in log
    assert "very/secret" not in log and "to/ken" not in log and "no effect" not in log
    assert "very/secret" not in server.get("/api/v1/status/config").text


def test_keys_for_a_role(stage, aws, monkeypatch):
    """They are asked for once as long as they last, anew when they end, and a refusal is told."""
    aws.keys = {"AKIA": ("very/secret", None)}
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{aws.address}/sts")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", f"{stage.folder}/token")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/pod")
    with open(f"{stage.folder}/token", "w") as f:
        f.write("e30.e30.x_-&\n")
    role = {"role_arn": "arn:aws:iam::1:role/alerts + more", "external_id": "x=1&y"}
    server = stage.server(config(stage, section(aws.address, sigv4={**STATIC, **role})), flags=FLAGS)
    url = f"http://{aws.address}/api/v2/alerts"
    harness.wait_for("requests", lambda: len(aws.taken) >= 3)
    assert aws.by("/api/v2/alerts") == {"ASIA1"}
    assert aws.asked == [("AKIA", {"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": "900", "RoleSessionName": "narthex",
                                   "RoleArn": role["role_arn"], "ExternalId": role["external_id"]})]
    aws.seconds = 31  # half a minute before that it is time
    server.write_config(config(stage, section(aws.address, sigv4={"region": "eu-test-1"})))
    assert server.reload().status == 200
    harness.wait_for("a second pair", lambda: len(aws.by("/api/v2/alerts")) >= 3)
    assert aws.asked[1] == ("web", {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "DurationSeconds": "900",
                                    "RoleSessionName": "narthex", "RoleArn": "arn:aws:iam::1:role/pod", "WebIdentityToken": "e30.e30.x_-&"})
    assert not aws.refused and counters(server)["errors_total", url] == 0
    aws.allowed = False
    server.write_config(config(stage, section(aws.address, path_prefix="/x", sigv4={**STATIC, **role})))
    assert server.reload().status == 200
    url = f"http://{aws.address}/x/api/v2/alerts"
    harness.wait_for("a refusal", lambda: counters(server)["errors_total", url] >= 1)
    assert counters(server)["sent_total", url] == 0
    assert (f'err="Post \\"{url}\\": error retrieving credentials: operation error STS: AssumeRole: 403 Forbidden, '
            'AccessDenied: not & never"') in server.log()
    aws.allowed, aws.moved = True, f"http://{aws.address}/y"
    n = counters(server)["errors_total", url]
    harness.wait_for("a redirect", lambda: counters(server)["errors_total", url] > n + 1)
    assert 'err="bad response status 307 Temporary Redirect"' in server.log() and not aws.by("/y")


def test_keys_of_the_container_and_the_machine(stage, aws, monkeypatch):
    """Asked directly, whatever the environment says of proxies."""
    where = config(stage, section(aws.address, sigv4={"region": "eu-test-1"}))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{aws.address}/container")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", f"{stage.folder}/pod")
    with open(f"{stage.folder}/pod", "w") as f:
        f.write("of the pod\n")
    server = stage.server(where, flags=FLAGS, name="pod")
    harness.wait_for("requests", lambda: len(aws.taken) >= 2)
    assert aws.by("/api/v2/alerts") == {"ACONTAINER"} and aws.asked == [("GET", "/container")]
    server.stop()
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{aws.address}/")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    aws.taken.clear()
    server = stage.server(where, flags=FLAGS, name="machine")
    harness.wait_for("requests", lambda: len(aws.taken) >= 2)
    assert aws.by("/api/v2/alerts") == {"AMACHINE"}
    assert len(aws.asked) == 1 + 2 * 3  # at the start, whether it has any; and with the first alert
    server.stop()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{harness.free_port()}")
    last = stage.server(where, wait=False, name="nowhere")
    assert last.popen.wait(timeout=20) == 1
    assert "could not get SigV4 credentials: keys of the machine (EC2): Get " in last.log()


def test_what_is_missing_is_told(stage, aws):
    """At the start, and by a reload, which changes nothing then."""
    first = stage.server(config(stage, section(aws.address, sigv4={"access_key": "a", "secret_key": "b"})), wait=False, name="first")
    assert first.popen.wait(timeout=20) == 1
    assert "region not configured in sigv4 or in default credentials chain" in first.log()
    server = stage.server(config(stage, section(aws.address)), flags=FLAGS)
    for sigv4, why in (({"region": "r"}, "could not get SigV4 credentials: "),
                       ({"region": "r", "profile": "p"}, "could not create new AWS session: failed to get shared config profile, p")):
        changed = config(stage, section(aws.address, path_prefix="/new", sigv4=sigv4))
        changed["scrape_configs"] = [{"job_name": "new"}]
        server.write_config(changed)
        answer = server.reload()
        assert answer.status == 500 and why in answer.text, answer.text
    assert server.get("/api/v1/alertmanagers").data["activeAlertmanagers"] == [{"url": f"http://{aws.address}/api/v2/alerts"}]
    assert "new" not in server.get("/api/v1/status/config").text
    assert server.get("/api/v1/scrape_pools").data["scrapePools"] == []
