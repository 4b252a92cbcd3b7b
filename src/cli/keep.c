#include "src/cli/keep.h"

/* keep.c - rules of retention: src/config reads the file, promql/ the selectors in it. */

#include <stdio.h>
#include <unistd.h>

#include "promql/promql.h"
#include "src/cli/tool.h"

static struct storage_keep_rule *rules_of(const struct keep_file *k)
{
    return (struct storage_keep_rule *)(uintptr_t)k->rules.keep; /* ours */
}

void keep_file_done(struct keep_file *k)
{
    for (size_t i = 0; i < k->rules.n_keep; i++)
        pql_matchers_done((struct matcher *)(uintptr_t)k->rules.keep[i].match.m,
                          k->rules.keep[i].match.n);
    arena_free(k->arena);
    *k = (struct keep_file){0};
}

static nx_status parse_rules(struct keep_file *k, const struct config_keep *from, const char *path,
                             struct nx_err *err)
{
    nx_status st = NX_OK;

    struct storage_level *levels = arena_array(k->arena, from->downsample.n + 1, sizeof *levels);

    k->rules.keep = arena_array(k->arena, from->retention.n + 1, sizeof *k->rules.keep);
    if (!k->rules.keep || !levels)
        return arena_failed(k->arena, err);
    for (size_t i = 0; i < from->downsample.n; i++) {
        const struct config_keep_level *l = &from->downsample.v[i];
        levels[i] = (struct storage_level){l->after_ms, l->resolution_ms, l->keep_ms};
    }
    k->rules.levels = levels;
    k->rules.n_levels = from->downsample.n;
    for (size_t i = 0; i < from->retention.n && !st; i++) {
        const struct config_keep_rule *r = &from->retention.v[i];
        struct storage_keep_rule *to = &rules_of(k)[i];
        struct matcher *m = NULL;
        size_t n = 0;
        st = pql_parse_selector(k->arena, r->match, &m, &n, err);
        if (!st) {
            st = pql_check_match(m, n, err);
            if (st)
                pql_matchers_done(m, n);
        }
        if (st) {
            const struct nx_err why = *err;
            return nx_fail(err, st, "parsing YAML file %s: %s (%s:%d: retention[%zu].match)", path,
                           why.text, path, r->line, i);
        }
        *to = (struct storage_keep_rule){{m, n}, r->keep_ms};
        k->rules.n_keep = i + 1;
    }
    return st;
}

nx_status keep_file_load(struct keep_file *out, const char *path, struct nx_err *err)
{
    struct keep_file k = {.arena = arena_new(0)};
    struct config_keep file = {0};
    nx_status st = NX_OK;

    if (!k.arena)
        return nx_fail(err, NX_NOMEM, "out of memory");
    if (path[0])
        st = config_load_keep(&file, path, k.arena, err);
    if (!st)
        st = parse_rules(&k, &file, path, err);
    if (!st) {
        *out = k;
        k = (struct keep_file){0};
    }
    keep_file_done(&k);
    return st;
}

int tool_check_retention(const struct flags *f)
{
    int code = 0;

    for (size_t i = 0; i < f->n_args; i++)
        if (access(f->args[i], F_OK)) {
            fprintf(stderr, "promtool: error: path '%s' does not exist, try --help\n", f->args[i]);
            return 1;
        }
    for (size_t i = 0; i < f->n_args; i++) {
        struct keep_file k = {0};
        struct nx_err err = {0};
        printf("Checking %s\n", f->args[i]);
        if (keep_file_load(&k, f->args[i], &err)) {
            fflush(stdout);
            fprintf(stderr, "  FAILED: %s\n\n", err.text);
            code = 1;
        } else {
            printf("  SUCCESS: %zu retention rules found\n", k.rules.n_keep);
            if (k.rules.n_levels)
                printf("  SUCCESS: %zu levels of downsampling found\n", k.rules.n_levels);
            putchar('\n');
        }
        keep_file_done(&k);
    }
    return code;
}
