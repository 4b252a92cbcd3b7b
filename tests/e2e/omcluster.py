"""More of omdata.py: a small cluster (pods, their owners and limits, nodes, an API server), a web server in front of
it, and probes of its sites from outside. Families and labels are those of the exporters people have.

One pod restarts, one is replaced by another, one site is down for a while and slow now and then.
"""

import omdata

STEP = 30
NODES = ("node-a", "node-b")
# namespace, pod, workload, its kind, node, first and last second
PODS = (
    ("shop", "cart-6f9c-1", "cart", "deployment", "node-a", 0, omdata.SECONDS),
    ("shop", "cart-6f9c-2", "cart", "deployment", "node-b", 0, 7500),
    ("shop", "cart-6f9c-3", "cart", "deployment", "node-b", 7560, omdata.SECONDS),
    ("shop", "db-0", "db", "statefulset", "node-a", 0, omdata.SECONDS),
    ("system", "agent-x", "agent", "daemonset", "node-a", 0, omdata.SECONDS),
    ("system", "agent-y", "agent", "daemonset", "node-b", 0, omdata.SECONDS),
)


def pod(w, rnd, row):
    namespace, name, workload, kind, node, first, last = row
    ksm = {"instance": "ksm:8080", "job": "kube-state-metrics", "namespace": namespace, "pod": name}
    cad = {"instance": f"{node}:10250", "job": "kubelet", "namespace": namespace, "pod": name, "node": node}
    main = {**cad, "container": "main", "image": f"registry/{workload}:1"}
    cpu, throttled, periods, net, restarts = [1.0 * omdata.MUCH] * 5
    share = rnd.random()
    for n in range(first // STEP, last // STEP):
        at = omdata.START + n * STEP + 11
        w.add("kube_pod_info", "gauge", "kube_pod_info", {**ksm, "node": node, "uid": f"u-{name}"}, at, 1)
        owner = {"namespace": namespace, "pod": name, "workload": workload, "workload_type": kind}
        w.add("workload_of_pod", "gauge", "workload_of_pod", owner, at, 1)
        for phase in ("Running", "Pending", "Failed"):
            early = n - first // STEP < 3
            w.add("kube_pod_status_phase", "gauge", "kube_pod_status_phase", {**ksm, "phase": phase}, at, int(phase == ("Pending" if early else "Running")))
        restarts += name == "db-0" and n in (150, 160, 400)
        w.add("kube_pod_container_status_restarts", "counter", "kube_pod_container_status_restarts_total", {**ksm, "container": "main"}, at, restarts)
        for resource, unit, request, limit in (("cpu", "core", 0.25, 0.5), ("memory", "byte", 2.0**27, 2.0**28)):
            labels = {**ksm, "container": "main", "node": node, "resource": resource, "unit": unit}
            w.add("kube_pod_container_resource_requests", "gauge", "kube_pod_container_resource_requests", labels, at, request)
            if workload != "agent":
                w.add("kube_pod_container_resource_limits", "gauge", "kube_pod_container_resource_limits", labels, at, limit)
        cpu += STEP * share * (0.5 + rnd.random()) / 2
        periods += 10 * STEP
        throttled += rnd.randrange(40) if share > 0.4 else 0
        net += rnd.randrange(100_000)
        w.add("container_cpu_usage_seconds", "counter", "container_cpu_usage_seconds_total", main, at, round(cpu, 4))
        w.add("container_cpu_usage_seconds", "counter", "container_cpu_usage_seconds_total", {**cad, "container": "", "image": ""}, at, round(cpu * 1.01, 4))
        w.add("container_cpu_cfs_periods", "counter", "container_cpu_cfs_periods_total", main, at, periods)
        w.add("container_cpu_cfs_throttled_periods", "counter", "container_cpu_cfs_throttled_periods_total", main, at, throttled)
        w.add("container_memory_working_set_bytes", "gauge", "container_memory_working_set_bytes", main, at, int(2e8 * share) + rnd.randrange(4096) * 4096)
        w.add("container_network_receive_bytes", "counter", "container_network_receive_bytes_total", {**cad, "interface": "eth0"}, at, net)


def control(w, rnd):
    ksm = {"instance": "ksm:8080", "job": "kube-state-metrics"}
    requests = {}
    for n in range(omdata.SECONDS // STEP):
        at = omdata.START + n * STEP + 13
        for name in ("cart", "search"):
            labels = {**ksm, "namespace": "shop", "deployment": name}
            w.add("kube_deployment_spec_replicas", "gauge", "kube_deployment_spec_replicas", labels, at, 2)
            away = name == "search" or 250 <= n < 252
            w.add("kube_deployment_status_replicas_available", "gauge", "kube_deployment_status_replicas_available", labels, at, 1 if away else 2)
        for i, node in enumerate(NODES):
            for status in ("true", "false", "unknown"):
                labels = {**ksm, "node": node, "condition": "Ready", "status": status}
                w.add("kube_node_status_condition", "gauge", "kube_node_status_condition", labels, at, int(status == ("unknown" if i and 300 <= n < 306 else "true")))
            for resource, much in (("cpu", 4), ("memory", 2**33)):
                w.add("kube_node_status_allocatable", "gauge", "kube_node_status_allocatable", {**ksm, "node": node, "resource": resource}, at, much)
            volume = {"instance": f"{node}:10250", "job": "kubelet", "namespace": "shop", "persistentvolumeclaim": f"data-{i}"}
            w.add("kubelet_volume_stats_capacity_bytes", "gauge", "kubelet_volume_stats_capacity_bytes", volume, at, 10**10)
            w.add("kubelet_volume_stats_available_bytes", "gauge", "kubelet_volume_stats_available_bytes", volume, at, 5 * 10**9 - n * (i * 9_000_000 + 1000))
        for verb, code, each in (("GET", "200", 50), ("GET", "404", 3), ("POST", "201", 9), ("POST", "500", 1), ("WATCH", "200", 2)):
            requests[verb, code] = requests.get((verb, code), omdata.MUCH) + rnd.randrange(each * 2)
            w.add("apiserver_request", "counter", "apiserver_request_total", {"instance": "api:6443", "job": "apiserver", "verb": verb, "code": code}, at, requests[verb, code])


def front(w, rnd):
    base = {"instance": "lb:9113", "job": "nginx"}
    accepted = requests = omdata.MUCH
    dropped = 0
    for n in range(omdata.SECONDS // STEP):
        at = omdata.START + n * STEP + 3
        accepted += rnd.randrange(60)
        dropped += n % 90 == 0
        requests += rnd.randrange(400)
        w.add("nginx_up", "gauge", "nginx_up", base, at, 1)
        w.add("nginx_connections_accepted", "counter", "nginx_connections_accepted_total", base, at, accepted)
        w.add("nginx_connections_handled", "counter", "nginx_connections_handled_total", base, at, accepted - dropped)
        w.add("nginx_http_requests", "counter", "nginx_http_requests_total", base, at, requests)
        for state in ("active", "reading", "writing", "waiting"):
            w.add(f"nginx_connections_{state}", "gauge", f"nginx_connections_{state}", base, at, rnd.randrange(2, 30))


def probes(w, rnd):
    for i, site in enumerate(("https://shop.example", "https://api.example/health")):
        base = {"instance": site, "job": "blackbox"}
        for n in range(omdata.SECONDS // STEP):
            at = omdata.START + n * STEP + 5 + i
            down = i == 1 and 240 <= n < 262
            w.add("probe_success", "gauge", "probe_success", base, at, int(not down))
            w.add("probe_http_status_code", "gauge", "probe_http_status_code", base, at, 503 if down else 200)
            w.add("probe_ssl_earliest_cert_expiry", "gauge", "probe_ssl_earliest_cert_expiry", base, at, omdata.START + 86400 * (3 + 40 * i))
            took = 0.0
            for phase in ("resolve", "connect", "tls", "processing", "transfer"):
                part = 0.0 if down and phase == "transfer" else round(rnd.expovariate(40), 6)
                took += part
                w.add("probe_http_duration_seconds", "gauge", "probe_http_duration_seconds", {**base, "phase": phase}, at, part)
            w.add("probe_duration_seconds", "gauge", "probe_duration_seconds", base, at, round(took + (2 if n % 100 == 50 else 0.01), 6))


def cluster(w, rnd):
    for row in PODS:
        pod(w, rnd, row)
    control(w, rnd)
    front(w, rnd)
    probes(w, rnd)
