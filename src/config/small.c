/* small.c - files of their own beside prometheus.yml: an HTTP client's settings, the web server's, unit tests of
 * rules.
 *
 * RULES   S1  The web server's file is judged in the order and in the words of exporter-toolkit, which
 *             all exporters share: users, then headers, then TLS. */
#include <string.h>

#include "src/base/limits.h"
#include "src/base/text.h"
#include "src/config/decode.h"

#define SMALL_ARENA_BYTES (64u << 20)

// clang-format off
static const struct field web_tls_fields[] = {
    FIELD(F_STR,    config_web_tls, cert,                        "cert",                        0),
    FIELD(F_SECRET, config_web_tls, key,                         "key",                         0),
    FIELD(F_STR,    config_web_tls, client_ca,                   "client_ca",                   0),
    FIELD(F_PATH,   config_web_tls, cert_file,                   "cert_file",                   0),
    FIELD(F_PATH,   config_web_tls, key_file,                    "key_file",                    0),
    FIELD(F_STR,    config_web_tls, client_auth_type,            "client_auth_type",            0),
    FIELD(F_PATH,   config_web_tls, client_ca_file,              "client_ca_file",              0),
    FIELD(F_STRS,   config_web_tls, cipher_suites,               "cipher_suites",               0, .go = "[]web.Cipher"),
    FIELD(F_STRS,   config_web_tls, curve_preferences,           "curve_preferences",           0, .go = "[]web.Curve"),
    FIELD(F_STR,    config_web_tls, min_version,                 "min_version",                 0),
    FIELD(F_STR,    config_web_tls, max_version,                 "max_version",                 0),
    FIELD(F_BOOL,   config_web_tls, prefer_server_cipher_suites, "prefer_server_cipher_suites", 0),
    FIELD(F_STRS,   config_web_tls, client_allowed_sans,         "client_allowed_sans",         0),
};
static const struct record web_tls_record = {
    .go = "web.TLSConfig", .size = sizeof(struct config_web_tls), .fields = web_tls_fields,
    .n_fields = NX_COUNT(web_tls_fields), .line_offset = NO_LINE,
};
static const struct field web_http_fields[] = {
    FIELD(F_BOOL,  config_web_http, http2,   "http2",   0),
    FIELD(F_PAIRS, config_web_http, headers, "headers", 0),
};
static const struct record web_http_record = {
    .go = "web.HTTPConfig", .size = sizeof(struct config_web_http), .fields = web_http_fields,
    .n_fields = NX_COUNT(web_http_fields), .line_offset = NO_LINE,
};
static const struct field web_rate_fields[] = {
    FIELD(F_INT, config_web_rate, burst,    "burst",    0),
    FIELD(F_STR, config_web_rate, interval, "interval", 0),
};
static const struct record web_rate_record = {
    .go = "web.RateLimiterConfig", .size = sizeof(struct config_web_rate), .fields = web_rate_fields,
    .n_fields = NX_COUNT(web_rate_fields), .line_offset = NO_LINE,
};
static const struct field web_fields[] = {
    FIELD(F_STRUCT, config_web, tls,   "tls_server_config",  0, .record = &web_tls_record),
    FIELD(F_STRUCT, config_web, http,  "http_server_config", 0, .record = &web_http_record),
    FIELD(F_STRUCT, config_web, rate,  "rate_limit",         0, .record = &web_rate_record),
    FIELD(F_PAIRS,  config_web, users, "basic_auth_users",   0),
};
static const struct record web_record = {
    .go = "web.Config", .size = sizeof(struct config_web), .fields = web_fields,
    .n_fields = NX_COUNT(web_fields), .line_offset = NO_LINE,
};

static const struct field test_alert_fields[] = {
    FIELD(F_PAIRS, config_test_alert, labels,      "exp_labels",      0),
    FIELD(F_PAIRS, config_test_alert, annotations, "exp_annotations", 0),
};
static const struct record test_alert_record = {
    .go = "main.alert", .size = sizeof(struct config_test_alert), .resets = true, .fields = test_alert_fields,
    .n_fields = NX_COUNT(test_alert_fields), .line_offset = NO_LINE,
};
static const struct field alert_test_fields[] = {
    FIELD(F_DURATION, config_alert_test, eval_ms,   "eval_time",  0),
    FIELD(F_STR,      config_alert_test, alertname, "alertname",  0),
    FIELD(F_LIST,     config_alert_test, alerts,    "exp_alerts", 0, .record = &test_alert_record, .go = "[]main.alert"),
};
static const struct record alert_test_record = {
    .go = "main.alertTestCase", .size = sizeof(struct config_alert_test), .resets = true, .fields = alert_test_fields,
    .n_fields = NX_COUNT(alert_test_fields), .line_offset = NO_LINE,
};
static const struct field test_sample_fields[] = {
    FIELD(F_STR,   config_test_sample, labels,    "labels",    0),
    FIELD(F_FLOAT, config_test_sample, value,     "value",     0),
    FIELD(F_STR,   config_test_sample, histogram, "histogram", 0),
};
static const struct record test_sample_record = {
    .go = "main.sample", .size = sizeof(struct config_test_sample), .resets = true, .fields = test_sample_fields,
    .n_fields = NX_COUNT(test_sample_fields), .line_offset = NO_LINE,
};
static const struct field expr_test_fields[] = {
    FIELD(F_STR,      config_expr_test, expr,    "expr",        0),
    FIELD(F_DURATION, config_expr_test, eval_ms, "eval_time",   0),
    FIELD(F_LIST,     config_expr_test, samples, "exp_samples", 0, .record = &test_sample_record, .go = "[]main.sample"),
};
static const struct record expr_test_record = {
    .go = "main.promqlTestCase", .size = sizeof(struct config_expr_test), .resets = true, .fields = expr_test_fields,
    .n_fields = NX_COUNT(expr_test_fields), .line_offset = NO_LINE,
};
static const struct field test_series_fields[] = {
    FIELD(F_STR, config_test_series, series, "series", 0),
    FIELD(F_STR, config_test_series, values, "values", 0),
};
static const struct record test_series_record = {
    .go = "main.series", .size = sizeof(struct config_test_series), .resets = true, .fields = test_series_fields,
    .n_fields = NX_COUNT(test_series_fields), .line_offset = NO_LINE,
};
static const struct field test_fields[] = {
    FIELD(F_DURATION, config_test, interval_ms,     "interval",         0),
    FIELD(F_LIST,     config_test, input,           "input_series",     0, .record = &test_series_record, .go = "[]main.series"),
    FIELD(F_LIST,     config_test, alerts,          "alert_rule_test",  0, .record = &alert_test_record, .go = "[]main.alertTestCase"),
    FIELD(F_LIST,     config_test, exprs,           "promql_expr_test", 0, .record = &expr_test_record, .go = "[]main.promqlTestCase"),
    FIELD(F_LABELS,   config_test, external_labels, "external_labels",  0),
    FIELD(F_STR,      config_test, external_url,    "external_url",     0),
    FIELD(F_STR,      config_test, name,            "name",             0),
    FIELD(F_STR,      config_test, start_timestamp, "start_timestamp",  0),
};
static const struct record test_record = {
    .go = "main.testGroup", .size = sizeof(struct config_test), .resets = true, .fields = test_fields,
    .n_fields = NX_COUNT(test_fields), .line_offset = NO_LINE,
};
static const struct field tests_fields[] = {
    FIELD(F_STRS,     config_tests, rule_files,    "rule_files",          0),
    FIELD(F_DURATION, config_tests, interval_ms,   "evaluation_interval", 0),
    FIELD(F_STRS,     config_tests, group_order,   "group_eval_order",    0),
    FIELD(F_LIST,     config_tests, tests,         "tests",               0, .record = &test_record, .go = "[]main.testGroup"),
    FIELD(F_BOOL,     config_tests, fuzzy_compare, "fuzzy_compare",       0),
};
static const struct record tests_record = {
    .go = "main.unitTestFile", .size = sizeof(struct config_tests), .fields = tests_fields,
    .n_fields = NX_COUNT(tests_fields), .line_offset = NO_LINE,
};
// clang-format on

/* ---- files ------------------------------------------------------------------------------------- */

/* Reads, decodes into obj, which holds its defaults, and checks as a block of prometheus.yml. */
static nx_status load(const struct record *r, void *obj, struct config_http *http, const char *path,
                      struct arena *a, struct nx_err *err)
{
    struct arena *scratch = arena_new(SMALL_ARENA_BYTES);
    struct decoder d = {.arena = a, .scratch = scratch, .err = err};
    const char *dir = config_dir(a, path);
    struct yaml_node *root = NULL;
    struct buf text;
    nx_status st;

    buf_init(&text, NX_LIMIT_CONFIG_BYTES + (64 << 10)); /* a last read may find nothing */
    buf_init(&d.complaints, NX_ERR_TEXT_BYTES);
    if (!scratch || !dir)
        st = nx_fail(err, NX_NOMEM, "out of memory");
    else
        st = config_read_file(path, &text, err);
    if (!st)
        st = yaml_parse(scratch, buf_view(&text), &root, err);
    if (!st)
        st = decode_document(&d, r, root, obj);
    if (!st && http)
        st = check_http(&d, yaml_follow(root), http);
    if (!st)
        st = config_join_paths(r, obj, a, dir, err);
    buf_done(&d.complaints);
    buf_done(&text);
    arena_free(scratch);
    return st;
}

nx_status config_load_http(struct config_http *out, const char *path, struct arena *a,
                           struct nx_err *err)
{
    struct config_http h = {.follow_redirects = true, .enable_http2 = true};
    nx_status st = load(&http_record, &h, &h, path, a, err);

    if (!st)
        *out = h;
    return st;
}

nx_status config_load_tests(struct config_tests *out, const char *path, struct arena *a,
                            struct nx_err *err)
{
    struct config_tests t = {0};
    nx_status st = load(&tests_record, &t, NULL, path, a, err);

    if (!st)
        *out = t;
    return st;
}

char *config_path_beside(struct arena *a, const char *file, const char *path)
{
    char *dir = config_dir(a, file);

    if (*path == '/')
        return arena_strdup(a, path);
    return dir ? config_join(a, dir, path) : NULL;
}

/* ---- the web server ------------------------------------------------------------------------------ */

/* What Go's bcrypt.Cost says of a hash. */
static nx_status check_hash(struct nx_slice h, struct nx_err *err)
{
    size_t at;
    int cost;

    if (h.len < 59)
        return nx_fail(err, NX_BADINPUT,
                       "crypto/bcrypt: hashedSecret too short to be a bcrypted password");
    if (h.ptr[0] != '$')
        return nx_fail(err, NX_BADINPUT,
                       "crypto/bcrypt: bcrypt hashes must start with '$', but hashedSecret started "
                       "with '%c'",
                       h.ptr[0]);
    if (h.ptr[1] > '2')
        return nx_fail(err, NX_BADINPUT,
                       "crypto/bcrypt: bcrypt algorithm version '%c' requested is newer than "
                       "current version '2'",
                       h.ptr[1]);
    at = h.ptr[2] == '$' ? 3 : 4;
    if (h.ptr[at] < '0' || h.ptr[at] > '9' || h.ptr[at + 1] < '0' || h.ptr[at + 1] > '9')
        return nx_fail(err, NX_BADINPUT, "strconv.Atoi: parsing \"%.2s\": invalid syntax",
                       h.ptr + at);
    cost = 10 * (h.ptr[at] - '0') + h.ptr[at + 1] - '0';
    if (cost < 4 || cost > 31)
        return nx_fail(err, NX_BADINPUT, "crypto/bcrypt: cost %d is outside allowed range (4,31)",
                       cost);
    return NX_OK;
}

static nx_status check_header(const struct config_pair *p, struct nx_err *err)
{
    static const struct {
        const char *name, *values[3], *shown;
    } known[] = {
        {"Strict-Transport-Security", {0}, NULL},
        {"X-Content-Type-Options", {"nosniff"}, "[\"nosniff\"]"},
        {"X-Frame-Options", {"deny", "sameorigin"}, "[\"deny\" \"sameorigin\"]"},
        {"X-XSS-Protection", {0}, NULL},
        {"Content-Security-Policy", {0}, NULL},
    };
    char quoted[TEXT_QUOTED_BYTES];

    for (size_t i = 0; i < NX_COUNT(known); i++) {
        if (!nx_slice_is(p->name, known[i].name))
            continue;
        for (size_t k = 0; known[i].values[k]; k++)
            if (nx_slice_is(p->value, known[i].values[k]))
                return NX_OK;
        if (!known[i].shown)
            return NX_OK;
        return nx_fail(err, NX_BADINPUT, "invalid value for %s. Expected one of: %s, but got: %s",
                       known[i].name, known[i].shown, text_quoted(quoted, p->value));
    }
    return nx_fail(err, NX_BADINPUT, "HTTP header %s can not be configured",
                   text_quoted(quoted, p->name));
}

/* All of `v` are in the blank-separated `known`. */
static nx_status check_names(const struct nx_slice *v, size_t n, const char *known,
                             const char *complaint, struct nx_err *err)
{
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (const char *c = known; *c && !found;) {
            size_t len = strcspn(c, " ");
            found = nx_slice_eq(v[i], nx_slice_of(c, len));
            c += len + (c[len] == ' ');
        }
        if (!found)
            return nx_fail(err, NX_BADINPUT, "%s: %.*s", complaint, (int)v[i].len, v[i].ptr);
    }
    return NX_OK;
}

static nx_status check_tls_names(const struct config_web_tls *t, struct nx_err *err)
{
    static const char versions[] = "TLS10 TLS11 TLS12 TLS13";
    static const char curves[] = "CurveP256 CurveP384 CurveP521 X25519";
    static const char ciphers[] =
        "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 "
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA "
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA "
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 "
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 "
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    nx_status st =
        check_names(t->cipher_suites.v, t->cipher_suites.n, ciphers, "unknown cipher", err);

    if (!st)
        st = check_names(t->curve_preferences.v, t->curve_preferences.n, curves, "unknown curve",
                         err);
    if (!st && t->min_version.len)
        st = check_names(&t->min_version, 1, versions, "unknown TLS version", err);
    if (!st && t->max_version.len)
        st = check_names(&t->max_version, 1, versions, "unknown TLS version", err);
    return st;
}

nx_status config_load_web(struct config_web *out, const char *path, struct arena *a,
                          struct nx_err *err)
{
    struct config_web w = {.http.http2 = true, .tls.prefer_server_cipher_suites = true};
    nx_status st = load(&web_record, &w, NULL, path, a, err);

    if (!st)
        st = check_tls_names(&w.tls, err);
    for (size_t i = 0; i < w.users.n && !st; i++) /* S1 */
        st = check_hash(w.users.v[i].value, err);
    for (size_t i = 0; i < w.http.headers.n && !st; i++)
        st = check_header(&w.http.headers.v[i], err);
    if (!st)
        *out = w;
    return st;
}
