/* sd.c - tables and checks of all service discoveries.
 *
 * SHAPE   sd.h lists the fields of a kind once; here the lists become tables and defaults, and each
 *         kind has a check for what a table cannot say: required fields, and what excludes what. */
#include "src/config/sd.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "src/config/decode.h"

#define FAIL(field, ...) return decode_fail_key(d, map, field, __VA_ARGS__)

/* ---- pieces ---- */

// clang-format off
static const struct field filter_fields[] = {
    FIELD(F_STR,  config_filter, name,   "name",   0),
    FIELD(F_STRS, config_filter, values, "values", 0),
};
#define FILTER_RECORD(package) { \
    .go = package ".Filter", .size = sizeof(struct config_filter), .fields = filter_fields, \
    .n_fields = NX_COUNT(filter_fields), .line_offset = NO_LINE }
static const struct record filter_record_aws = FILTER_RECORD("aws"), filter_record_moby = FILTER_RECORD("moby");
#define filter_record_ec2         filter_record_aws
#define filter_record_docker      filter_record_moby
#define filter_record_dockerswarm filter_record_moby

static const struct field namespaces_fields[] = {
    FIELD(F_BOOL, config_k8s_namespaces, own_namespace, "own_namespace", 0),
    FIELD(F_STRS, config_k8s_namespaces, names,         "names",         0),
};
static const struct record namespaces_record = {
    .go = "kubernetes.plain", .size = sizeof(struct config_k8s_namespaces), .resets = true,
    .fields = namespaces_fields, .n_fields = NX_COUNT(namespaces_fields), .line_offset = NO_LINE };

static const struct choice choice_kubernetes = {
    "node pod service endpoints endpointslice ingress", "unknown Kubernetes SD role ", true };
static const struct field selector_fields[] = {
    FIELD(F_CHOICE, config_k8s_selector, role,  "role",  F_OMIT, .choice = &choice_kubernetes),
    FIELD(F_STR,    config_k8s_selector, label, "label", F_OMIT),
    FIELD(F_STR,    config_k8s_selector, field, "field", F_OMIT),
};
static const struct record selector_record = {
    .go = "kubernetes.SelectorConfig", .size = sizeof(struct config_k8s_selector),
    .fields = selector_fields, .n_fields = NX_COUNT(selector_fields), .line_offset = NO_LINE };

static const struct field attach_fields[] = {
    FIELD(F_BOOL, config_k8s_attach, node,       "node",       0),
    FIELD(F_BOOL, config_k8s_attach, namespace,  "namespace",  0),
    FIELD(F_BOOL, config_k8s_attach, deployment, "deployment", 0),
    FIELD(F_BOOL, config_k8s_attach, job,        "job",        0),
    FIELD(F_BOOL, config_k8s_attach, cronjob,    "cronjob",    0),
};
static const struct record attach_record = {
    .go = "kubernetes.AttachMetadataConfig", .size = sizeof(struct config_k8s_attach),
    .fields = attach_fields, .n_fields = NX_COUNT(attach_fields), .line_offset = NO_LINE };

static const struct choice choice_aws = { "ec2 ecs elasticache lightsail msk rds", "unknown AWS SD role ", true };
static const struct choice choice_digitalocean = { "droplets databases", "unknown DigitalOcean SD role ", true };
static const struct choice choice_hetzner = { "robot hcloud", "unknown role ", true };
static const struct choice choice_openstack = {
    "hypervisor instance loadbalancer", "unknown OpenStack SD role ", true };
static const struct choice choice_scaleway = { "instance baremetal", "unknown role ", true };

static const struct field group_fields[] = {
    FIELD(F_STRS,      config_target_group, targets, "targets", 0),
    FIELD(F_LABEL_SET, config_target_group, labels,  "labels",  F_OMIT),
};
// clang-format on

/* A group is never without a list of targets: what has none was null. */
static nx_status check_group(struct decoder *d, const struct yaml_node *map, void *obj)
{
    static struct nx_slice no_targets;
    struct config_target_group *g = obj;

    (void)d;
    (void)map;
    if (!g->targets.v)
        g->targets.v = &no_targets;
    return NX_OK;
}

const struct record static_group_record = {
    .go = "struct { Targets []string \"yaml:\\\"targets\\\"\"; Labels model.LabelSet "
          "\"yaml:\\\"labels\\\"\" }",
    .size = sizeof(struct config_target_group),
    .resets = true,
    .fields = group_fields,
    .n_fields = NX_COUNT(group_fields),
    .line_offset = NO_LINE,
    .check = check_group,
};

/* ---- checks, one a kind ---- */

static bool blank(struct nx_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!isspace((unsigned char)s.ptr[i]))
            return false;
    }
    return true;
}

static bool is_one_of(struct nx_slice s, const char *a, const char *b, const char *c)
{
    return nx_slice_is(s, a) || nx_slice_is(s, b) || (c && nx_slice_is(s, c));
}

/* Parses text of a string field as a URL; the text of a failure is the URL library's. */
static nx_status want_url(struct decoder *d, const struct yaml_node *map, const char *field,
                          const char *before, struct nx_slice text, struct config_url *url)
{
    struct nx_err why = {0};

    if (url_parse(d->arena, text, url, &why))
        FAIL(field, "%s%s", before, why.text);
    return NX_OK;
}

static nx_status want_http_url(struct decoder *d, const struct yaml_node *map, struct nx_slice text)
{
    struct config_url url;
    nx_status st;

    if (!text.len)
        FAIL("url", "URL is missing");
    if ((st = want_url(d, map, "url", "", text, &url)))
        return st;
    if (!is_one_of(url.scheme, "http", "https", NULL))
        FAIL("url", "URL scheme must be 'http' or 'https'");
    if (!url.host.len)
        FAIL("url", "host is missing in URL");
    return NX_OK;
}

#define CHECK(kind)                                                                                \
    static nx_status verify_##kind(struct decoder *d, const struct yaml_node *map,                 \
                                   struct config_sd_##kind *c)

CHECK(aws)
{
    if (!c->role.len)
        FAIL("role", "unknown AWS SD role \"\"");
    return NX_OK;
}

CHECK(azure)
{
    if (!c->subscription_id.len)
        FAIL("subscription_id", "azure SD configuration requires a subscription_id");
    if (nx_slice_is(c->authentication_method, "OAuth")) {
        if (!c->tenant_id.len)
            FAIL("tenant_id", "azure SD configuration requires a tenant_id");
        if (!c->client_id.len)
            FAIL("client_id", "azure SD configuration requires a client_id");
        if (!c->client_secret.value.len)
            FAIL("client_secret", "azure SD configuration requires a client_secret");
    } else if (!is_one_of(c->authentication_method, "ManagedIdentity", "SDK", "WorkloadIdentity")) {
        FAIL("authentication_method",
             "unknown authentication_type %s. Supported types are \"OAuth\", \"ManagedIdentity\", "
             "\"SDK\" or "
             "\"WorkloadIdentity\"",
             decode_quote(d, c->authentication_method));
    }
    return check_http(d, map, &c->http);
}

CHECK(consul)
{
    if (blank(c->server))
        FAIL("server", "consul SD configuration requires a server address");
    if (c->username.len || c->password.value.len) {
        if (c->http.basic_auth)
            FAIL("basic_auth", "at most one of consul SD configuration username and password and "
                               "basic auth can be configured");
        c->http.basic_auth = arena_zalloc(d->arena, sizeof *c->http.basic_auth);
        if (!c->http.basic_auth)
            return d->failed = arena_failed(d->arena, d->err);
        *c->http.basic_auth = (struct config_basic_auth){.username = c->username,
                                                         .username_file = EMPTY_SLICE,
                                                         .username_ref = EMPTY_SLICE,
                                                         .password = c->password,
                                                         .password_file = EMPTY_SLICE,
                                                         .password_ref = EMPTY_SLICE};
    }
    if (c->token.value.len && (c->http.authorization || c->http.oauth2))
        FAIL("token", "at most one of consul SD token, authorization, or oauth2 can be configured");
    return check_http(d, map, &c->http);
}

CHECK(digitalocean)
{
    if (!c->role.len)
        FAIL("role", "role missing (one of: droplets, databases)");
    return check_http(d, map, &c->http);
}

CHECK(dns)
{
    static const char *const with_port[] = {"A", "AAAA", "MX", "NS"};

    if (!c->names.n)
        FAIL("names", "DNS-SD config must contain at least one SRV record name");
    if (!strcasecmp(c->type.ptr, "SRV"))
        return NX_OK;
    for (size_t i = 0; i < NX_COUNT(with_port); i++) {
        if (strcasecmp(c->type.ptr, with_port[i]))
            continue;
        if (!c->port)
            FAIL("port", "a port is required in DNS-SD configs for all record types except SRV");
        return NX_OK;
    }
    FAIL("type", "invalid DNS-SD records type %s", c->type.ptr);
}

CHECK(docker)
{
    struct config_url url;
    nx_status st;

    if (!c->host.len)
        FAIL("host", "host missing");
    if ((st = want_url(d, map, "host", "", c->host, &url)))
        return st;
    return check_http(d, map, &c->http);
}

CHECK(dockerswarm)
{
    struct config_url url;
    nx_status st;

    if (!c->host.len)
        FAIL("host", "host missing");
    if ((st = want_url(d, map, "host", "", c->host, &url)))
        return st;
    if (!c->role.len)
        FAIL("role", "role missing (one of: tasks, services, nodes)");
    if (!is_one_of(c->role, "services", "nodes", "tasks"))
        FAIL("role", "invalid role %s, expected tasks, services, or nodes", c->role.ptr);
    return check_http(d, map, &c->http);
}

CHECK(ec2)
{
    for (size_t i = 0; i < c->filters.n; i++) {
        if (!c->filters.v[i].values.n)
            return decode_fail_item(d, map, "filters", i,
                                    "EC2 SD configuration filter values cannot be empty");
    }
    return check_http(d, map, &c->http);
}

CHECK(eureka)
{
    struct config_url url;
    nx_status st;

    if (!c->server.len)
        FAIL("server", "eureka_sd: empty or null eureka server");
    if ((st = want_url(d, map, "server", "", c->server, &url)))
        return st;
    if (!url.scheme.len || !url.host.len)
        FAIL("server", "eureka_sd: invalid eureka server URL");
    return check_http(d, map, &c->http);
}

/* One * at most, in the last part of the path, and an extension that says what is in the file. */
static bool file_path_ok(struct nx_slice path)
{
    static const char *const extensions[] = {".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"};
    const char *star;

    for (size_t i = 0; i < NX_COUNT(extensions); i++) {
        size_t len = strlen(extensions[i]);

        if (path.len < len || memcmp(path.ptr + path.len - len, extensions[i], len))
            continue;
        star = memchr(path.ptr, '*', path.len - len);
        return !star || !memchr(star, '/', path.len - len - (size_t)(star - path.ptr));
    }
    return false;
}

static nx_status check_file(struct decoder *d, const struct yaml_node *map,
                            struct config_file_sd *c)
{
    if (!c->files.n)
        FAIL("files", "file service discovery config must contain at least one path name");
    for (size_t i = 0; i < c->files.n; i++) {
        if (!file_path_ok(c->files.v[i]))
            return decode_fail_item(d, map, "files", i,
                                    "path name %s is not valid for file discovery",
                                    decode_quote(d, c->files.v[i]));
    }
    return NX_OK;
}

CHECK(gce)
{
    if (!c->project.len)
        FAIL("project", "GCE SD configuration requires a project");
    if (!c->zone.len)
        FAIL("zone", "GCE SD configuration requires a zone");
    return NX_OK;
}

CHECK(hetzner)
{
    if (!c->role.len)
        FAIL("role", "role missing (one of: robot, hcloud)");
    return check_http(d, map, &c->http);
}

CHECK(http)
{
    nx_status st = want_http_url(d, map, c->url);

    return st ? st : check_http(d, map, &c->http);
}

CHECK(ionos)
{
    if (!c->datacenter_id.len)
        FAIL("datacenter_id", "datacenter id can't be empty");
    return check_http(d, map, &c->http);
}

/* Does the block differ from its defaults? */
static bool http_said(const struct config_http *h)
{
    const struct config_tls *t = &h->tls;

    return h->basic_auth || h->authorization || h->oauth2 || !h->follow_redirects ||
           !h->enable_http2 || h->proxy.url.set || h->proxy.no_proxy.len ||
           h->proxy.from_environment || h->proxy.connect_header.v || h->headers.v || t->ca.len ||
           t->cert.len || t->key.value.len || t->ca_file.len || t->cert_file.len ||
           t->key_file.len || t->ca_ref.len || t->cert_ref.len || t->key_ref.len ||
           t->server_name.len || t->insecure_skip_verify || t->min_version || t->max_version;
}

/* Field selectors: path=value, ==, or !=, comma-separated. */
static nx_status check_field_selector(struct decoder *d, const struct yaml_node *map, size_t i,
                                      struct nx_slice s)
{
    while (s.len) {
        const char *comma = memchr(s.ptr, ',', s.len);
        struct nx_slice term = {s.ptr, comma ? (size_t)(comma - s.ptr) : s.len};

        if (term.len && !memchr(term.ptr, '=', term.len))
            return decode_fail_item(d, map, "selectors", i,
                                    "invalid selector: '%.*s'; can't understand '%.*s'", (int)s.len,
                                    s.ptr, (int)term.len, term.ptr);
        s.ptr += term.len + (comma != NULL);
        s.len -= term.len + (comma != NULL);
    }
    return NX_OK;
}

static const struct {
    const char *role, *selectors; /* comma and blank between them: as the message shows them */
} k8s_selectors[] = {
    {"pod", "pod, node"},
    {"service", "service"},
    {"endpointslice", "pod, service, endpointslice"},
    {"endpoints", "pod, service, endpoints"},
    {"node", "node"},
    {"ingress", "ingress"},
};

static bool selector_allowed(const char *list, struct nx_slice role)
{
    while (*list) {
        size_t len = strcspn(list, ",");

        if (len == role.len && !memcmp(list, role.ptr, len))
            return true;
        list += len;
        list += strspn(list, ", ");
    }
    return false;
}

static nx_status check_selectors(struct decoder *d, const struct yaml_node *map,
                                 const struct config_sd_kubernetes *c)
{
    const char *allowed = "";
    nx_status st = NX_OK;

    for (size_t i = 0; i < NX_COUNT(k8s_selectors); i++) {
        if (nx_slice_is(c->role, k8s_selectors[i].role))
            allowed = k8s_selectors[i].selectors;
    }
    for (size_t i = 0; i < c->selectors.n && !st; i++) {
        const struct config_k8s_selector *s = &c->selectors.v[i];

        for (size_t k = 0; k < i; k++) {
            if (nx_slice_eq(c->selectors.v[k].role, s->role))
                return decode_fail_item(d, map, "selectors", i, "duplicated selector role: %s",
                                        s->role.ptr ? s->role.ptr : "");
        }
        if (!selector_allowed(allowed, s->role))
            return decode_fail_item(d, map, "selectors", i, "%s role supports only %s selectors",
                                    c->role.ptr, allowed);
        st = check_field_selector(d, map, i, s->field);
    }
    return st;
}

CHECK(kubernetes)
{
    bool api = c->api_server.set, kubeconfig = c->kubeconfig_file.len;
    nx_status st;

    if (!c->role.len)
        FAIL("role",
             "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)");
    if ((st = check_http(d, map, &c->http)))
        return st;
    if (api && kubeconfig)
        FAIL("kubeconfig_file", "cannot use 'kubeconfig_file' and 'api_server' simultaneously");
    if (kubeconfig && http_said(&c->http))
        FAIL("kubeconfig_file",
             "cannot use a custom HTTP client configuration together with 'kubeconfig_file'");
    if (!api && http_said(&c->http))
        FAIL("api_server", "to use custom HTTP client configuration please provide the "
                           "'api_server' URL explicitly");
    if (api && c->namespaces.own_namespace)
        FAIL("namespaces", "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously");
    if (kubeconfig && c->namespaces.own_namespace)
        FAIL("namespaces",
             "cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously");
    return check_selectors(d, map, c);
}

CHECK(kuma)
{
    struct config_url url;
    nx_status st;

    if (!c->server.len)
        FAIL("server", "kuma SD server must not be empty: ");
    if ((st = want_url(d, map, "server", "", c->server, &url)))
        return st;
    if (!url.scheme.len || !url.host.len)
        FAIL("server", "kuma SD server must not be empty and have a scheme: %s", c->server.ptr);
    return check_http(d, map, &c->http);
}

CHECK(lightsail)
{
    return check_http(d, map, &c->http);
}

CHECK(linode)
{
    return check_http(d, map, &c->http);
}

CHECK(marathon)
{
    bool token = c->auth_token.value.len, file = c->auth_token_file.len;

    if (!c->servers.n)
        FAIL("servers", "marathon_sd: must contain at least one Marathon server");
    if (token && file)
        FAIL("auth_token_file",
             "marathon_sd: at most one of auth_token & auth_token_file must be configured");
    if (token || file) {
        if (c->http.basic_auth)
            FAIL("basic_auth", "marathon_sd: at most one of basic_auth, auth_token & "
                               "auth_token_file must be configured");
        if (c->http.bearer_token.value.len || c->http.bearer_token_file.len)
            FAIL(c->http.bearer_token.value.len ? "bearer_token" : "bearer_token_file",
                 "marathon_sd: at most one of bearer_token, bearer_token_file, auth_token & "
                 "auth_token_file must be "
                 "configured");
        if (c->http.authorization)
            FAIL("authorization", "marathon_sd: at most one of auth_token, auth_token_file & "
                                  "authorization must be configured");
    }
    return check_http(d, map, &c->http);
}

static nx_status check_zookeeper(struct decoder *d, const struct yaml_node *map, const char *what,
                                 const struct config_strings *servers,
                                 const struct config_strings *paths)
{
    if (!servers->n)
        FAIL("servers", "%s SD config must contain at least one Zookeeper server", what);
    if (!paths->n)
        FAIL("paths", "%s SD config must contain at least one path", what);
    for (size_t i = 0; i < paths->n; i++) {
        if (!paths->v[i].len || *paths->v[i].ptr != '/')
            return decode_fail_item(d, map, "paths", i,
                                    "%s SD config paths must begin with '/': %s", what,
                                    paths->v[i].ptr);
    }
    return NX_OK;
}

CHECK(nerve)
{
    return check_zookeeper(d, map, "nerve", &c->servers, &c->paths);
}

CHECK(serverset)
{
    return check_zookeeper(d, map, "serverset", &c->servers, &c->paths);
}

CHECK(nomad)
{
    if (blank(c->server))
        FAIL("server", "nomad SD configuration requires a server address");
    return check_http(d, map, &c->http);
}

static nx_status check_oci_auth(struct decoder *d, const struct yaml_node *map,
                                const struct config_sd_oci *c)
{
    bool passphrase = c->key_passphrase.value.len, file = c->key_passphrase_file.len;

    if (nx_slice_is(c->auth, "instance_principal")) {
        if (c->tenancy.len || c->user.len || c->fingerprint.len || c->key_file.len || passphrase ||
            file)
            FAIL("auth", "oci_sd: instance_principal auth must not have tenancy, user, "
                         "fingerprint, key_file, "
                         "key_passphrase, or key_passphrase_file set");
        return NX_OK;
    }
    if (!nx_slice_is(c->auth, "api_key"))
        FAIL("auth",
             "oci_sd: unknown auth method %s, expected \"api_key\" or \"instance_principal\"",
             decode_quote(d, c->auth));
    if (!c->tenancy.len)
        FAIL("tenancy", "oci_sd: api_key auth requires tenancy");
    if (!c->user.len)
        FAIL("user", "oci_sd: api_key auth requires user");
    if (!c->fingerprint.len)
        FAIL("fingerprint", "oci_sd: api_key auth requires fingerprint");
    if (!c->key_file.len)
        FAIL("key_file", "oci_sd: api_key auth requires key_file");
    if (passphrase && file)
        FAIL("key_passphrase_file",
             "oci_sd: at most one of key_passphrase and key_passphrase_file must be configured");
    return NX_OK;
}

CHECK(oci)
{
    nx_status st;

    if (!c->region.len)
        FAIL("region", "oci_sd: region is required");
    if ((st = check_oci_auth(d, map, c)))
        return st;
    for (size_t i = 0; i < c->compartments.n; i++) {
        if (!c->compartments.v[i].len)
            return decode_fail_item(d, map, "compartments", i,
                                    "oci_sd: compartments[%zu] must not be empty", i);
    }
    if (c->refresh_interval <= 0)
        FAIL("refresh_interval", "oci_sd: refresh_interval must be positive, got 0s");
    return check_http(d, map, &c->http);
}

CHECK(openstack)
{
    if (!is_one_of(c->availability, "public", "internal", "admin"))
        FAIL("availability", "unknown availability %s, must be one of admin, internal or public",
             c->availability.ptr);
    if (!c->role.len)
        FAIL("role", "role missing (one of: instance, hypervisor, loadbalancer)");
    if (!c->region.len)
        FAIL("region", "openstack SD configuration requires a region");
    return NX_OK;
}

static nx_status check_secret_key(struct decoder *d, const struct yaml_node *map,
                                  struct config_secret key, struct nx_slice file)
{
    if (!key.value.len && !file.len)
        FAIL("secret_key", "one of secret_key & secret_key_file must be configured");
    if (key.value.len && file.len)
        FAIL("secret_key_file", "at most one of secret_key & secret_key_file must be configured");
    return NX_OK;
}

CHECK(outscale)
{
    nx_status st;

    if (!c->region.len)
        FAIL("region", "outscale SD configuration requires a region");
    if (!c->access_key.len)
        FAIL("access_key", "outscale SD configuration requires access_key");
    if ((st = check_secret_key(d, map, c->secret_key, c->secret_key_file)))
        return st;
    if (!c->endpoint.len) {
        char *url = arena_printf(d->arena, "https://api.%s.outscale.com/api/v1", c->region.ptr);

        if (!url)
            return d->failed = arena_failed(d->arena, d->err);
        c->endpoint = nx_slice_str(url);
    }
    return check_http(d, map, &c->http);
}

CHECK(ovhcloud)
{
    if (!c->endpoint.len)
        FAIL("endpoint", "endpoint can not be empty");
    if (!c->application_key.len)
        FAIL("application_key", "application key can not be empty");
    if (!c->application_secret.value.len)
        FAIL("application_secret", "application secret can not be empty");
    if (!c->consumer_key.value.len)
        FAIL("consumer_key", "consumer key can not be empty");
    if (!is_one_of(c->service, "dedicated_server", "vps", NULL))
        FAIL("service", "unknown service: %s", c->service.ptr);
    return NX_OK;
}

CHECK(puppetdb)
{
    nx_status st = want_http_url(d, map, c->url);

    if (st)
        return st;
    if (!c->query.len)
        FAIL("query", "query missing");
    return check_http(d, map, &c->http);
}

CHECK(scaleway)
{
    nx_status st;

    if (!c->role.len)
        FAIL("role", "role missing (one of: instance, baremetal)");
    if (!c->project_id.len)
        FAIL("project_id", "project_id is mandatory");
    if ((st = check_secret_key(d, map, c->secret_key, c->secret_key_file)))
        return st;
    if (!c->access_key.len)
        FAIL("access_key", "access_key is mandatory");
    return check_http(d, map, &c->http);
}

CHECK(stackit)
{
    struct config_url url;
    nx_status st;
    char before[300];

    if (!c->endpoint.len && !c->region.len)
        FAIL("region", "stackit_sd: endpoint and region missing");
    snprintf(before, sizeof before,
             "stackit_sd: invalid endpoint %s: ", decode_quote(d, c->endpoint));
    if ((st = want_url(d, map, "endpoint", before, c->endpoint, &url)))
        return st;
    return check_http(d, map, &c->http);
}

CHECK(triton)
{
    if (!is_one_of(c->role, "container", "cn", NULL))
        FAIL("role", "triton SD configuration requires role to be 'container' or 'cn'");
    if (!c->account.len)
        FAIL("account", "triton SD configuration requires an account");
    if (!c->dns_suffix.len)
        FAIL("dns_suffix", "triton SD configuration requires a dns_suffix");
    if (!c->endpoint.len)
        FAIL("endpoint", "triton SD configuration requires an endpoint");
    if (c->refresh_interval <= 0)
        FAIL("refresh_interval",
             "triton SD configuration requires RefreshInterval to be a positive integer");
    return NX_OK;
}

CHECK(uyuni)
{
    struct config_url url;
    nx_status st;

    if (!c->server.len)
        FAIL("server", "Uyuni SD configuration requires server host");
    if ((st = want_url(d, map, "server", "Uyuni Server URL is not valid: ", c->server, &url)))
        return st;
    if (!c->username.len)
        FAIL("username", "Uyuni SD configuration requires a username");
    if (!c->password.value.len)
        FAIL("password", "Uyuni SD configuration requires a password");
    return check_http(d, map, &c->http);
}

CHECK(vultr)
{
    return check_http(d, map, &c->http);
}

/* ---- tables ---- */

// clang-format off
#define SD_ROW(K, kind, member, flags, ...) SD_ROW_##kind(K, member, flags)
#define SD_ROW_STR(K, m, f)        FIELD(F_STR,      config_sd_##K, m, #m, f),
#define SD_ROW_PATH(K, m, f)       FIELD(F_PATH,     config_sd_##K, m, #m, f),
#define SD_ROW_CHOICE(K, m, f)     FIELD(F_CHOICE,   config_sd_##K, m, #m, f, .choice = &choice_##K),
#define SD_ROW_SECRET(K, m, f)     FIELD(F_SECRET,   config_sd_##K, m, #m, f),
#define SD_ROW_BOOL(K, m, f)       FIELD(F_BOOL,     config_sd_##K, m, #m, f),
#define SD_ROW_INT(K, m, f)        FIELD(F_INT,      config_sd_##K, m, #m, f),
#define SD_ROW_DURATION(K, m, f)   FIELD(F_DURATION, config_sd_##K, m, #m, f),
#define SD_ROW_STRS(K, m, f)       FIELD(F_STRS,     config_sd_##K, m, #m, f),
#define SD_ROW_PATHS(K, m, f)      FIELD(F_PATHS,    config_sd_##K, m, #m, f),
#define SD_ROW_PAIRS(K, m, f)      FIELD(F_PAIRS,    config_sd_##K, m, #m, f),
#define SD_ROW_URL(K, m, f)        FIELD(F_URL,      config_sd_##K, m, #m, f),
#define SD_ROW_HTTP(K, m, f)       FIELD(F_INLINE,   config_sd_##K, m, "", f, .record = &http_record),
#define SD_ROW_TLSCONF(K, m, f)    FIELD(F_STRUCT,   config_sd_##K, m, #m, f, .record = &tls_record),
#define SD_ROW_FILTERS(K, m, f)    FIELD(F_LIST,     config_sd_##K, m, #m, f, .record = &filter_record_##K),
#define SD_ROW_NAMESPACES(K, m, f) FIELD(F_STRUCT,   config_sd_##K, m, #m, f, .record = &namespaces_record),
#define SD_ROW_SELECTORS(K, m, f)  FIELD(F_LIST,     config_sd_##K, m, #m, f, .record = &selector_record, \
                                         .go = "[]kubernetes.SelectorConfig"),
#define SD_ROW_ATTACH(K, m, f)     FIELD(F_STRUCT,   config_sd_##K, m, #m, f, .record = &attach_record),

#define SD_HTTP { .follow_redirects = true, .enable_http2 = true }
#define SD_DEFAULT(K, kind, member, flags, ...) .member = __VA_ARGS__,
#define SD_TABLE(name, upper, LIST, package, type) \
    static const struct field name##_fields[] = { LIST(SD_ROW, name) }; \
    static const struct config_sd_##name name##_defaults = { LIST(SD_DEFAULT, name) }; \
    static nx_status check_any_##name(struct decoder *d, const struct yaml_node *map, void *obj) \
    { \
        return verify_##name(d, map, obj); \
    } \
    static const struct record sd_record_##name = { \
        .go = package ".plain", .size = sizeof(struct config_sd_##name), .defaults = &name##_defaults, \
        .resets = true, .fields = name##_fields, .n_fields = NX_COUNT(name##_fields), \
        .line_offset = NO_LINE, .check = check_any_##name, \
    };
SD_KINDS(SD_TABLE)

static const struct field file_fields[] = {
    FIELD(F_PATHS,    config_file_sd, files,               "files",            0),
    FIELD(F_DURATION, config_file_sd, refresh_interval_ms, "refresh_interval", F_OMIT),
};
static const struct config_file_sd file_defaults = { .refresh_interval_ms = 300 * SD_SECOND };
static nx_status check_any_file(struct decoder *d, const struct yaml_node *map, void *obj)
{
    return check_file(d, map, obj);
}
static const struct record sd_record_file = {
    .go = "file.plain", .size = sizeof(struct config_file_sd), .defaults = &file_defaults, .resets = true,
    .fields = file_fields, .n_fields = NX_COUNT(file_fields), .line_offset = NO_LINE, .check = check_any_file,
};

#define SD_LINE(name_, upper, LIST, package, type) \
    [CONFIG_SD_##upper] = { #name_, #name_ "_sd_configs", "[]*" package "." type, &sd_record_##name_ },
const struct sd_row sd_rows[CONFIG_SD_COUNT] = {
    SD_KINDS(SD_LINE)
    [CONFIG_SD_FILE] = { "file", "file_sd_configs", "[]*file.SDConfig", &sd_record_file },
    [CONFIG_SD_STATIC] = { "static", "static_configs", "[]*targetgroup.Group", &static_group_record },
};
// clang-format on

const char *config_sd_name(enum config_sd_kind kind)
{
    return sd_rows[kind].name;
}

const char *config_sd_key(enum config_sd_kind kind)
{
    return sd_rows[kind].key;
}

const struct config_http *config_sd_http(const struct config_sd *sd)
{
    const struct record *r = sd_rows[sd->kind].record;

    for (size_t i = 0; i < r->n_fields; i++) {
        if (r->fields[i].record == &http_record)
            return (const struct config_http *)((const char *)sd->u.any + r->fields[i].offset);
    }
    return NULL;
}
