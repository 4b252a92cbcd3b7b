/* http.c - the HTTP client block, as it stands in scrapes, discovery, remote storage and
 * Alertmanagers. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "src/config/decode.h"

static nx_status check_tls(struct decoder *d, const struct yaml_node *map, void *obj);

// clang-format off
static const struct field tls_fields[] = {
    FIELD(F_STR,    config_tls, ca,          "ca",          F_OMIT),
    FIELD(F_STR,    config_tls, cert,        "cert",        F_OMIT),
    FIELD(F_SECRET, config_tls, key,         "key",         F_OMIT),
    FIELD(F_PATH,   config_tls, ca_file,     "ca_file",     F_OMIT),
    FIELD(F_PATH,   config_tls, cert_file,   "cert_file",   F_OMIT),
    FIELD(F_PATH,   config_tls, key_file,    "key_file",    F_OMIT),
    FIELD(F_STR,    config_tls, ca_ref,      "ca_ref",      F_OMIT),
    FIELD(F_STR,    config_tls, cert_ref,    "cert_ref",    F_OMIT),
    FIELD(F_STR,    config_tls, key_ref,     "key_ref",     F_OMIT),
    FIELD(F_STR,    config_tls, server_name, "server_name", F_OMIT),
    FIELD(F_BOOL,   config_tls, insecure_skip_verify, "insecure_skip_verify", 0),
    FIELD(F_TLS,    config_tls, min_version, "min_version", F_OMIT),
    FIELD(F_TLS,    config_tls, max_version, "max_version", F_OMIT),
};
const struct record tls_record = {
    .go = "config.plain", .size = sizeof(struct config_tls), .fields = tls_fields,
    .n_fields = NX_COUNT(tls_fields), .line_offset = NO_LINE, .check = check_tls,
};

static const struct field proxy_fields[] = {
    FIELD(F_URL,        config_proxy, url,              "proxy_url",              F_OMIT),
    FIELD(F_STR,        config_proxy, no_proxy,         "no_proxy",               F_OMIT),
    FIELD(F_BOOL,       config_proxy, from_environment, "proxy_from_environment", F_OMIT),
    FIELD(F_PROXY_HEAD, config_proxy, connect_header,   "proxy_connect_header",   F_OMIT),
};
static const struct record proxy_record = {
    .go = "config.ProxyConfig", .size = sizeof(struct config_proxy), .fields = proxy_fields,
    .n_fields = NX_COUNT(proxy_fields), .line_offset = NO_LINE,
};

static const struct field basic_auth_fields[] = {
    FIELD(F_STR,    config_basic_auth, username,      "username",      F_OMIT),
    FIELD(F_PATH,   config_basic_auth, username_file, "username_file", F_OMIT),
    FIELD(F_STR,    config_basic_auth, username_ref,  "username_ref",  F_OMIT),
    FIELD(F_SECRET, config_basic_auth, password,      "password",      F_OMIT),
    FIELD(F_PATH,   config_basic_auth, password_file, "password_file", F_OMIT),
    FIELD(F_STR,    config_basic_auth, password_ref,  "password_ref",  F_OMIT),
};
static const struct record basic_auth_record = {
    .go = "config.plain", .size = sizeof(struct config_basic_auth), .fields = basic_auth_fields,
    .n_fields = NX_COUNT(basic_auth_fields), .line_offset = NO_LINE,
};

static const struct field authorization_fields[] = {
    FIELD(F_STR,    config_authorization, type,             "type",             F_OMIT),
    FIELD(F_SECRET, config_authorization, credentials,      "credentials",      F_OMIT),
    FIELD(F_PATH,   config_authorization, credentials_file, "credentials_file", F_OMIT),
    FIELD(F_STR,    config_authorization, credentials_ref,  "credentials_ref",  F_OMIT),
};
static const struct record authorization_record = {
    .go = "config.Authorization", .size = sizeof(struct config_authorization), .fields = authorization_fields,
    .n_fields = NX_COUNT(authorization_fields), .line_offset = NO_LINE,
};

static const struct field oauth2_fields[] = {
    FIELD(F_STR,    config_oauth2, client_id,                   "client_id",                   F_OMIT),
    FIELD(F_SECRET, config_oauth2, client_secret,               "client_secret",               F_OMIT),
    FIELD(F_PATH,   config_oauth2, client_secret_file,          "client_secret_file",          F_OMIT),
    FIELD(F_STR,    config_oauth2, client_secret_ref,           "client_secret_ref",           F_OMIT),
    FIELD(F_STR,    config_oauth2, client_certificate_key_id,   "client_certificate_key_id",   F_OMIT),
    FIELD(F_SECRET, config_oauth2, client_certificate_key,      "client_certificate_key",      F_OMIT),
    FIELD(F_STR,    config_oauth2, client_certificate_key_file, "client_certificate_key_file", F_OMIT),
    FIELD(F_STR,    config_oauth2, client_certificate_key_ref,  "client_certificate_key_ref",  F_OMIT),
    FIELD(F_STR,    config_oauth2, grant_type,                  "grant_type",                  F_OMIT),
    FIELD(F_STR,    config_oauth2, signature_algorithm,         "signature_algorithm",         F_OMIT),
    FIELD(F_STR,    config_oauth2, iss,                         "iss",                         F_OMIT),
    FIELD(F_STR,    config_oauth2, audience,                    "audience",                    F_OMIT),
    FIELD(F_TREE,   config_oauth2, claims,                      "claims",                      F_OMIT),
    FIELD(F_STRS,   config_oauth2, scopes,                      "scopes",                      F_OMIT),
    FIELD(F_STR,    config_oauth2, token_url,                   "token_url",                   F_OMIT),
    FIELD(F_PAIRS,  config_oauth2, endpoint_params,             "endpoint_params",             F_OMIT),
    FIELD(F_STRUCT, config_oauth2, tls,                         "tls_config",                  F_OMIT, .record = &tls_record),
    FIELD(F_INLINE, config_oauth2, proxy,                       "",                            0, .record = &proxy_record),
};
static const struct record oauth2_record = {
    .go = "config.plain", .size = sizeof(struct config_oauth2), .fields = oauth2_fields,
    .n_fields = NX_COUNT(oauth2_fields), .line_offset = NO_LINE,
};

static const struct field http_fields[] = {
    FIELD(F_POINTER, config_http, basic_auth,        "basic_auth",        F_OMIT, .record = &basic_auth_record),
    FIELD(F_POINTER, config_http, authorization,     "authorization",     F_OMIT, .record = &authorization_record),
    FIELD(F_POINTER, config_http, oauth2,            "oauth2",            F_OMIT, .record = &oauth2_record),
    FIELD(F_SECRET,  config_http, bearer_token,      "bearer_token",      F_OMIT),
    FIELD(F_PATH,    config_http, bearer_token_file, "bearer_token_file", F_OMIT),
    FIELD(F_STRUCT,  config_http, tls,               "tls_config",        F_OMIT, .record = &tls_record),
    FIELD(F_BOOL,    config_http, follow_redirects,  "follow_redirects",  0),
    FIELD(F_BOOL,    config_http, enable_http2,      "enable_http2",      0),
    FIELD(F_INLINE,  config_http, proxy,             "",                  0, .record = &proxy_record),
    FIELD(F_HEADERS, config_http, headers,           "http_headers",      F_OMIT),
};
const struct record http_record = {
    .go = "config.HTTPClientConfig", .size = sizeof(struct config_http), .fields = http_fields,
    .n_fields = NX_COUNT(http_fields), .line_offset = NO_LINE,
};

/* Headers that change the connection, that we set ourselves, or that have fields of their own. */
static const char *const reserved_headers[] = {
    "Authorization", "Host", "Content-Encoding", "Content-Length", "Content-Type", "User-Agent", "Connection",
    "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Www-Authenticate", "Accept-Encoding",
    "X-Prometheus-Remote-Write-Version", "X-Prometheus-Remote-Read-Version",
    "X-Prometheus-Scrape-Timeout-Seconds", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256",
};
// clang-format on

static unsigned count(bool a, bool b, bool c)
{
    return (unsigned)a + b + c;
}

static nx_status check_tls(struct decoder *d, const struct yaml_node *map, void *obj)
{
    const struct config_tls *t = obj;
    bool cert = t->cert.len || t->cert_file.len || t->cert_ref.len;
    bool key = t->key.value.len || t->key_file.len || t->key_ref.len;

    if (count(t->ca.len, t->ca_file.len, t->ca_ref.len) > 1)
        return decode_fail_key(d, map, t->ca_file.len ? "ca_file" : "ca_ref",
                               "at most one of ca, ca_file & ca_ref must be configured");
    if (count(t->cert.len, t->cert_file.len, t->cert_ref.len) > 1)
        return decode_fail_key(d, map, t->cert_file.len ? "cert_file" : "cert_ref",
                               "at most one of cert, cert_file & cert_ref must be configured");
    if (count(t->key.value.len, t->key_file.len, t->key_ref.len) > 1)
        return decode_fail_key(d, map, t->key_file.len ? "key_file" : "key_ref",
                               "at most one of key and key_file must be configured");
    if (cert && !key)
        return decode_fail_key(d, map, t->cert.len ? "cert" : "cert_file",
                               "exactly one of key or key_file must be configured when a client "
                               "certificate is configured");
    if (key && !cert)
        return decode_fail_key(
            d, map, t->key.value.len ? "key" : "key_file",
            "exactly one of cert or cert_file must be configured when a client key is configured");
    return NX_OK;
}

static nx_status check_basic_auth(struct decoder *d, const struct yaml_node *map,
                                  const struct config_basic_auth *b)
{
    if (count(b->username.len, b->username_file.len, b->username_ref.len) > 1)
        return decode_fail_key(
            d, map, "basic_auth",
            "at most one of basic_auth username, username_file & username_ref must be configured");
    if (count(b->password.value.len, b->password_file.len, b->password_ref.len) > 1)
        return decode_fail_key(
            d, map, "basic_auth",
            "at most one of basic_auth password, password_file & password_ref must be configured");
    return NX_OK;
}

static struct nx_slice trimmed(struct nx_slice s)
{
    while (s.len && isspace((unsigned char)*s.ptr))
        s.ptr++, s.len--;
    while (s.len && isspace((unsigned char)s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static nx_status check_authorization(struct decoder *d, const struct yaml_node *map,
                                     struct config_http *h)
{
    struct config_authorization *a = h->authorization;
    struct nx_slice type = trimmed(a->type);

    if (h->bearer_token.value.len || h->bearer_token_file.len)
        return decode_fail_key(
            d, map, "authorization",
            "authorization is not compatible with bearer_token & bearer_token_file");
    if (count(a->credentials.value.len, a->credentials_file.len, a->credentials_ref.len) > 1)
        return decode_fail_key(
            d, map, "authorization",
            "at most one of authorization credentials & credentials_file must be configured");
    if (type.len == 5 && !strncasecmp(type.ptr, "basic", 5))
        return decode_fail_key(
            d, map, "authorization",
            "authorization type cannot be set to \"basic\", use \"basic_auth\" instead");
    if (h->basic_auth || h->oauth2)
        return decode_fail_key(
            d, map, "authorization",
            "at most one of basic_auth, oauth2 & authorization must be configured");
    if (!type.len)
        type = nx_slice_str("Bearer");
    type.ptr = arena_strndup(d->arena, type.ptr, type.len);
    if (!type.ptr)
        return d->failed = arena_failed(d->arena, d->err);
    a->type = type;
    return NX_OK;
}

/* The old names of authorization.credentials. */
static nx_status adopt_bearer_token(struct decoder *d, struct config_http *h)
{
    struct config_authorization *a;

    if (!h->bearer_token.value.len && !h->bearer_token_file.len)
        return NX_OK;
    if (!(a = arena_zalloc(d->arena, sizeof *a)))
        return d->failed = arena_failed(d->arena, d->err);
    a->type = nx_slice_str("Bearer");
    a->credentials = h->bearer_token;
    a->credentials_file = h->bearer_token_file;
    record_seal(&authorization_record, a);
    h->authorization = a;
    h->bearer_token.value = h->bearer_token_file = nx_slice_of("", 0);
    return NX_OK;
}

static nx_status check_oauth2(struct decoder *d, const struct yaml_node *map,
                              const struct config_http *h)
{
    const struct config_oauth2 *o = h->oauth2;

    if (h->basic_auth)
        return decode_fail_key(
            d, map, "oauth2",
            "at most one of basic_auth, oauth2 & authorization must be configured");
    if (!o->client_id.len)
        return decode_fail_key(d, map, "oauth2", "oauth2 client_id must be configured");
    if (!o->token_url.len)
        return decode_fail_key(d, map, "oauth2", "oauth2 token_url must be configured");
    if (nx_slice_is(o->grant_type, "urn:ietf:params:oauth:grant-type:jwt-bearer")) {
        if (count(o->client_certificate_key.value.len, o->client_certificate_key_file.len,
                  o->client_certificate_key_ref.len) > 1)
            return decode_fail_key(
                d, map, "oauth2",
                "at most one of oauth2 client_certificate_key, client_certificate_key_file & "
                "client_certificate_key_ref must be configured using "
                "grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer");
        if (o->signature_algorithm.len && !nx_slice_is(o->signature_algorithm, "RS256") &&
            !nx_slice_is(o->signature_algorithm, "RS384") &&
            !nx_slice_is(o->signature_algorithm, "RS512"))
            return decode_fail_key(d, map, "oauth2",
                                   "valid signature algorithms are RS256, RS384 and RS512");
    } else if (count(o->client_secret.value.len, o->client_secret_file.len,
                     o->client_secret_ref.len) > 1) {
        return decode_fail_key(
            d, map, "oauth2",
            "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be "
            "configured using grant-type=client_credentials");
    }
    return NX_OK;
}

static nx_status check_proxy(struct decoder *d, const struct yaml_node *map,
                             const struct config_proxy *p)
{
    if (p->connect_header.n && !p->from_environment && !p->url.text.len)
        return decode_fail_key(
            d, map, "proxy_connect_header",
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also "
            "be configured");
    if (p->from_environment && p->url.text.len)
        return decode_fail_key(
            d, map, "proxy_url",
            "if proxy_from_environment is configured, proxy_url must not be configured");
    if (p->from_environment && p->no_proxy.len)
        return decode_fail_key(
            d, map, "no_proxy",
            "if proxy_from_environment is configured, no_proxy must not be configured");
    if (!p->url.set && p->no_proxy.len)
        return decode_fail_key(d, map, "no_proxy",
                               "if no_proxy is configured, proxy_url must also be configured");
    return NX_OK;
}

static nx_status check_headers(struct decoder *d, const struct yaml_node *map,
                               const struct config_http_headers *h)
{
    for (size_t i = 0; i < h->n; i++) {
        for (size_t k = 0; k < NX_COUNT(reserved_headers); k++) {
            if (!strcasecmp(h->v[i].name.ptr, reserved_headers[k]))
                return decode_fail_key(d, map, "http_headers",
                                       "setting header \"%s\" is not allowed", reserved_headers[k]);
        }
    }
    return NX_OK;
}

nx_status check_http(struct decoder *d, const struct yaml_node *map, struct config_http *h)
{
    bool bearer = h->bearer_token.value.len || h->bearer_token_file.len;
    nx_status st;

    if (h->bearer_token.value.len && h->bearer_token_file.len)
        return decode_fail_key(
            d, map, "bearer_token_file",
            "at most one of bearer_token & bearer_token_file must be configured");
    if ((h->basic_auth || h->oauth2) && bearer)
        return decode_fail_key(d, map,
                               h->bearer_token.value.len ? "bearer_token" : "bearer_token_file",
                               "at most one of basic_auth, oauth2, bearer_token & "
                               "bearer_token_file must be configured");
    if (h->basic_auth && (st = check_basic_auth(d, map, h->basic_auth)))
        return st;
    st = h->authorization ? check_authorization(d, map, h) : adopt_bearer_token(d, h);
    if (!st && h->oauth2)
        st = check_oauth2(d, map, h);
    if (!st)
        st = check_proxy(d, map, &h->proxy);
    return st ? st : check_headers(d, map, &h->headers);
}
