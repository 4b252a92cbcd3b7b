/* fuzz_rules.c - arbitrary bytes as a file of rules.
 *
 * OPINION  What is refused is told, each error with the file's name; what is taken is canonical: every
 *          expression of it reads again as itself, and the same bytes give the same fingerprints. */
#include <stdlib.h>
#include <string.h>

#include "src/rules/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
    if (!what)
        abort();
}

static void count(void *ctx, const char *text)
{
    ++*(unsigned *)ctx;
    require(strstr(text, "fuzz.yml: ") == text || strstr(text, "Multiple document") == text);
}

static void check_rule(const struct rule *r)
{
    struct arena *a = arena_new(0);
    const struct pql_expr *e = NULL;
    struct nx_err err = {0};

    require(a && r->name.len);
    require(r->alerting || (!r->annotations.n && !r->for_ms && !r->keep_firing_for_ms));
    for (uint32_t i = 1; i < r->labels.n; i++)
        require(nx_slice_cmp(r->labels.v[i - 1].name, r->labels.v[i].name) < 0);
    /* A range below a millisecond prints as 0s, which does not read again. */
    if (pql_parse(a, r->query, NULL, &e, &err))
        require(strstr(err.text, "duration must be greater than 0") != NULL ||
                memmem(r->query.ptr, r->query.len, "info(", 5));
    pql_expr_done(e);
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct nx_slice text = {(const char *)data, size};
    unsigned told = 0;
    const struct rule_load_opts opts = {.error = count, .ctx = &told};
    struct rule_files *one = NULL, *two = NULL;
    struct nx_err err = {0};
    nx_status st = rule_files_parse(&one, text, "fuzz.yml", &opts, &err);

    if (st) {
        require(!one && *err.text && (st != NX_BADINPUT || told));
        return 0;
    }
    require(!told && !rule_files_parse(&two, text, "fuzz.yml", NULL, &err));
    require(one->n_groups == two->n_groups && one->n_rules == two->n_rules);
    for (size_t i = 0; i < one->n_groups; i++) {
        require(one->groups[i].fingerprint == two->groups[i].fingerprint);
        for (size_t k = 0; k < one->groups[i].n_rules; k++)
            check_rule(&one->groups[i].rules[k]);
    }
    rule_files_unref(one);
    rule_files_unref(two);
    return 0;
}
