"""Series for the rules of tests/rules/collections: a small house with troubles, over two hours up to a moment.

Every name that a rule selects is here but for a few that are missing on purpose, in the labels its exporter gives it.
Values follow from name, labels and time alone. Counters begin high: where one begins near zero within a window,
Prometheus 2 and 3 extrapolate differently.
"""

import math
import zlib

SECONDS, STEP, MUCH = 2 * 3600 + 720, 30, 1_000_000
KIB, MIB, GIB = 2**10, 2**20, 2**30


class House:
    def __init__(self, end):
        """`end` is the newest sample's time. Samples lie seven seconds beside the full half minute, where no
        evaluation is, so that nobody's window begins at one."""
        self.end = int(end) // STEP * STEP + 7 - STEP
        self.times = range(self.end - SECONDS, self.end + 1, STEP)
        self.families = {}

    def series(self, name, labels, value, kind="gauge"):
        text = ",".join(f'{k}="{v}"' for k, v in labels.items())
        points = ((t, value(t - self.end + SECONDS)) for t in self.times)
        self.families.setdefault((name, kind), []).extend(f"{name}{{{text}}} {v!r} {t}\n" for t, v in points if v is not None)

    def gauge(self, name, labels, level, wobble=0.0, slope=0.0):
        phase = zlib.crc32((name + repr(labels)).encode()) % 6283 / 1000
        self.series(name, labels, lambda s: level + wobble * math.sin(s / 400 + phase) + slope * s)

    def count(self, name, labels, rate, late=None):
        """A counter; with `late` its rate changes in the last twenty minutes."""
        seed = zlib.crc32((name + repr(labels)).encode()) % 1000
        turn = SECONDS - 1200

        def value(s):
            after = max(0, s - turn) if late is not None else 0
            return MUCH + seed + math.floor(8 * (rate * (s - after) + (late or 0) * after)) / 8
        # Not of type counter: OpenMetrics would want another name for some of them.
        self.series(name, labels, value, "unknown")

    def states(self, name, labels, states):
        """A gauge that goes through values, the last one now."""
        self.series(name, labels, lambda s: states[min(len(states) - 1, s * len(states) // SECONDS)])

    def histogram(self, name, labels, rate, mean, bounds):
        total = 0.0
        for le in [*bounds, math.inf]:
            share = 1 - math.exp(-le / mean)
            self.count(f"{name}_bucket", {**labels, "le": "+Inf" if le == math.inf else repr(float(le))}, rate * share + 1e-3 * total)
            total += 1
        self.count(f"{name}_sum", labels, rate * mean)
        self.count(f"{name}_count", labels, rate)

    def values(self):
        """(series, its values as texts), one after the other."""
        for lines in self.families.values():
            for k in range(0, len(lines), len(self.times)):
                yield lines[k].rsplit(" ", 2)[0], [line.rsplit(" ", 2)[1] for line in lines[k:k + len(self.times)]]

    def text(self):
        for (name, kind), lines in self.families.items():
            yield f"# TYPE {name} {kind}\n"
            yield from lines
        yield "# EOF\n"


def node(h):
    for n, host in enumerate("abc"):
        at = {"instance": f"{host}:9100", "job": "node"}
        busy = 0.9 if host == "b" else 0.25
        h.states("up", at, [1] * 29 + [int(host != "c")])
        for cpu in "01":
            for mode, share in (("idle", 1 - busy), ("user", busy * 0.6), ("system", busy * 0.2), ("iowait", busy * 0.1), ("steal", busy * 0.1)):
                h.count("node_cpu_seconds_total", {**at, "cpu": cpu, "mode": mode}, share)
        h.gauge("node_load1", at, 4.5 if host == "b" else 0.7, 0.2)
        h.states("node_load5", at, [0.5] * 9 + [3.5 if host == "b" else 0.5])
        h.gauge("node_memory_MemTotal_bytes", at, 8 * GIB)
        h.gauge("node_memory_MemAvailable_bytes", at, 0.06 * 8 * GIB if host == "b" else 5 * GIB, 1e6)
        h.gauge("node_memory_SwapTotal_bytes", at, 0 if host == "a" else GIB)
        h.gauge("node_memory_SwapFree_bytes", at, 0 if host == "a" else 0.3 * GIB)
        h.count("node_vmstat_pgmajfault", at, 900 if host == "b" else 3)
        h.states("node_vmstat_oom_kill", at, [7] * 9 + [9 if host == "b" else 7])
        for device, fs, mount, left, slope in (("sda1", "ext4", "/", 0.4, -1e-5), ("sdb1", "ext4", "/data", 0.2, -1.5e-5), ("tmpfs", "tmpfs", "/run", 0.99, 0)):
            disk = {**at, "device": device, "fstype": fs, "mountpoint": mount}
            h.gauge("node_filesystem_size_bytes", disk, 100 * GIB)
            h.gauge("node_filesystem_avail_bytes", disk, left * 100 * GIB, 1e7, slope * 100 * GIB * (n + 0.1))
            h.gauge("node_filesystem_files", disk, 1e6)
            h.gauge("node_filesystem_files_free", disk, 5e4 if host == "c" and mount == "/" else 6e5, 10, -3 if host == "b" else 0)
            h.gauge("node_filesystem_readonly", disk, int(host == "c" and mount == "/data"))
        for device in ("sda", "sdb"):
            disk = {**at, "device": device}
            h.count("node_disk_io_time_seconds_total", disk, 0.85 if host == "b" else 0.1)
            h.count("node_disk_reads_completed_total", disk, 20)
            h.count("node_disk_read_time_seconds_total", disk, 2 if host == "b" else 0.05)
            h.count("node_disk_writes_completed_total", disk, 30)
            h.count("node_disk_write_time_seconds_total", disk, 4 if host == "c" else 0.05)
        for device in ("eth0", "lo"):
            net = {**at, "device": device}
            h.count("node_network_receive_bytes_total", net, 1.2e8 if host == "b" else 2e4)
            h.count("node_network_transmit_bytes_total", net, 3e4)
            h.count("node_network_receive_packets_total", net, 1000)
            h.count("node_network_receive_errs_total", net, 30 if host == "a" else 0)
            h.count("node_network_transmit_drop_total", net, 1 if host == "c" else 0)
            h.gauge("node_network_speed_bytes", net, 1.25e8)
            h.states("node_network_up", net, [1, 0] * 8 + [int(host != "c")])
        h.gauge("node_timex_offset_seconds", at, 0.2 if host == "b" else 0.001, 0.0001, 3e-5)
        h.gauge("node_timex_sync_status", at, int(host != "b"))
        h.states("node_boot_time_seconds", at, [h.end - 90000 - n] * 9 + [h.end - 300 if host == "a" else h.end - 90000 - n])
        for sensor in ("temp1", "temp2"):
            hot = {**at, "chip": "platform_coretemp_0", "sensor": sensor}
            h.gauge("node_hwmon_temp_celsius", hot, 88 if host == "b" else 45, 3)
            h.gauge("node_hwmon_temp_crit_celsius", hot, 90 if sensor == "temp1" else 80)
        for unit in ("nginx.service", "backup.service"):
            for state in ("active", "failed"):
                failed = int(host == "c" and unit.startswith("backup"))
                h.states("node_systemd_unit_state", {**at, "name": unit, "state": state}, [0, 1] * 20 + [failed if state == "failed" else 1 - failed])
        h.gauge("node_filefd_allocated", at, 70000 + 9000 * n)
        h.gauge("node_filefd_maximum", at, 100000)
        h.gauge("node_nf_conntrack_entries", at, 60000 * n, 10)
        h.gauge("node_nf_conntrack_entries_limit", at, 131072)
        h.gauge("node_md_disks_required", {**at, "device": "md0"}, 3)
        h.gauge("node_md_disks", {**at, "device": "md0", "state": "active"}, 3 - int(host == "a"))
        h.gauge("node_textfile_scrape_error", at, int(host == "a"))
        h.gauge("node_textfile_mtime_seconds", {**at, "file": "/var/lib/backup.prom"}, h.end - 5000 * n)
        for collector in ("cpu", "mdadm"):
            h.gauge("node_scrape_collector_success", {**at, "collector": collector}, int(collector == "cpu"))
        h.gauge("node_uname_info", {**at, "release": f"6.{n // 2}.{n}-amd64", "nodename": host}, 1)
        h.gauge("node_entropy_available_bits", at, 50 if host == "c" else 3000)
        h.count("node_context_switches_total", at, 50000 if host == "b" else 900)


def postgres(h):
    for n, host in enumerate(("pg-0", "pg-1")):
        at = {"instance": f"{host}:9187", "job": "postgres"}
        h.states("pg_up", at, [1] * 49 + [1 - n])
        h.gauge("pg_exporter_last_scrape_error", at, n)
        h.gauge("pg_postmaster_start_time_seconds", at, h.end - (200 if n else 80000))
        h.gauge("pg_settings_max_connections", at, 100 + 20 * n)
        h.gauge("pg_settings_max_locks_per_transaction", at, 1)
        h.gauge("pg_settings_fsync", at, 1 - n)
        h.gauge("pg_replication_lag_seconds", at, 5 + 400 * n, 2, 0.5 * n)
        h.gauge("pg_replication_is_replica", at, n)
        h.gauge("pg_static", {**at, "short_version": f"1{5 + n}.1.0"}, 1)
        h.count("pg_stat_archiver_failed_count", at, 0.01 * n)
        for name, rate in (("checkpoints_req", 0.02), ("checkpoints_timed", 0.01 + n), ("buffers_backend", 50), ("buffers_clean", 40 + 20 * n)):
            h.count(f"pg_stat_bgwriter_{name}_total", at, rate)
        for slot in ("standby", "old"):
            of = {**at, "slot_name": slot}
            h.gauge("pg_replication_slots_active", of, int(slot == "standby"))
            h.gauge("pg_replication_slots_pg_wal_lsn_diff", of, 5 * GIB if slot == "old" else 1e5, 10)
        for k, name in enumerate(("shop", "wiki")):
            db = {**at, "datname": name}
            h.count("pg_stat_database_xact_commit", db, 80, 10 if name == "shop" else 80)
            h.count("pg_stat_database_xact_rollback", db, 4 * k)
            for what, rate in (("blks_hit", 1000), ("blks_read", 90 * k + 1), ("deadlocks", 0.01 * k), ("conflicts", 0.02 * n), ("temp_bytes", 2e6 * k),
                               ("tup_inserted", 20), ("tup_updated", 10), ("tup_deleted", 3)):
                h.count(f"pg_stat_database_{what}", db, rate)
            h.gauge("pg_database_size_bytes", db, 20 * GIB * (k + 1), 1e6, 200000.0 * k)
            h.gauge("pg_database_wraparound_age_datfrozenxid", db, 1.2e9 * k + 1e6)
            for state, connections in (("active", 30 + 20 * n), ("idle", 10), ("idle in transaction", 7 * k)):
                h.gauge("pg_stat_activity_count", {**db, "state": state}, connections)
                h.gauge("pg_stat_activity_max_tx_duration", {**db, "state": state}, 100 * k + 250.5)
            for mode, locks in (("accesssharelock", 12), ("exclusivelock", 2 * k + 1), ("rowexclusivelock", 5)):
                h.gauge("pg_locks_count", {**db, "mode": mode}, locks)
            for j, relation in enumerate(("orders", "items")):
                table = {**db, "relname": relation, "schemaname": "public"}
                h.gauge("pg_stat_user_tables_n_live_tup", table, 9000, 5)
                h.gauge("pg_stat_user_tables_n_dead_tup", table, 4000 * j, 5)
                h.gauge("pg_stat_user_tables_last_autovacuum", table, (h.end - 100000) * j)
                h.gauge("pg_stat_user_tables_last_autoanalyze", table, (h.end - 100) * (1 - j))
                h.count("pg_stat_user_tables_seq_tup_read", table, 5000 * j)
                h.count("pg_stat_user_tables_idx_tup_fetch", table, 100)


def redis(h):
    for n, host in enumerate(("r0", "r1")):
        at = {"instance": f"{host}:9121", "job": "redis"}
        h.gauge("redis_up", at, 1 - n)
        h.gauge("redis_memory_used_bytes", at, 900 * MIB, 1e5)
        h.gauge("redis_memory_used_rss_bytes", at, (900 + 600 * n) * MIB, 1e5)
        h.gauge("redis_memory_max_bytes", at, GIB * (1 - n))
        h.gauge("redis_connected_clients", at, 700 - 600 * n, 4.5)
        h.gauge("redis_config_maxclients", at, 1000)
        for name, rate in (("commands_processed", 500), ("keyspace_hits", 60), ("keyspace_misses", 10 + 50 * n), ("rejected_connections", 0.02 * n), ("evicted_keys", 4 * n),
                           ("cpu_user_seconds", 0.4), ("cpu_sys_seconds", 0.2 * n), ("net_output_bytes", 2e7 * n)):
            h.count(f"redis_{name}_total", at, rate)
        for name, value in (("blocked_clients", 9 * n), ("master_link_up", 1 - n), ("rdb_last_bgsave_status", n), ("rdb_last_bgsave_duration_sec", 20 + 20 * n),
                            ("aof_last_write_status", 1), ("aof_last_bgrewrite_status", n), ("uptime_in_seconds", 100 + 1000 * n)):
            h.gauge(f"redis_{name}", at, value)
        h.gauge("redis_rdb_last_save_timestamp_seconds", at, h.end - 90000 * n)
        h.gauge("redis_slowlog_length", at, 10, 0, 0.02 * n)
        h.states("redis_connected_slaves", at, [0, 1] * 4 + [0])
        h.gauge("redis_instance_info", {**at, "role": "slave" if n else "master", "redis_version": f"7.{n}.0"}, 1)
        for cmd in ("get", "keys"):
            h.count("redis_commands_total", {**at, "cmd": cmd}, 50)
            h.count("redis_commands_duration_seconds_total", {**at, "cmd": cmd}, 0.5 if cmd == "keys" else 0.01)
        for db in ("db0", "db1"):
            h.states("redis_db_keys", {**at, "db": db}, [9000, 9000, 9000 - 7000 * n])
            h.gauge("redis_db_keys_expiring", {**at, "db": db}, 500)
        h.gauge("redis_latency_spike_duration_seconds", {**at, "event_name": "fork"}, 0.05 + 0.2 * n, 0.01)


def nginx(h):
    for n, host in enumerate(("w0", "w1")):
        at = {"instance": f"{host}:9113", "job": "nginx"}
        h.states("nginx_up", at, [1] * 49 + [1 - n])
        h.count("nginx_http_requests_total", at, 40, 90 if n else 5)
        h.count("nginx_connections_accepted", at, 12 + n)
        h.count("nginx_connections_handled", at, 12)
        for name, value in (("waiting", 90), ("active", 100), ("writing", 30 + 30 * n)):
            h.gauge(f"nginx_connections_{name}", at, value, 0.5)
        h.gauge("nginx_config_last_reload_successful", at, n)
        h.gauge("nginx_workers", at, 4 + n)
        h.count("nginx_ssl_handshakes_total", at, 20)
        h.count("nginx_ssl_handshakes_failed_total", at, n)
        for k, name in enumerate(("shop.example", "wiki.example", "old.example")):
            of = {**at, "host": name}
            for status, rate in (("200", 20.0), ("404", 4.0 * k), ("500", 0.2 + 1.5 * k), ("503", 0.125)):
                h.count("nginx_server_requests_total", {**of, "status": status}, 0 if k == 2 else rate)
            h.histogram("nginx_request_seconds", of, 20, (0.05, 0.6, 0.2)[k], (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5))
        for k, server in enumerate(("app-0:80", "app-1:80", "app-2:80")):
            of = {**at, "upstream": "app", "server": server}
            h.gauge("nginx_upstream_server_up", of, int(k != 2))
            h.gauge("nginx_upstream_response_seconds", of, 0.02 * 6**k, 0.001)


def blackbox(h):
    for n, name in enumerate(("https://a.example/x", "https://b.example", "http://c.example", "https://d.example", "https://e.example")):
        at = {"instance": name, "job": "blackbox" if n < 3 else "blackbox-far"}
        good = int(n not in (1, 2))
        h.states("probe_success", at, [1] * 39 + [0, 1, 0, 1, 0, 1, 0, 1, 0, good] if n == 1 else [1] * 19 + [good])
        h.states("probe_duration_seconds", at, [0.1 + 0.3 * n] * 3 + [0.2 + 0.6 * n])
        h.gauge("probe_http_status_code", at, (200, 503, 0, 301, 500)[n])
        h.gauge("probe_http_redirects", at, n)
        h.gauge("probe_http_ssl", at, int(n != 2))
        h.gauge("probe_http_content_length", at, 5000, 200 * n)
        h.gauge("probe_icmp_success", at, 0.5 + 0.1 * n)
        h.gauge("probe_tls_version_info", {**at, "version": f"TLS 1.{n % 4}"}, 1)
        h.states("probe_ssl_earliest_cert_expiry", at, [h.end + 86400 * 5 * n - 43200] * 9 + [h.end + 86400 * 6 * n - 43200])
        h.gauge("maintenance_window", at, int(n == 2))
        for phase, seconds in (("resolve", 0.05), ("connect", 0.1), ("tls", 0.02), ("processing", 0.3)):
            h.gauge("probe_http_duration_seconds", {**at, "phase": phase}, seconds * (n + 1), 0.01)


PODS = [("shop", f"web-5d8f7-{k}", "ReplicaSet", "web-5d8f7", f"n{k % 2}") for k in range(4)] + \
       [("shop", "db-0", "StatefulSet", "db", "n0"), ("ops", "backup-9-x", "Job", "backup-9", "n1"), ("ops", "agent-a", "DaemonSet", "agent", "n0"),
        ("ops", "api-7c9-q", "ReplicaSet", "api-7c9", "n2")]


def pods(h):
    ksm = {"instance": "ksm:8080", "job": "kube-state-metrics"}
    for n, (namespace, pod, kind, owner, node_name) in enumerate(PODS):
        at = {**ksm, "namespace": namespace, "pod": pod}
        h.gauge("kube_pod_info", {**at, "created_by_kind": kind, "created_by_name": owner, "node": node_name}, 1)
        h.gauge("kube_pod_created", at, h.end - 86400 * 20 * n)
        for phase in ("Pending", "Running", "Failed", "Unknown"):
            h.gauge("kube_pod_status_phase", {**at, "phase": phase}, int(phase == ("Pending" if n == 3 else "Running")))
        h.gauge("kube_pod_status_ready", {**at, "condition": "true"}, int(n != 3))
        of = {**at, "container": "main"}
        h.count("kube_pod_container_status_restarts_total", of, 0.002 * (n % 3))
        h.gauge("kube_pod_container_status_waiting_reason", {**of, "reason": "CrashLoopBackOff"}, int(n == 2))
        h.gauge("kube_pod_container_status_last_terminated_reason", {**of, "reason": "OOMKilled"}, int(n == 2))
        h.gauge("kube_pod_container_resource_requests", {**of, "resource": "cpu", "node": node_name}, 1.5)
        h.gauge("kube_pod_container_resource_requests", {**of, "resource": "memory", "node": node_name}, 2 * GIB)
        if n != 6:
            h.gauge("kube_pod_container_resource_limits", {**of, "resource": "memory", "node": node_name}, 4 * GIB)
        cadvisor = {"instance": f"{node_name}:10250", "job": "kubelet", "namespace": namespace, "pod": pod, "node": node_name}
        for container, share in (("main", 1), ("", 1.1)):
            h.count("container_cpu_usage_seconds_total", {**cadvisor, "container": container}, 0.3 * (n + 1) * share)
            h.gauge("container_memory_working_set_bytes", {**cadvisor, "container": container}, 0.45 * GIB * (n + 1) * share, 1e6)
        h.count("container_cpu_cfs_periods_total", {**cadvisor, "container": "main"}, 10)
        h.count("container_cpu_cfs_throttled_periods_total", {**cadvisor, "container": "main"}, n)


def workloads(h):
    ksm = {"instance": "ksm:8080", "job": "kube-state-metrics"}
    for k, (namespace, name) in enumerate((("shop", "web"), ("ops", "api"), ("ops", "none"))):
        at = {**ksm, "namespace": namespace, "deployment": name}
        for what, value in (("spec_replicas", (5, 1, 0)[k]), ("status_replicas_available", (3, 1, 0)[k]), ("status_observed_generation", 3), ("metadata_generation", 3 + k)):
            h.gauge(f"kube_deployment_{what}", at, value)
    for k, namespace in enumerate(("shop", "ops")):
        h.gauge("kube_namespace_labels", {**ksm, "namespace": namespace, "label_tier": "prod" if k else "test"}, 1)
        for resource in ("cpu", "pods"):
            for kind, value in (("used", 9 + 2 * k), ("hard", 10)):
                h.gauge("kube_resourcequota", {**ksm, "namespace": namespace, "resource": resource, "resourcequota": "q", "type": kind}, value)
        claim = {"instance": "n0:10250", "job": "kubelet", "namespace": namespace, "persistentvolumeclaim": f"data-{k}"}
        h.gauge("kubelet_volume_stats_capacity_bytes", claim, 10 * GIB)
        h.gauge("kubelet_volume_stats_available_bytes", claim, (1 + 4 * k) * GIB, 1e6, -9e3 * k)
        h.gauge("kube_persistentvolume_status_phase", {**ksm, "persistentvolume": f"pv-{k}", "phase": "Failed"}, k)
        hpa = {**ksm, "namespace": namespace, "horizontalpodautoscaler": "h"}
        for what, value in (("status_current_replicas", 4), ("spec_max_replicas", 4 + k), ("status_desired_replicas", 4 + k)):
            h.gauge(f"kube_horizontalpodautoscaler_{what}", hpa, value)
        h.gauge("kube_statefulset_replicas", {**ksm, "namespace": namespace, "statefulset": "db"}, 3)
        h.gauge("kube_statefulset_status_replicas_ready", {**ksm, "namespace": namespace, "statefulset": "db"}, 3 - k)
        h.gauge("kube_daemonset_status_number_ready", {**ksm, "namespace": namespace, "daemonset": "agent"}, 3 - k)
        h.gauge("kube_daemonset_status_desired_number_scheduled", {**ksm, "namespace": namespace, "daemonset": "agent"}, 3)
        job = {**ksm, "namespace": namespace, "job_name": f"backup-{k}"}
        for what, value in (("failed", k), ("active", 1), ("start_time", h.end - 5000)):
            h.gauge(f"kube_job_status_{what}", job, value)
        cron = {**ksm, "namespace": namespace, "cronjob": "backup"}
        h.gauge("kube_cronjob_next_schedule_time", cron, h.end - 2000)
        h.gauge("kube_cronjob_spec_suspend", cron, k)


def control_plane(h):
    ksm = {"instance": "ksm:8080", "job": "kube-state-metrics"}
    for n in range(3):
        name = f"n{n}"
        h.gauge("kube_node_info", {**ksm, "node": name}, 1)
        h.gauge("kube_node_spec_unschedulable", {**ksm, "node": name}, int(n == 1))
        for condition, good in (("Ready", int(n != 2)), ("MemoryPressure", int(n == 1)), ("DiskPressure", 0)):
            h.gauge("kube_node_status_condition", {**ksm, "node": name, "condition": condition, "status": "true"}, good)
        for resource, value in (("cpu", 6), ("memory", 16 * GIB), ("pods", 6)):
            h.gauge("kube_node_status_allocatable", {**ksm, "node": name, "resource": resource}, value)
        at = {"instance": f"{name}:10250", "job": "kubelet"}
        h.gauge("kubelet_running_pods", at, 3 + 2 * n)
        h.gauge("process_start_time_seconds", at, h.end - 3000 * n)
        h.gauge("kubelet_certificate_manager_client_ttl_seconds", at, 300000 * n)
        h.histogram("kubelet_pleg_relist_duration_seconds", at, 1, 0.1 + 0.5 * n, (0.1, 0.5, 1, 2.5, 5))
        h.gauge("kubernetes_build_info", {**at, "git_version": f"v1.3{n}.4-custom"}, 1)
        for code, rate in (("200", 20), ("500", 0.5 * n)):
            h.count("rest_client_requests_total", {**at, "code": code}, rate)
    api = {"instance": "api:6443", "job": "apiserver"}
    h.gauge("up", api, 1)
    for verb in ("GET", "LIST", "WATCH"):
        for code, rate in (("200", 30), ("500", 1)):
            h.count("apiserver_request_total", {**api, "verb": verb, "code": code}, rate)
        h.histogram("apiserver_request_duration_seconds", {**api, "verb": verb}, 30, 0.4 if verb == "LIST" else 0.02, (0.05, 0.1, 0.5, 1, 5))
    etcd = {"instance": "etcd:2379", "job": "etcd"}
    h.count("etcd_server_leader_changes_seen_total", etcd, 0.001)
    h.gauge("etcd_mvcc_db_total_size_in_bytes", etcd, 1.2 * GIB, 1e6)
    h.gauge("etcd_server_quota_backend_bytes", etcd, 2 * GIB)
    h.histogram("etcd_disk_wal_fsync_duration_seconds", etcd, 50, 0.004, (0.001, 0.002, 0.004, 0.008, 0.016, 0.032))
    dns = {"instance": "dns:9153", "job": "coredns"}
    for code, rate in (("NOERROR", 90), ("SERVFAIL", 2)):
        h.count("coredns_dns_responses_total", {**dns, "rcode": code}, rate)
    h.histogram("coredns_dns_request_duration_seconds", dns, 90, 0.05, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5))


def fill(h):
    for part in (node, postgres, redis, nginx, blackbox, pods, workloads, control_plane):
        part(h)


def write(path, end):
    """The file, and the time of its newest samples."""
    h = House(end)
    fill(h)
    with open(path, "w") as f:
        f.writelines(h.text())
    return h.end
