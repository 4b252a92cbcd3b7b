/* keep_rules.c - see keep_rules.h.
 *
 * RULES   K1  A series belongs to the first rule that matches it, else to the retention of all.
 *         K2  A whole block's worth goes when the newest block's end is that time past the block's end: the
 *             same as the retention of all has it (B3 of retention.c).
 *         K3  When a block is written for whatever reason, samples that their rule does not keep are left
 *             out one by one. Those that only the retention of all ends are not, as they go in blocks. */
#include "storage/keep_rules.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RULES_BYTES (16u << 20)

struct rule {
    struct matcher *m;
    size_t n;
    int64_t keep_ms;
};

struct keep_rules {
    atomic_uint refs;
    struct arena *arena;
    struct rule *rules;
    size_t n;
    struct storage_level *levels;
    size_t n_levels;
};

static nx_status copy_matcher(struct arena *a, const struct matcher *from, struct matcher *to,
                              struct nx_err *err)
{
    struct regex *re = NULL;
    nx_status st = NX_OK;

    to->type = from->type;
    to->name = arena_slice(a, from->name);
    to->value = arena_slice(a, from->value);
    if (!to->name.ptr || !to->value.ptr)
        return arena_failed(a, err);
    if (from->type == MATCH_RE || from->type == MATCH_NRE)
        st = regex_new(&re, from->value, err);
    to->re = re;
    return st;
}

static nx_status copy_rule(struct keep_rules *k, const struct storage_keep_rule *from,
                           struct nx_err *err)
{
    struct rule *to = &k->rules[k->n++]; /* counted first: what is made of it goes with the rest */
    nx_status st = NX_OK;

    if (from->keep_ms <= 0)
        return nx_fail(err, NX_BADINPUT, "a rule must keep its series for some time");
    to->keep_ms = from->keep_ms;
    to->m = arena_array(k->arena, from->match.n ? from->match.n : 1, sizeof *to->m);
    if (!to->m)
        return arena_failed(k->arena, err);
    for (size_t i = 0; i < from->match.n && !st; i++) {
        st = copy_matcher(k->arena, &from->match.m[i], &to->m[i], err);
        to->n = i + 1;
    }
    return st;
}

static bool level_ok(const struct storage_level *l, const struct storage_level *before)
{
    if (l->after_ms <= 0 || l->resolution_ms < 1000 || l->resolution_ms > 24 * 3600000LL ||
        l->keep_ms <= l->after_ms)
        return false;
    return !before || (l->after_ms > before->after_ms && l->keep_ms > before->keep_ms &&
                       l->resolution_ms > before->resolution_ms &&
                       l->resolution_ms % before->resolution_ms == 0);
}

static nx_status copy_levels(struct keep_rules *k, const struct storage_rules *from,
                             struct nx_err *err)
{
    k->levels = arena_array(k->arena, from->n_levels ? from->n_levels : 1, sizeof *k->levels);
    if (!k->levels)
        return arena_failed(k->arena, err);
    for (size_t i = 0; i < from->n_levels; i++) {
        if (!level_ok(&from->levels[i], i ? &from->levels[i - 1] : NULL))
            return nx_fail(err, NX_BADINPUT, "level %zu of downsampling makes no sense", i);
        k->levels[i] = from->levels[i];
    }
    k->n_levels = from->n_levels;
    return NX_OK;
}

nx_status keep_rules_new(struct keep_rules **out, const struct storage_rules *from,
                         struct nx_err *err)
{
    struct keep_rules *k = calloc(1, sizeof *k);
    nx_status st = NX_OK;

    if (!k)
        return nx_fail(err, NX_NOMEM, "rules of retention");
    atomic_init(&k->refs, 1);
    k->arena = arena_new(RULES_BYTES);
    if (!k->arena) {
        st = nx_fail(err, NX_NOMEM, "rules of retention");
        goto done;
    }
    k->rules = arena_array(k->arena, from->n_keep ? from->n_keep : 1, sizeof *k->rules);
    if (!k->rules) {
        st = arena_failed(k->arena, err);
        goto done;
    }
    for (size_t i = 0; i < from->n_keep && !st; i++)
        st = copy_rule(k, &from->keep[i], err);
    if (!st)
        st = copy_levels(k, from, err);
    if (st)
        goto done;
    *out = k;
    k = NULL;

done:
    keep_rules_unref(k);
    return st;
}

struct keep_rules *keep_rules_ref(struct keep_rules *k)
{
    if (k)
        atomic_fetch_add(&k->refs, 1);
    return k;
}

void keep_rules_unref(struct keep_rules *k)
{
    if (!k || atomic_fetch_sub(&k->refs, 1) != 1)
        return;
    for (size_t i = 0; i < k->n; i++)
        for (size_t j = 0; j < k->rules[i].n; j++)
            regex_free((struct regex *)(uintptr_t)k->rules[i].m[j].re); /* made by copy_matcher() */
    arena_free(k->arena);
    free(k);
}

/* ---- asking ---------------------------------------------------------------------------------- */

size_t keep_n_rules(const struct keep_rules *k)
{
    return k ? k->n : 0;
}

size_t keep_n_levels(const struct keep_rules *k)
{
    return k ? k->n_levels : 0;
}

const struct storage_level *keep_level(const struct keep_rules *k, size_t i)
{
    return &k->levels[i];
}

struct keep keep_of_resolution(const struct keep *k, int64_t resolution_ms)
{
    struct keep own = *k;

    for (size_t i = 0; resolution_ms && i < keep_n_levels(k->rules); i++)
        if (k->rules->levels[i].resolution_ms == resolution_ms)
            own.retention_ms = k->rules->levels[i].keep_ms;
    return own;
}

size_t keep_rule_of(const struct keep_rules *k, const struct labels *ls) /* K1 */
{
    size_t i = 0;

    while (i < keep_n_rules(k) && !matchers_match(k->rules[i].m, k->rules[i].n, ls))
        i++;
    return i;
}

/* How long series of that rule are kept (of no rule: by the retention); INT64_MAX: for ever. */
static int64_t keep_time(const struct keep *k, size_t rule)
{
    if (rule < keep_n_rules(k->rules))
        return k->rules->rules[rule].keep_ms;
    return k->retention_ms > 0 ? k->retention_ms : INT64_MAX;
}

int64_t keep_longest(const struct keep *k)
{
    int64_t longest = 0;

    for (size_t i = 0; i <= keep_n_rules(k->rules); i++)
        longest = keep_time(k, i) > longest ? keep_time(k, i) : longest;
    return longest;
}

bool keep_passed(const struct keep *k, size_t rule, int64_t max_ms) /* K2 */
{
    return k->newest_ms > max_ms && k->newest_ms - max_ms >= keep_time(k, rule);
}

size_t keep_n_passed(const struct keep *k, int64_t max_ms)
{
    size_t n = 0;

    for (size_t i = 0; i <= keep_n_rules(k->rules); i++)
        n += keep_passed(k, i, max_ms);
    return n;
}

int64_t keep_from(const struct keep *k, const struct labels *ls, int64_t max_ms) /* K3 */
{
    const size_t rule = keep_rule_of(k->rules, ls);

    if (keep_passed(k, rule, max_ms))
        return INT64_MAX;
    if (rule == keep_n_rules(k->rules))
        return INT64_MIN;
    return k->newest_ms - keep_time(k, rule);
}
