/* check.c - `check config FILE`, in promtool's words.
 *
 * RULES   K1  "Checking", warnings and successes go to standard output, failures to standard error.
 *         K2  Rule files, jobs of scrape_config_files and target files are looked at unless only
 *             the syntax is asked for; what src/config cannot know (rules, JSON, target labels) is
 *             asked of whoever calls, by the functions in the flags.
 *         K3  Exit code 1 for what is wrong, 3 for lint findings where they are fatal, otherwise
 *             0. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "src/base/num.h"
#include "src/config/decode.h"

struct check {
    const struct config_check_flags *flags;
    struct arena *arena;
    struct buf *out;
    struct nx_err *err;
    struct config_strings rules; /* files found */
    size_t rules_cap;
};

static nx_status file_exists(struct nx_slice path, struct nx_err *err)
{
    struct stat s;

    if (path.len && stat(path.ptr, &s))
        return fail_like_go(err, errno, "stat", path.ptr);
    return NX_OK;
}

static nx_status want_file(struct check *c, struct nx_slice path, const char *what)
{
    if (!file_exists(path, c->err))
        return NX_OK;
    return nx_context(c->err, "error checking %s file \"%s\"", what, path.ptr);
}

static nx_status add_rule_file(struct check *c, struct nx_slice path)
{
    if (c->rules.n == c->rules_cap) {
        size_t cap = c->rules_cap ? c->rules_cap * 2 : 16;
        struct nx_slice *v =
            arena_grow(c->arena, c->rules.v, c->rules_cap * sizeof *v, cap * sizeof *v);

        if (!v)
            return arena_failed(c->arena, c->err);
        c->rules.v = v;
        c->rules_cap = cap;
    }
    c->rules.v[c->rules.n++] = path;
    return NX_OK;
}

/* Files that patterns name; one named without a pattern has to be there. */
static nx_status find_rule_files(struct check *c, const struct config *cfg)
{
    for (size_t i = 0; i < cfg->rule_files.n; i++) {
        const char *pattern = cfg->rule_files.v[i].ptr;
        struct config_strings found = {0};
        nx_status st = config_glob(pattern, c->arena, &found, c->err);

        if (!st && !found.n && !strchr(pattern, '*'))
            st = nx_fail(c->err, NX_NOTFOUND, "\"%s\" does not point to an existing file", pattern);
        for (size_t k = 0; k < found.n && !st; k++)
            st = add_rule_file(c, found.v[k]);
        if (st)
            return st;
    }
    return NX_OK;
}

static nx_status check_groups(struct check *c, const struct config_scrape *job,
                              const struct config_static_sd *groups)
{
    if (!c->flags->check_groups)
        return NX_OK;
    return c->flags->check_groups(c->flags->ctx, job, groups, c->err);
}

/* JSON is left to the caller's reader, which takes both; without one, to the YAML reader: JSON is
 * YAML. */
static nx_status read_groups(struct check *c, const char *path, struct config_static_sd *out)
{
    struct buf text;
    nx_status st;

    if (c->flags->read_groups)
        return c->flags->read_groups(path, c->arena, out, c->err);
    buf_init(&text, 0);
    st = config_read_file(path, &text, c->err);
    if (!st)
        st = config_parse_target_groups(c->arena, buf_view(&text), out, c->err);
    buf_done(&text);
    return st;
}

static nx_status check_alertmanager(struct check *c, const struct config_alertmanager *am,
                                    const struct config_static_sd *groups)
{
    if (!c->flags->check_alertmanagers)
        return NX_OK;
    return c->flags->check_alertmanagers(c->flags->ctx, am, groups, c->err);
}

/* Of a job or of an Alertmanager section. */
static nx_status check_target_files(struct check *c, const struct config_file_sd *sd,
                                    const struct config_scrape *job,
                                    const struct config_alertmanager *am)
{
    for (size_t i = 0; i < sd->files.n; i++) {
        const char *pattern = sd->files.v[i].ptr;
        struct config_strings found = {0};
        nx_status st = config_glob(pattern, c->arena, &found, c->err);

        if (st)
            return st;
        if (!found.n && job)
            buf_printf(c->out,
                       "  WARNING: file \"%s\" for file_sd in scrape job \"%s\" does not exist\n",
                       pattern, job->job_name.ptr);
        else if (!found.n)
            buf_printf(c->out,
                       "  WARNING: file \"%s\" for file_sd in alertmanager config does not exist\n",
                       pattern);
        for (size_t k = 0; k < found.n; k++) {
            struct config_static_sd groups = {0};

            if (read_groups(c, found.v[k].ptr, &groups))
                return nx_context(c->err, "checking SD file \"%s\"", pattern);
            st = job ? check_groups(c, job, &groups) : check_alertmanager(c, am, &groups);
            if (st)
                return st;
        }
    }
    return NX_OK;
}

static nx_status check_tls_files(struct check *c, const struct config_tls *tls)
{
    nx_status st;

    if (tls->cert_file.len && !tls->key_file.len)
        return nx_fail(c->err, NX_BADINPUT,
                       "client cert file \"%s\" specified without client key file",
                       tls->cert_file.ptr);
    if (tls->key_file.len && !tls->cert_file.len)
        return nx_fail(c->err, NX_BADINPUT,
                       "client key file \"%s\" specified without client cert file",
                       tls->key_file.ptr);
    if (c->flags->syntax_only)
        return NX_OK;
    st = want_file(c, tls->cert_file, "client cert");
    return st ? st : want_file(c, tls->key_file, "client key");
}

static nx_status check_job(struct check *c, const struct config_scrape *job)
{
    const struct config_authorization *auth = job->http.authorization;
    nx_status st = NX_OK;

    if (!c->flags->syntax_only && auth)
        st = want_file(c, auth->credentials_file, "authorization credentials or bearer token");
    if (!st)
        st = check_tls_files(c, &job->http.tls);
    for (size_t i = 0; i < job->sds.n && !st; i++) {
        const struct config_sd *sd = &job->sds.v[i];

        if (sd->kind == CONFIG_SD_FILE && !c->flags->syntax_only)
            st = check_target_files(c, sd->u.file, job, NULL);
        else if (sd->kind == CONFIG_SD_KUBERNETES)
            st = check_tls_files(c, &config_sd_http(sd)->tls);
        else if (sd->kind == CONFIG_SD_STATIC)
            st = check_groups(c, job, sd->u.statics);
    }
    return st;
}

static nx_status check_alertmanagers(struct check *c, const struct config *cfg)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < cfg->alerting.alertmanagers.n; i++) {
        const struct config_alertmanager *am = &cfg->alerting.alertmanagers.v[i];

        for (size_t k = 0; k < am->sds.n && !st; k++) {
            const struct config_sd *sd = &am->sds.v[k];

            if (sd->kind == CONFIG_SD_FILE && !c->flags->syntax_only)
                st = check_target_files(c, sd->u.file, NULL, am);
            else if (sd->kind == CONFIG_SD_STATIC)
                st = check_alertmanager(c, am, sd->u.statics);
        }
    }
    return st;
}

static nx_status check_all(struct check *c, const char *path, struct config **cfg)
{
    struct config_opts opts = {.agent = c->flags->agent, .only_main_file = c->flags->syntax_only};
    nx_status st = config_load(cfg, path, &opts, c->err);

    if (!st && !c->flags->syntax_only)
        st = find_rule_files(c, *cfg);
    for (size_t i = 0; !st && i < (*cfg)->scrape_configs.n; i++)
        st = check_job(c, &(*cfg)->scrape_configs.v[i]);
    return st ? st : check_alertmanagers(c, *cfg);
}

/* Samples further apart than the lookback are never seen together. True if there is a finding. */
static bool lint(const struct config_check_flags *flags, const struct config *cfg, struct buf *errs)
{
    int64_t lookback = flags->lookback_delta_ms ? flags->lookback_delta_ms : 300000;

    if (!flags->lint_too_long_scrape_interval)
        return false;
    for (size_t i = 0; i < cfg->scrape_configs.n; i++) {
        const struct config_scrape *job = &cfg->scrape_configs.v[i];

        if (job->scrape_interval_ms < lookback)
            continue;
        buf_printf(errs,
                   "  FAILED: too long scrape interval found, data point will be marked as stale - "
                   "job: %s, interval: ",
                   job->job_name.ptr);
        buf_duration(errs, job->scrape_interval_ms);
        buf_char(errs, '\n');
        return true;
    }
    return false;
}

/* Whatever a rule file's check says; 3 is lint. */
static void check_rule_files(struct check *c, struct buf *errs, bool *bad, bool *findings)
{
    for (size_t i = 0; i < c->rules.n && c->flags->check_rules; i++) {
        int code = c->flags->check_rules(c->flags->ctx, c->rules.v[i].ptr, c->out, errs);

        *bad |= code == 1;
        *findings |= code == 3;
    }
}

int config_check(const char *path, const struct config_check_flags *flags, struct buf *out,
                 struct buf *errs)
{
    static const struct config_check_flags plain;
    struct nx_err err = {0};
    struct check c = {
        .flags = flags ? flags : &plain, .arena = arena_new(0), .out = out, .err = &err};
    struct config *cfg = NULL;
    bool bad = false, findings = false;

    buf_printf(out, "Checking %s\n", path);
    if (!c.arena) {
        bad = true;
        buf_str(errs, "  FAILED: out of memory\n");
    } else if (check_all(&c, path, &cfg)) {
        bad = true;
        buf_printf(errs, "  FAILED: %s\n", err.text);
    } else {
        if (c.rules.n)
            buf_printf(out, "  SUCCESS: %zu rule files found\n", c.rules.n);
        buf_printf(out, " SUCCESS: %s is valid prometheus config file syntax\n", path);
    }
    buf_char(out, '\n');
    if (!bad && !c.flags->syntax_only) {
        findings = lint(c.flags, cfg, errs);
        check_rule_files(&c, errs, &bad, &findings);
    }
    config_unref(cfg);
    arena_free(c.arena);
    return bad ? 1 : findings && c.flags->lint_fatal ? 3 : 0; /* K3 */
}
