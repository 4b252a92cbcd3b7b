/* validate.c - what can only be checked, and filled in, when the whole file has been read.
 *
 * RULES   V1  A job takes over from `global` what it does not say; a limit of 0 says nothing.
 *         V2  The order of checks is Prometheus's, since the first failure is the one that is
 *             told. */
#include "src/config/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FAIL(field, ...) return decode_fail_key(d, map, field, __VA_ARGS__)

// clang-format off
static const struct {
    const char *name, *header;
} protocols[] = { /* by name, as messages list them */
    [CONFIG_PROTO_OM_0_0_1]   = { "OpenMetricsText0.0.1", "application/openmetrics-text;version=0.0.1" },
    [CONFIG_PROTO_OM_1_0_0]   = { "OpenMetricsText1.0.0", "application/openmetrics-text;version=1.0.0" },
    [CONFIG_PROTO_PROTOBUF]   = { "PrometheusProto",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited" },
    [CONFIG_PROTO_TEXT_0_0_4] = { "PrometheusText0.0.4", "text/plain;version=0.0.4" },
    [CONFIG_PROTO_TEXT_1_0_0] = { "PrometheusText1.0.0", "text/plain;version=1.0.0" },
};
#define SUPPORTED \
    "[OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusProto PrometheusText0.0.4 PrometheusText1.0.0]"
static const enum config_protocol default_protocols[] = {
    CONFIG_PROTO_PROTOBUF, /* first, and only where native histograms are wanted */
    CONFIG_PROTO_OM_1_0_0, CONFIG_PROTO_OM_0_0_1, CONFIG_PROTO_TEXT_1_0_0, CONFIG_PROTO_TEXT_0_0_4,
};
static const char *const escapings[] = {
    [CONFIG_ESCAPE_UNSET] = "", [CONFIG_ESCAPE_ALLOW_UTF8] = "allow-utf-8", [CONFIG_ESCAPE_UNDERSCORES] = "underscores",
    [CONFIG_ESCAPE_DOTS] = "dots", [CONFIG_ESCAPE_VALUES] = "values",
};
#define ESCAPINGS "'allow-utf-8', 'underscores', 'dots', or 'values'"
static const char *const actions[] = {
    [RELABEL_REPLACE] = "replace", [RELABEL_KEEP] = "keep", [RELABEL_DROP] = "drop", [RELABEL_KEEPEQUAL] = "keepequal",
    [RELABEL_DROPEQUAL] = "dropequal", [RELABEL_HASHMOD] = "hashmod", [RELABEL_LABELMAP] = "labelmap",
    [RELABEL_LABELDROP] = "labeldrop", [RELABEL_LABELKEEP] = "labelkeep", [RELABEL_LOWERCASE] = "lowercase",
    [RELABEL_UPPERCASE] = "uppercase", [RELABEL_ACTION_COUNT] = "",
};
// clang-format on

const char *config_protocol_name(enum config_protocol p)
{
    return p ? protocols[p].name : "";
}

const char *config_protocol_header(enum config_protocol p)
{
    return p ? protocols[p].header : "";
}

const char *config_escaping_name(enum config_escaping e)
{
    return escapings[e];
}

const char *relabel_action_name(enum relabel_action a)
{
    return actions[a];
}

static enum config_protocol find_protocol(struct nx_slice name)
{
    for (size_t i = 1; i < NX_COUNT(protocols); i++) {
        if (nx_slice_is(name, protocols[i].name))
            return (enum config_protocol)i;
    }
    return CONFIG_PROTO_UNSET;
}

static void *take(struct decoder *d, size_t n, size_t size)
{
    void *p = arena_array(d->arena, n ? n : 1, size);

    if (!p)
        d->failed = arena_failed(d->arena, d->err);
    return p;
}

static nx_status doubled_protocol(struct decoder *d, const struct yaml_node *map,
                                  const struct config_strings *text, size_t at, const char *where)
{
    char list[400] = "";
    size_t used = 0;

    for (size_t i = 0; i < text->n && used < sizeof list; i++)
        used +=
            (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? " " : "", text->v[i].ptr);
    return decode_fail_item(d, map, "scrape_protocols", at,
                            "duplicated protocol in scrape_protocols, got [%s] for %s", list,
                            where);
}

nx_status validate_protocols(struct decoder *d, const struct yaml_node *map,
                             struct config_protocols *p, const char *where)
{
    if (!p->text.n)
        FAIL("scrape_protocols", "scrape_protocols cannot be empty for %s", where);
    if (!(p->v = take(d, p->text.n, sizeof *p->v)))
        return d->failed;
    for (size_t i = 0; i < p->text.n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (!strcasecmp(p->text.v[i].ptr, p->text.v[k].ptr))
                return doubled_protocol(d, map, &p->text, i, where);
        }
        if (!(p->v[i] = find_protocol(p->text.v[i])))
            return decode_fail_item(
                d, map, "scrape_protocols", i,
                "scrape_protocols: unknown scrape protocol %s, supported: " SUPPORTED " for %s",
                p->text.v[i].ptr, where);
    }
    p->n = p->text.n;
    return NX_OK;
}

/* ---- relabelling ---- */

static bool has_variable(struct nx_slice s)
{
    return memchr(s.ptr, '$', s.len) != NULL;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Letters, _, $name and ${name} in any mixture; digits anywhere but first. */
static bool legacy_template(struct nx_slice s)
{
    for (size_t i = 0; i < s.len;) {
        bool braced;
        size_t name;

        if (s.ptr[i] != '$') {
            if (!is_word(s.ptr[i]) || (!i && s.ptr[i] >= '0' && s.ptr[i] <= '9'))
                return false;
            i++;
            continue;
        }
        braced = ++i < s.len && s.ptr[i] == '{';
        i += braced;
        for (name = 0; i < s.len && is_word(s.ptr[i]); i++)
            name++;
        if (!name || (braced && (i == s.len || s.ptr[i++] != '}')))
            return false;
    }
    return s.len > 0;
}

static nx_status check_names(struct decoder *d, const struct yaml_node *map,
                             const struct relabel_rule *r)
{
    const char *action = actions[r->action];
    bool one_target = r->action == RELABEL_LOWERCASE || r->action == RELABEL_UPPERCASE ||
                      r->action == RELABEL_KEEPEQUAL || r->action == RELABEL_DROPEQUAL;
    bool name_ok = r->legacy_names ? label_name_legacy_valid(r->target_label)
                                   : label_name_valid(r->target_label);
    bool template_ok =
        r->legacy_names ? legacy_template(r->target_label) : label_name_valid(r->target_label);
    bool replacement_ok =
        r->legacy_names ? legacy_template(r->replacement) : label_name_valid(r->replacement);

    if (r->action == RELABEL_REPLACE && !(has_variable(r->target_label) ? template_ok : name_ok))
        FAIL("target_label", "%s is invalid 'target_label' for %s action",
             decode_quote(d, r->target_label), action);
    if (one_target && !name_ok)
        FAIL("target_label", "%s is invalid 'target_label' for %s action",
             decode_quote(d, r->target_label), action);
    if (one_target && !nx_slice_is(r->replacement, "$1"))
        FAIL("replacement", "'replacement' can not be set for %s action", action);
    if (r->action == RELABEL_LABELMAP && !replacement_ok)
        FAIL("replacement", "%s is invalid 'replacement' for %s action",
             decode_quote(d, r->replacement), action);
    if (r->action == RELABEL_HASHMOD && !name_ok)
        FAIL("target_label", "%s is invalid 'target_label' for %s action",
             decode_quote(d, r->target_label), action);
    return NX_OK;
}

static nx_status check_rule(struct decoder *d, const struct yaml_node *map,
                            const struct relabel_rule *r)
{
    const char *action = actions[r->action];
    bool plain = !r->modulus && nx_slice_is(r->separator, ";") && nx_slice_is(r->replacement, "$1");
    nx_status st;

    if (r->action == RELABEL_ACTION_COUNT)
        FAIL("action", "relabel action cannot be empty");
    if (r->action == RELABEL_HASHMOD && !r->modulus)
        FAIL("modulus", "relabel configuration for hashmod requires non-zero modulus");
    switch (r->action) {
    case RELABEL_REPLACE:
    case RELABEL_HASHMOD:
    case RELABEL_LOWERCASE:
    case RELABEL_UPPERCASE:
    case RELABEL_KEEPEQUAL:
    case RELABEL_DROPEQUAL:
        if (!r->target_label.len)
            FAIL("action", "relabel configuration for %s action requires 'target_label' value",
                 action);
        break;
    default:
        break;
    }
    if ((st = check_names(d, map, r)))
        return st;
    if ((r->action == RELABEL_DROPEQUAL || r->action == RELABEL_KEEPEQUAL) &&
        (!r->default_regex || !plain))
        FAIL("action",
             "%s action requires only 'source_labels' and `target_label`, and no other fields",
             action);
    if ((r->action == RELABEL_LABELDROP || r->action == RELABEL_LABELKEEP) &&
        (r->source_labels.v || r->target_label.len || !plain))
        FAIL("action", "%s action requires only 'regex', and no other fields", action);
    return NX_OK;
}

/* A regex that was not said, or null: decoding compiled none. */
static nx_status compile_default(struct decoder *d, struct relabel_rule *r)
{
    struct regex_list *l = d->regexes;
    struct regex *re = NULL;

    if (r->regex)
        return NX_OK;
    if (r->default_regex && l->default_regex) {
        r->regex = l->default_regex;
        return NX_OK;
    }
    if ((d->failed = regex_list_add(l, r->regex_text, &re, d->err)))
        return d->failed;
    if (r->default_regex)
        l->default_regex = re;
    r->regex = re;
    return NX_OK;
}

static nx_status check_rules(struct decoder *d, const struct yaml_node *map,
                             const struct relabel_rules *rules, const char *field, bool legacy)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < rules->n && !st; i++) {
        struct relabel_rule *r =
            (struct relabel_rule *)(uintptr_t)&rules->v[i]; /* ours until the load ends */
        struct place list, item;

        r->legacy_names = legacy;
        decode_enter(d, &list, field, 0);
        decode_enter(d, &item, NULL, i);
        st = check_rule(d, yaml_follow(decode_item(map, field, i)), r);
        decode_leave(d);
        decode_leave(d);
        if (!st)
            st = compile_default(d, r);
    }
    return st;
}

/* ---- jobs ---- */

/* V1 */
static void inherit(const struct config_global *g, struct config_scrape *s)
{
    struct config_limits *own = &s->limits;
    const struct config_limits *theirs = &g->limits;

    if (!own->body_size_bytes)
        own->body_size_bytes = theirs->body_size_bytes;
    if (!own->samples)
        own->samples = theirs->samples;
    if (!own->targets)
        own->targets = theirs->targets;
    if (!own->labels)
        own->labels = theirs->labels;
    if (!own->label_name_bytes)
        own->label_name_bytes = theirs->label_name_bytes;
    if (!own->label_value_bytes)
        own->label_value_bytes = theirs->label_value_bytes;
    if (!own->keep_dropped_targets)
        own->keep_dropped_targets = theirs->keep_dropped_targets;
    if (!s->scrape_failure_log_file.len)
        s->scrape_failure_log_file = g->scrape_failure_log_file;
    if (s->scrape_native_histograms == CONFIG_UNSET)
        s->scrape_native_histograms = g->scrape_native_histograms;
    if (s->extra_scrape_metrics == CONFIG_UNSET)
        s->extra_scrape_metrics = g->extra_scrape_metrics;
    if (s->convert_classic_histograms_to_nhcb == CONFIG_UNSET)
        s->convert_classic_histograms_to_nhcb =
            g->convert_classic_histograms_to_nhcb ? CONFIG_YES : CONFIG_NO;
    if (s->always_scrape_classic_histograms == CONFIG_UNSET)
        s->always_scrape_classic_histograms =
            g->always_scrape_classic_histograms ? CONFIG_YES : CONFIG_NO;
}

static nx_status take_protocols(struct decoder *d, const struct yaml_node *map,
                                const struct config_global *g, struct config_scrape *s,
                                const char *where)
{
    if (!s->scrape_protocols.text.v && g->scrape_protocols.text.v) {
        s->scrape_protocols = g->scrape_protocols;
    } else if (!s->scrape_protocols.text.v) {
        size_t from = s->scrape_native_histograms == CONFIG_YES ? 0 : 1;
        size_t n = NX_COUNT(default_protocols) - from;
        struct nx_slice *names = take(d, n, sizeof *names);

        if (!names)
            return d->failed;
        for (size_t i = 0; i < n; i++)
            names[i] = nx_slice_str(config_protocol_name(default_protocols[from + i]));
        s->scrape_protocols.text = (struct config_strings){names, n};
    }
    if (validate_protocols(d, map, &s->scrape_protocols, where))
        return d->failed;
    if (!s->fallback_text.len)
        return NX_OK;
    if (!(s->fallback_scrape_protocol = find_protocol(s->fallback_text)))
        FAIL("fallback_scrape_protocol",
             "invalid fallback_scrape_protocol for %s: unknown scrape protocol %s, "
             "supported: " SUPPORTED,
             where, s->fallback_text.ptr);
    return NX_OK;
}

static enum config_escaping find_escaping(struct nx_slice text)
{
    for (size_t i = 1; i < NX_COUNT(escapings); i++) {
        if (nx_slice_is(text, escapings[i]))
            return (enum config_escaping)i;
    }
    return CONFIG_ESCAPE_UNSET;
}

static nx_status take_naming(struct decoder *d, const struct yaml_node *map,
                             const struct config_global *g, struct config_scrape *s)
{
    bool legacy_global = g->validation == CONFIG_VALIDATION_LEGACY, unset = !s->validation;
    enum config_escaping global = find_escaping(g->escaping_text);

    if (unset)
        s->validation = g->validation;
    if (!g->escaping_text.len)
        global = legacy_global ? CONFIG_ESCAPE_UNDERSCORES : CONFIG_ESCAPE_ALLOW_UTF8;
    else if (!global)
        FAIL("metric_name_escaping_scheme",
             "unknown global name escaping method specified, must be one of " ESCAPINGS ", got %s",
             decode_quote(d, g->escaping_text));
    s->escaping = find_escaping(s->escaping_text);
    if (!s->escaping_text.len) {
        s->escaping = unset                                       ? global
                      : s->validation == CONFIG_VALIDATION_LEGACY ? CONFIG_ESCAPE_UNDERSCORES
                                                                  : CONFIG_ESCAPE_ALLOW_UTF8;
        s->escaping_text = nx_slice_str(escapings[s->escaping]);
    }
    if (!s->escaping)
        FAIL("metric_name_escaping_scheme",
             "unknown scrape config name escaping method specified, must be one of " ESCAPINGS
             ", got %s",
             decode_quote(d, s->escaping_text));
    if (s->escaping == CONFIG_ESCAPE_ALLOW_UTF8 && s->validation != CONFIG_VALIDATION_UTF8)
        FAIL("metric_name_escaping_scheme",
             "utf8 metric names requested but validation scheme is not set to UTF8");
    return NX_OK;
}

nx_status validate_scrape(struct decoder *d, const struct yaml_node *map,
                          const struct config_global *g, struct config_scrape *s)
{
    char where[300];
    bool legacy;
    nx_status st;

    snprintf(where, sizeof where, "scrape config with job name %s", decode_quote(d, s->job_name));
    if (!s->scrape_interval_ms)
        s->scrape_interval_ms = g->scrape_interval_ms;
    if (s->scrape_timeout_ms > s->scrape_interval_ms)
        FAIL("scrape_timeout", "scrape timeout greater than scrape interval for %s", where);
    if (!s->scrape_timeout_ms)
        s->scrape_timeout_ms = g->scrape_timeout_ms < s->scrape_interval_ms ? g->scrape_timeout_ms
                                                                            : s->scrape_interval_ms;
    inherit(g, s);
    if ((st = take_protocols(d, map, g, s, where)) || (st = take_naming(d, map, g, s)))
        return st;
    legacy = s->validation == CONFIG_VALIDATION_LEGACY;
    st = check_rules(d, map, &s->relabel, "relabel_configs", legacy);
    return st ? st : check_rules(d, map, &s->metric_relabel, "metric_relabel_configs", legacy);
}

/* ---- the file ---- */

/* A * only in the last part of the path. */
static bool rule_path_ok(struct nx_slice path)
{
    const char *star = memchr(path.ptr, '*', path.len);

    return !star || !memchr(star, '/', path.len - (size_t)(star - path.ptr));
}

static nx_status check_globs(struct decoder *d, const struct yaml_node *map,
                             const struct config_strings *globs, const char *field,
                             const char *what)
{
    for (size_t i = 0; i < globs->n; i++) {
        if (!rule_path_ok(globs->v[i]))
            return decode_fail_item(d, map, field, i, "invalid %s file path %s", what,
                                    decode_quote(d, globs->v[i]));
    }
    return NX_OK;
}

static nx_status check_jobs(struct decoder *d, const struct yaml_node *map, struct config *cfg)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < cfg->scrape_configs.n && !st; i++) {
        struct config_scrape *s = (struct config_scrape *)(uintptr_t)&cfg->scrape_configs.v[i];
        const struct yaml_node *section = yaml_follow(decode_item(map, "scrape_configs", i));
        struct place list, item;

        if (!s->line)
            return decode_fail_item(d, map, "scrape_configs", i,
                                    "empty or null scrape config section");
        decode_enter(d, &list, "scrape_configs", 0);
        decode_enter(d, &item, NULL, i);
        st = validate_scrape(d, section, &cfg->global, s);
        for (size_t k = 0; k < i && !st; k++) {
            if (nx_slice_eq(cfg->scrape_configs.v[k].job_name, s->job_name))
                st = decode_fail_key(d, section, "job_name",
                                     "found multiple scrape configs with job name %s",
                                     decode_quote(d, s->job_name));
        }
        decode_leave(d);
        decode_leave(d);
    }
    return st;
}

static nx_status check_alerting(struct decoder *d, const struct yaml_node *map, struct config *cfg,
                                bool legacy)
{
    const struct yaml_node *section = yaml_follow(yaml_get(map, "alerting", NULL));
    struct place alerting, list, item;
    nx_status st;

    decode_enter(d, &alerting, "alerting", 0);
    st = check_rules(d, section, &cfg->alerting.alert_relabel, "alert_relabel_configs", legacy);
    for (size_t i = 0; i < cfg->alerting.alertmanagers.n && !st; i++) {
        const struct config_alertmanager *a = &cfg->alerting.alertmanagers.v[i];
        const struct yaml_node *own = yaml_follow(decode_item(section, "alertmanagers", i));

        decode_enter(d, &list, "alertmanagers", 0);
        decode_enter(d, &item, NULL, i);
        st = check_rules(d, own, &a->alert_relabel, "alert_relabel_configs", legacy);
        if (!st)
            st = check_rules(d, own, &a->relabel, "relabel_configs", legacy);
        decode_leave(d);
        decode_leave(d);
    }
    decode_leave(d);
    return st;
}

static nx_status check_remote_writes(struct decoder *d, const struct yaml_node *map,
                                     struct config *cfg, bool legacy)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < cfg->remote_write.n && !st; i++) {
        const struct config_remote_write *w = &cfg->remote_write.v[i];
        struct place list, item;

        if (!w->line)
            return decode_fail_item(d, map, "remote_write", i,
                                    "empty or null remote write config section");
        for (size_t k = 0; k < i; k++) {
            if (w->name.len && nx_slice_eq(cfg->remote_write.v[k].name, w->name))
                return decode_fail_item(d, map, "remote_write", i,
                                        "found multiple remote write configs with job name %s",
                                        decode_quote(d, w->name));
        }
        decode_enter(d, &list, "remote_write", 0);
        decode_enter(d, &item, NULL, i);
        st = check_rules(d, yaml_follow(decode_item(map, "remote_write", i)), &w->write_relabel,
                         "write_relabel_configs", legacy);
        decode_leave(d);
        decode_leave(d);
    }
    return st;
}

static nx_status check_remote_reads(struct decoder *d, const struct yaml_node *map,
                                    const struct config *cfg)
{
    for (size_t i = 0; i < cfg->remote_read.n; i++) {
        const struct config_remote_read *r = &cfg->remote_read.v[i];

        if (!r->line)
            return decode_fail_item(d, map, "remote_read", i,
                                    "empty or null remote read config section");
        for (size_t k = 0; k < i; k++) {
            if (r->name.len && nx_slice_eq(cfg->remote_read.v[k].name, r->name))
                return decode_fail_item(d, map, "remote_read", i,
                                        "found multiple remote read configs with job name %s",
                                        decode_quote(d, r->name));
        }
    }
    return NX_OK;
}

/* Go's garbage collector has a setting in the file; its default may come from the environment. */
static int64_t default_gogc(void)
{
    const char *env = getenv("GOGC");
    char *end;
    long v;

    if (!env || !*env)
        return 75;
    if (!strcasecmp(env, "off"))
        return -1;
    v = strtol(env, &end, 10);
    return *end ? 75 : v;
}

void validate_defaults(struct config *cfg)
{
    memset(cfg, 0, sizeof *cfg);
    cfg->global.scrape_interval_ms = 60000;
    cfg->global.scrape_timeout_ms = 10000;
    cfg->global.evaluation_interval_ms = 60000;
    cfg->global.validation = CONFIG_VALIDATION_UTF8;
    cfg->global.escaping_text = nx_slice_str(escapings[CONFIG_ESCAPE_ALLOW_UTF8]);
    cfg->runtime.gogc = default_gogc();
    cfg->otlp = otlp_defaults;
    record_seal(&config_record, cfg);
}

nx_status validate_config(struct decoder *d, const struct yaml_node *map, void *obj)
{
    struct config *cfg = obj, defaults;
    bool legacy;
    nx_status st;

    validate_defaults(&defaults);
    if (!cfg->global.scrape_interval_ms) /* there was a `global:` with nothing in it */
        cfg->global = defaults.global;
    if (!cfg->runtime.gogc)
        cfg->runtime = defaults.runtime;
    legacy = cfg->global.validation == CONFIG_VALIDATION_LEGACY;
    if ((st = check_globs(d, map, &cfg->rule_files, "rule_files", "rule")) ||
        (st = check_globs(d, map, &cfg->scrape_config_files, "scrape_config_files",
                          "scrape config")) ||
        (st = check_jobs(d, map, cfg)) || (st = check_alerting(d, map, cfg, legacy)) ||
        (st = check_remote_writes(d, map, cfg, legacy)))
        return st;
    return check_remote_reads(d, map, cfg);
}

nx_status validate_otlp(struct decoder *d, const struct yaml_node *root, const struct config *cfg)
{
    const struct yaml_node *map = yaml_follow(yaml_get(root, "otlp", NULL));
    struct nx_slice strategy = cfg->otlp.translation_strategy;
    struct place otlp;

    decode_enter(d, &otlp, "otlp", 0);
    if (nx_slice_is(strategy, "NoTranslation") ||
        nx_slice_is(strategy, "NoUTF8EscapingWithSuffixes")) {
        if (cfg->global.validation == CONFIG_VALIDATION_LEGACY)
            decode_fail_key(d, map, "translation_strategy",
                            "OTLP translation strategy %s is not allowed when UTF8 is disabled",
                            decode_quote(d, strategy));
    } else if (strategy.len && !nx_slice_is(strategy, "UnderscoreEscapingWithSuffixes") &&
               !nx_slice_is(strategy, "UnderscoreEscapingWithoutSuffixes")) {
        decode_fail_key(d, map, "translation_strategy", "unsupported OTLP translation strategy %s",
                        decode_quote(d, strategy));
    }
    decode_leave(d);
    return d->failed;
}
