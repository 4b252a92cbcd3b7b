/* load.c - from a path to a configuration, whole or not at all.
 *
 * SHAPE   One arena holds the configuration, another the YAML tree, which goes when the load ends.
 *         Loads: read, parse, decode and check the main file, expand external labels, then each
 *         file of scrape_config_files in the same way, join paths, fingerprint the jobs.
 * RULES   C1  A struct config never changes once it is given out.
 *         C2  What failed leaves nothing behind. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/hash.h"
#include "src/base/limits.h"
#include "src/config/validate.h"

#define CONFIG_ARENA_BYTES (256u << 20) /* of one configuration, defaults and all */

struct loaded {
    struct config cfg; /* first: a config is its loaded */
    atomic_uint refs;
    struct arena *arena;
    struct regex_list regexes;
};

struct load {
    struct loaded *l;
    const struct config_opts *opts;
    const char *dir;
    struct nx_err *err;
};

static void loaded_free(struct loaded *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->regexes.n; i++)
        regex_free(l->regexes.v[i]);
    free(l->regexes.v);
    arena_free(l->arena);
    free(l);
}

struct config *config_ref(const struct config *cfg)
{
    struct loaded *l = (struct loaded *)(uintptr_t)cfg;

    atomic_fetch_add(&l->refs, 1);
    return &l->cfg;
}

void config_unref(const struct config *cfg)
{
    struct loaded *l = (struct loaded *)(uintptr_t)cfg;

    if (l && atomic_fetch_sub(&l->refs, 1) == 1)
        loaded_free(l);
}

/* ---- paths ---- */

char *config_join(struct arena *a, const char *dir, const char *path)
{
    size_t dir_len = strlen(dir), cap = dir_len + strlen(path) + 3, n = 0;
    char *all = arena_printf(a, "%s/%s", dir, path), *out = arena_alloc(a, cap);
    bool rooted = *dir == '/';
    size_t floor = 0; /* nothing before it can be taken back */

    if (!all || !out)
        return NULL;
    if (rooted)
        out[n++] = '/', floor = 1;
    for (char *part = all; *part;) {
        size_t len = strcspn(part, "/");

        if (len == 2 && !memcmp(part, "..", 2) && n > floor) {
            while (n > floor && out[n - 1] != '/')
                n--;
            n -= n > floor;
        } else if (len == 2 && !memcmp(part, "..", 2) && rooted) {
            ; /* the root's parent is the root */
        } else if (len && !(len == 1 && *part == '.')) {
            if (n > (size_t)rooted)
                out[n++] = '/';
            memcpy(out + n, part, len);
            n += len;
            if (len == 2 && !memcmp(part, "..", 2))
                floor = n;
        }
        part += len + (part[len] == '/');
    }
    if (!n)
        out[n++] = '.';
    out[n] = '\0';
    return out;
}

struct joining {
    struct arena *a;
    const char *dir;
    struct nx_err *err;
};

static nx_status join_path(void *ctx, struct nx_slice *path)
{
    const struct joining *j = ctx;
    char *joined;

    if (!path->len || *path->ptr == '/')
        return NX_OK;
    joined = config_join(j->a, j->dir, path->ptr);
    if (!joined)
        return arena_failed(j->a, j->err);
    *path = nx_slice_str(joined);
    return NX_OK;
}

nx_status config_join_paths(const struct record *r, void *obj, struct arena *a, const char *dir,
                            struct nx_err *err)
{
    return record_each_path(r, obj, join_path, &(struct joining){a, dir, err});
}

char *config_dir(struct arena *a, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return arena_strdup(a, ".");
    return slash == path ? arena_strdup(a, "/") : arena_strndup(a, path, (size_t)(slash - path));
}

/* One character of a [class] of a pattern; NULL: it can't stand there, or the class ends without a ']'. */
static const char *skip_class_char(const char *s)
{
    if (*s == '-' || *s == ']')
        return NULL;
    s += *s == '\\';
    return s[0] && s[1] ? s + 1 : NULL;
}

static const char *skip_class(const char *s)
{
    s += *s == '^';
    do {
        s = skip_class_char(s);
        if (s && *s == '-')
            s = skip_class_char(s + 1);
    } while (s && *s != ']');
    return s ? s + 1 : NULL;
}

/* Whether Go would take it: glob() reads a '[' without its end as itself. */
static bool pattern_ok(const char *s)
{
    while (s && *s) {
        if (*s == '[')
            s = skip_class(s + 1);
        else if (*s++ == '\\')
            s = *s ? s + 1 : NULL;
    }
    return s;
}

nx_status config_glob(const char *pattern, struct arena *a, struct config_strings *out,
                      struct nx_err *err)
{
    glob_t found = {0};
    struct config_strings names = {0};
    nx_status st = NX_OK;
    int failed;

    if (!pattern_ok(pattern))
        return nx_fail(err, NX_BADINPUT, "syntax error in pattern");
    failed = glob(pattern, GLOB_PERIOD, NULL, &found);
    if (failed == GLOB_NOSPACE) {
        st = nx_fail(err, NX_NOMEM, "out of memory");
        goto done;
    }
    if (!(names.v = arena_array(a, found.gl_pathc ? found.gl_pathc : 1, sizeof *names.v))) {
        st = arena_failed(a, err);
        goto done;
    }
    for (size_t i = 0; !failed && i < found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i], *slash = strrchr(path, '/'),
                   *name = slash ? slash + 1 : path;

        if (!strcmp(name, ".") || !strcmp(name, ".."))
            continue;
        if (!(path = arena_strdup(a, path))) {
            st = arena_failed(a, err);
            goto done;
        }
        names.v[names.n++] = nx_slice_str(path);
    }
    *out = names;

done:
    globfree(&found);
    return st;
}

/* ---- external labels ---- */

static bool is_special(char c)
{
    return c && strchr("*#$@!?-0123456789", c);
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* The variable's name after a $, and how many bytes it takes there; an empty name with bytes is
 * nonsense that is left out, without bytes a $ that stays. */
static struct nx_slice take_variable(struct nx_slice s, size_t *used)
{
    size_t n = 0;

    if (*s.ptr == '{') {
        if (s.len > 2 && is_special(s.ptr[1]) && s.ptr[2] == '}') {
            *used = 3;
            return nx_slice_of(s.ptr + 1, 1);
        }
        for (n = 1; n < s.len && s.ptr[n] != '}';)
            n++;
        *used = n == s.len ? 1 : n + 1;
        return nx_slice_of(s.ptr + 1, n == s.len ? 0 : n - 1);
    }
    if (is_special(*s.ptr)) {
        *used = 1;
        return nx_slice_of(s.ptr, 1);
    }
    while (n < s.len && is_name(s.ptr[n]))
        n++;
    *used = n;
    return nx_slice_of(s.ptr, n);
}

static nx_status append_variable(struct load *load, struct nx_slice name, struct buf *out)
{
    char *terminated = arena_strndup(load->l->arena, name.ptr, name.len), *warning;
    const char *value;

    if (!terminated)
        return arena_failed(load->l->arena, load->err);
    if (nx_slice_is(name, "$")) {
        buf_char(out, '$');
        return NX_OK;
    }
    value = getenv(terminated);
    if (value && *value) {
        buf_str(out, value);
    } else if (load->opts && load->opts->warn) {
        warning = arena_printf(load->l->arena, "Empty environment variable %s in external_labels",
                               terminated);
        if (warning)
            load->opts->warn(load->opts->ctx, warning);
    }
    return NX_OK;
}

static nx_status expand(struct load *load, struct nx_slice *value)
{
    struct buf out;
    char *copy;
    nx_status st = NX_OK;

    if (!memchr(value->ptr, '$', value->len))
        return NX_OK;
    buf_init(&out, NX_LIMIT_LABEL_VALUE_BYTES);
    for (size_t i = 0; i < value->len && !st; i++) {
        struct nx_slice rest = {value->ptr + i + 1, value->len - i - 1}, name;
        size_t used;

        if (value->ptr[i] != '$' || !rest.len) {
            buf_char(&out, value->ptr[i]);
            continue;
        }
        name = take_variable(rest, &used);
        if (name.len)
            st = append_variable(load, name, &out);
        else if (!used)
            buf_char(&out, '$');
        i += used;
    }
    if (!st)
        st = buf_status(&out, load->err);
    copy = st ? NULL : arena_strndup(load->l->arena, out.ptr ? out.ptr : "", out.len);
    if (copy)
        *value = nx_slice_of(copy, out.len);
    else if (!st)
        st = arena_failed(load->l->arena, load->err);
    buf_done(&out);
    return st;
}

static nx_status expand_external_labels(struct load *load)
{
    struct labels *ls = &load->l->cfg.global.external_labels;
    nx_status st = NX_OK;

    for (uint32_t i = 0; i < ls->n && !st; i++)
        st = expand(load, (struct nx_slice *)(uintptr_t)&ls->v[i].value);
    return st;
}

/* ---- files ---- */

/* As Go words it: "open a.yml: no such file or directory". */
nx_status fail_like_go(struct nx_err *err, int errno_value, const char *what, const char *path)
{
    char why[200];

    snprintf(why, sizeof why, "%s", strerror(errno_value));
    if (*why >= 'A' && *why <= 'Z' && why[1] >= 'a')
        *why = (char)(*why + ('a' - 'A'));
    return nx_fail(err, errno_value == ENOENT ? NX_NOTFOUND : NX_IO, "%s %s: %s", what, path, why);
}

/* Whatever can be opened and read to its end: files, pipes, /dev/stdin. */
nx_status config_read_file(const char *path, struct buf *to, struct nx_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    nx_status st = NX_OK;

    if (fd < 0)
        return fail_like_go(err, errno, "open", path);
    while (!st) {
        char *at = buf_reserve(to, 64 << 10);
        ssize_t got = at ? read(fd, at, 64 << 10) : 0;

        if (!at)
            st = to->failed == NX_LIMIT ? nx_fail(err, NX_LIMIT, "%s: larger than %u bytes", path,
                                                  NX_LIMIT_CONFIG_BYTES)
                                        : buf_status(to, err);
        else if (got < 0 && errno != EINTR)
            st = fail_like_go(err, errno, "read", path);
        else if (got > 0)
            to->len += (size_t)got;
        else if (!got)
            break;
    }
    close(fd);
    return st;
}

/* ---- documents ---- */

static void decoder_init(struct decoder *d, struct load *load, struct arena *scratch,
                         const char *path)
{
    *d = (struct decoder){.arena = load->l->arena,
                          .scratch = scratch,
                          .path = path,
                          .err = load->err,
                          .regexes = &load->l->regexes};
    d->ignore_unknown = load->opts && load->opts->ignore_unknown_fields;
    buf_init(&d->complaints, NX_ERR_TEXT_BYTES);
}

static nx_status load_main(struct load *load, struct nx_slice text, const char *path)
{
    struct arena *scratch = arena_new(CONFIG_ARENA_BYTES);
    struct config *cfg = &load->l->cfg;
    struct yaml_node *root = NULL;
    struct decoder d;
    nx_status st;

    if (!scratch)
        return nx_fail(load->err, NX_NOMEM, "out of memory");
    decoder_init(&d, load, scratch, path);
    validate_defaults(cfg);
    if ((st = yaml_parse(scratch, text, &root, load->err)))
        goto done;
    if ((st = decode_document(&d, &config_record, root, cfg)))
        goto done;
    if ((st = expand_external_labels(load)))
        goto done;
    st = validate_otlp(&d, root, cfg);

done:
    buf_done(&d.complaints);
    arena_free(scratch);
    return st;
}

static nx_status agent_mode(const struct config *cfg, struct nx_err *err)
{
    if (cfg->alerting.alertmanagers.n || cfg->alerting.alert_relabel.n)
        return nx_fail(err, NX_BADINPUT, "field alerting is not allowed in agent mode");
    if (cfg->rule_files.n)
        return nx_fail(err, NX_BADINPUT, "field rule_files is not allowed in agent mode");
    if (cfg->remote_read.n)
        return nx_fail(err, NX_BADINPUT, "field remote_read is not allowed in agent mode");
    return NX_OK;
}

/* ---- scrape_config_files ---- */

struct jobs {
    struct config_scrape *v;
    size_t n, cap;
};

static nx_status add_job(struct load *load, struct jobs *jobs, const struct config_scrape *s)
{
    if (jobs->n == jobs->cap) {
        size_t cap = jobs->cap ? jobs->cap * 2 : 16;
        struct config_scrape *v =
            arena_grow(load->l->arena, jobs->v, jobs->cap * sizeof *v, cap * sizeof *v);

        if (!v)
            return arena_failed(load->l->arena, load->err);
        jobs->v = v;
        jobs->cap = cap;
    }
    jobs->v[jobs->n++] = *s;
    return NX_OK;
}

static nx_status add_file_job(struct load *load, struct decoder *d, const struct yaml_node *section,
                              const char *file, struct config_scrape *s, struct jobs *jobs)
{
    char first[400] = "main config file";
    nx_status st = validate_scrape(d, section, &load->l->cfg.global, s);

    for (size_t i = 0; i < jobs->n && !st; i++) {
        if (!nx_slice_eq(jobs->v[i].job_name, s->job_name))
            continue;
        if (jobs->v[i].file.len)
            snprintf(first, sizeof first, "\"%s\"", jobs->v[i].file.ptr);
        st = decode_fail_key(d, section, "job_name",
                             "found multiple scrape configs with job name %s, first found in %s",
                             decode_quote(d, s->job_name), first);
    }
    s->file = nx_slice_str(file);
    return st ? st : add_job(load, jobs, s);
}

static nx_status decode_scrape_file(struct load *load, struct decoder *d, struct nx_slice text,
                                    const char *path, struct jobs *jobs)
{
    struct config *file = arena_zalloc(load->l->arena, sizeof *file);
    struct yaml_node *root = NULL;
    char *dir = config_dir(load->l->arena, path);
    nx_status st;

    if (!file || !dir)
        return arena_failed(load->l->arena, load->err);
    if ((st = yaml_parse(d->scratch, text, &root, load->err)) ||
        (st = decode_document(d, &scrape_file_record, root, file)))
        return st;
    for (size_t i = 0; i < file->scrape_configs.n && !st; i++) {
        struct config_scrape *s = (struct config_scrape *)(uintptr_t)&file->scrape_configs.v[i];
        const struct yaml_node *section = yaml_follow(decode_item(root, "scrape_configs", i));
        struct place list, item;

        if (!s->line)
            return decode_fail_item(d, root, "scrape_configs", i,
                                    "empty or null scrape config section");
        decode_enter(d, &list, "scrape_configs", 0);
        decode_enter(d, &item, NULL, i);
        st = add_file_job(load, d, section, path, s, jobs);
        decode_leave(d);
        decode_leave(d);
        if (!st)
            st = config_join_paths(&scrape_record, &jobs->v[jobs->n - 1], load->l->arena, dir,
                                   load->err);
    }
    return st;
}

static nx_status load_scrape_file(struct load *load, const char *path, struct jobs *jobs)
{
    struct arena *scratch = arena_new(CONFIG_ARENA_BYTES);
    char *absolute = *path == '/' ? arena_strdup(load->l->arena, path) : realpath(path, NULL);
    char *name = arena_strdup(load->l->arena, absolute ? absolute : path);
    struct decoder d;
    struct buf text;
    nx_status st;

    if (*path != '/')
        free(absolute);
    buf_init(&text, NX_LIMIT_CONFIG_BYTES + (64 << 10)); /* a last read may find nothing */
    if (!scratch || !name) {
        st = nx_fail(load->err, NX_NOMEM, "out of memory");
        goto done;
    }
    decoder_init(&d, load, scratch, name);
    st = config_read_file(path, &text, load->err);
    if (!st)
        st = decode_scrape_file(load, &d, buf_view(&text), name, jobs);
    if (st)
        st = nx_context(load->err, "\"%s\"", name);
    buf_done(&d.complaints);

done:
    buf_done(&text);
    arena_free(scratch);
    return st;
}

/* The jobs of all files that the patterns name, after those of the main file. */
static nx_status load_scrape_files(struct load *load)
{
    struct config *cfg = &load->l->cfg;
    struct jobs jobs = {0};
    nx_status st = NX_OK;

    if (!cfg->scrape_config_files.n)
        return NX_OK;
    for (size_t i = 0; i < cfg->scrape_configs.n && !st; i++)
        st = add_job(load, &jobs, &cfg->scrape_configs.v[i]);
    for (size_t i = 0; i < cfg->scrape_config_files.n && !st; i++) {
        struct config_strings found = {0};

        const char *pattern = cfg->scrape_config_files.v[i].ptr;

        st = config_glob(pattern, load->l->arena, &found, load->err);
        if (st == NX_BADINPUT)
            st = nx_context(load->err, "error retrieving scrape config files for \"%s\"", pattern);
        for (size_t k = 0; k < found.n && !st; k++)
            st = load_scrape_file(load, found.v[k].ptr, &jobs);
    }
    cfg->scrape_configs.v = jobs.v;
    cfg->scrape_configs.n = jobs.n;
    return st;
}

/* ---- the whole ---- */

static nx_status fingerprint(struct load *load, const struct record *r, const void *obj,
                             struct buf *text, uint64_t *out)
{
    buf_clear(text);
    if (record_print(r, obj, true, text))
        return nx_fail(load->err, NX_NOMEM, "out of memory");
    *out = hash_bytes(text->ptr, text->len);
    return NX_OK;
}

static nx_status fingerprint_sds(struct load *load, const struct config_sds *sds, struct buf *text)
{
    nx_status st = NX_OK;

    for (size_t i = 0; i < sds->n && !st; i++) {
        struct config_sd *sd = (struct config_sd *)(uintptr_t)&sds->v[i];
        const struct record *record = sd_rows[sd->kind].record;
        uint64_t sum = 0, one = 0;

        if (sd->kind != CONFIG_SD_STATIC) {
            st = fingerprint(load, record, sd->u.any, text, &sd->fingerprint);
            continue;
        }
        for (size_t g = 0; g < sd->u.statics->n && !st; g++) {
            if (!(st = fingerprint(load, record, &sd->u.statics->v[g], text, &one)))
                sum = hash_mix(sum, one);
        }
        sd->fingerprint = sum;
    }
    return st;
}

static nx_status fingerprints(struct load *load)
{
    struct config *cfg = &load->l->cfg;
    struct buf text;
    nx_status st = NX_OK;

    buf_init(&text, 0);
    for (size_t i = 0; i < cfg->scrape_configs.n && !st; i++) {
        struct config_scrape *s = (struct config_scrape *)(uintptr_t)&cfg->scrape_configs.v[i];

        if (!(st = fingerprint(load, &scrape_record, s, &text, &s->fingerprint)))
            st = fingerprint_sds(load, &s->sds, &text);
    }
    for (size_t i = 0; i < cfg->alerting.alertmanagers.n && !st; i++) {
        struct config_alertmanager *am =
            (struct config_alertmanager *)(uintptr_t)&cfg->alerting.alertmanagers.v[i];

        if (!(st = fingerprint(load, &alertmanager_record, am, &text, &am->fingerprint)))
            st = fingerprint_sds(load, &am->sds, &text);
    }
    buf_done(&text);
    return st;
}

static nx_status load_text(struct load *load, struct nx_slice text, const char *path)
{
    struct config *cfg = &load->l->cfg;
    char *name = arena_strdup(load->l->arena, path);
    nx_status st;

    if (!name)
        return arena_failed(load->l->arena, load->err);
    if ((st = load_main(load, text, name)))
        return nx_context(load->err, "parsing YAML file %s", path);
    if (load->opts && load->opts->agent && (st = agent_mode(cfg, load->err)))
        return st;
    if ((st = config_join_paths(&config_record, cfg, load->l->arena, load->dir, load->err)))
        return st;
    cfg->path = nx_slice_str(name);
    if (!(load->opts && load->opts->only_main_file) && (st = load_scrape_files(load)))
        return nx_context(load->err, "error loading scrape configs");
    return fingerprints(load);
}

nx_status config_parse(struct config **out, struct nx_slice text, const char *path, const char *dir,
                       const struct config_opts *opts, struct nx_err *err)
{
    struct load load = {.opts = opts, .dir = dir, .err = err};
    struct nx_err own;
    nx_status st;

    if (!err)
        load.err = &own; /* nx_context() wants a text to add to */
    if (!(load.l = calloc(1, sizeof *load.l)) || !(load.l->arena = arena_new(CONFIG_ARENA_BYTES))) {
        st = nx_fail(err, NX_NOMEM, "out of memory");
        goto done;
    }
    atomic_init(&load.l->refs, 1);
    if ((st = load_text(&load, text, path)))
        goto done;
    *out = &load.l->cfg;
    load.l = NULL;

done:
    loaded_free(load.l);
    return st;
}

nx_status config_load(struct config **out, const char *path, const struct config_opts *opts,
                      struct nx_err *err)
{
    struct arena *scratch = arena_new(0);
    char *dir = scratch ? config_dir(scratch, path) : NULL;
    struct buf text;
    nx_status st;

    buf_init(&text, NX_LIMIT_CONFIG_BYTES + (64 << 10)); /* a last read may find nothing */
    if (!dir)
        st = nx_fail(err, NX_NOMEM, "out of memory");
    else if (!(st = config_read_file(path, &text, err)))
        st = config_parse(out, buf_view(&text), path, dir, opts, err);
    buf_done(&text);
    arena_free(scratch);
    return st;
}

nx_status config_parse_target_groups(struct arena *a, struct nx_slice text,
                                     struct config_static_sd *out, struct nx_err *err)
{
    static const struct field groups = {.kind = F_LIST,
                                        .size = sizeof(struct any_list),
                                        .record = &static_group_record,
                                        .go = "[]*targetgroup.Group"};
    struct arena *scratch = arena_new(CONFIG_ARENA_BYTES);
    struct decoder d = {.arena = a, .scratch = scratch, .err = err};
    struct any_list list = {0};
    struct yaml_node *root = NULL;
    nx_status st;

    if (!scratch)
        return nx_fail(err, NX_NOMEM, "out of memory");
    buf_init(&d.complaints, NX_ERR_TEXT_BYTES);
    if ((st = yaml_parse(scratch, text, &root, err)) ||
        (st = decode_list_document(&d, &groups, root, &list)))
        goto done;
    for (size_t i = 0; i < list.n && !st; i++) {
        if (!((struct config_target_group *)list.v)[i].targets.v)
            st = nx_fail(err, NX_BADINPUT, "nil target group item found (index %zu)", i);
    }
    if (!st)
        *out = (struct config_static_sd){list.v, list.n};

done:
    buf_done(&d.complaints);
    arena_free(scratch);
    return st;
}

/* The page shows the main file only, as Prometheus does: jobs of scrape_config_files are in their
 * files. */
void config_yaml(const struct config *cfg, struct buf *out)
{
    struct config main = *cfg;

    main.scrape_configs.n = 0;
    while (main.scrape_configs.n < cfg->scrape_configs.n &&
           !cfg->scrape_configs.v[main.scrape_configs.n].file.len)
        main.scrape_configs.n++;
    record_print(&config_record, &main, false, out);
}
