"""Real Alertmanagers, and a receiver in this process that is one for senders or takes webhooks for a real one."""

import datetime
import json
import os
import threading

import harness
import served

ALERTMANAGER = "/usr/bin/prometheus-alertmanager"


class Receiver(served.Served):
    """Keeps the body of every POST, JSON as what it says. Answers `status` and `reply`, once it is `open`."""

    def __init__(self):
        self.posts = []  # (path, headers, JSON, or text of another kind)
        self.status = 200
        self.reply = b""
        self.open = threading.Event()
        self.open.set()
        super().__init__()

    def post(self, request):
        body = self.body(request)
        is_json = request.headers["Content-Type"] == "application/json"
        self.posts.append((request.path, dict(request.headers), json.loads(body) if is_json else body.decode()))
        self.open.wait(60)
        self.send(request, self.status, self.reply, {"Content-Type": "application/json"})

    def alerts(self):
        """Everything that was posted as alerts, one after the other."""
        return [a for _, _, body in list(self.posts) for a in (body["alerts"] if isinstance(body, dict) else body)]

    def close(self):
        self.open.set()
        super().close()


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
