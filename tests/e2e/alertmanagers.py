"""Real Alertmanagers, and a receiver in this process that is one for senders or takes webhooks for a real one."""

import datetime
import http.server
import json
import os
import threading

import harness

ALERTMANAGER = "/usr/bin/prometheus-alertmanager"


class Receiver:
    """Keeps the body of every POST, JSON as what it says. Answers `status` and `reply`, once it is `open`."""

    def __init__(self):
        self.posts = []  # (path, headers, JSON, or text of another kind)
        self.status = 200
        self.reply = b""
        self.open = threading.Event()
        self.open.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_json = self.headers["Content-Type"] == "application/json"
                receiver.posts.append((self.path, dict(self.headers), json.loads(body) if is_json else body.decode()))
                receiver.open.wait(60)
                self.send_response(receiver.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(receiver.reply)))
                self.end_headers()
                self.wfile.write(receiver.reply)

            def log_message(self, *args):
                pass

        self.server = harness.HttpServer(Handler)
        self.address = f"127.0.0.1:{self.server.port}"

    def alerts(self):
        """Everything that was posted as alerts, one after the other."""
        return [a for _, _, body in list(self.posts) for a in (body["alerts"] if isinstance(body, dict) else body)]

    def close(self):
        self.open.set()
        self.server.close()


class Alertmanager:
    def __init__(self, stage, name="alertmanager", hook=None, web_config=None, prefix="", ready=None):
        self.port = harness.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.prefix = prefix
        folder = stage.folder_for(name)
        receiver = {"name": "r"}
        if hook:
            receiver["webhook_configs"] = [{"url": f"http://{hook.address}/hook", "send_resolved": True}]
        config = {"route": {"receiver": "r", "group_by": ["..."], "group_wait": "50ms", "group_interval": "100ms",
                            "repeat_interval": "1h"}, "receivers": [receiver]}
        with open(os.path.join(folder, "am.yml"), "w") as f:
            json.dump(config, f)
        argv = [ALERTMANAGER, f"--config.file={folder}/am.yml", f"--storage.path={folder}/data",
                f"--web.listen-address={self.address}", "--cluster.listen-address=", "--log.level=debug"]
        if prefix:
            argv.append(f"--web.route-prefix={prefix}")
        if web_config:
            with open(os.path.join(folder, "web.yml"), "w") as f:
                json.dump(web_config, f)
            argv.append(f"--web.config.file={folder}/web.yml")
        self.process = stage.process(name, argv, ready=ready or self.is_ready)

    def is_ready(self):
        return harness.request(self.port, "GET", f"{self.prefix}/-/ready", timeout=5).status == 200

    def alerts(self):
        """Active ones by their labels."""
        answer = harness.request(self.port, "GET", f"{self.prefix}/api/v2/alerts")
        assert answer.status == 200, answer.text
        return {harness.labels_key(a["labels"]): a for a in answer.json}


def seconds(text):
    """Unix time of an RFC 3339 text."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
