/* direct_state.c - what receivers were told, as text.
 *
 * WHY     Rules forget on a restart which alerts fired: one that ends meanwhile is never handed over again. Who was
 *         told that it fires would wait for its end for ever; and who was told just now would be told again.
 * RULES   T1  Only what was told and not yet told to be over is kept, with the alert itself.
 *         T2  Times are absolute, but how long an alert is good is not: a server that was down for a day must first let
 *             its rules speak. */
#include "src/notify/direct_state.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/text.h"
#include "src/notify/alert.h"

#define STATE_VERSION 1

/* ---- writing ------------------------------------------------------------------------------------------------ */

struct writing {
    struct buf *b;
    int64_t now_ms;
    bool any;
};

static void write_told(void *ctx, struct nx_slice receiver, int64_t told_ms,
                       const struct notify_alert *a, int64_t good_until_ms)
{
    struct writing *w = ctx;
    int64_t good = good_until_ms > w->now_ms ? good_until_ms - w->now_ms : 0;

    buf_str(w->b, w->any ? ",\n{\"receiver\":" : "\n{\"receiver\":");
    w->any = true;
    text_json(w->b, receiver);
    buf_printf(w->b, ",\"toldAt\":%lld,\"labels\":", (long long)told_ms);
    labels_print_json(w->b, &a->labels);
    buf_str(w->b, ",\"annotations\":");
    labels_print_json(w->b, &a->annotations);
    buf_printf(w->b,
               ",\"startsNs\":%lld,\"goodMs\":%lld,\"generatorURL\":", (long long)a->starts_ns,
               (long long)good);
    text_json(w->b, a->generator_url);
    buf_char(w->b, '}');
}

nx_status state_write(struct groups *g, struct buf *out, int64_t now_ms, struct nx_err *err)
{
    struct writing w = {.b = out, .now_ms = now_ms};

    buf_printf(out, "{\"version\":%d,\"alerts\":[", STATE_VERSION);
    groups_each_told(g, write_told, &w);
    buf_str(out, "\n]}\n");
    return buf_status(out, err);
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return nx_slice_cmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

/* Borrows the object's strings. */
static bool read_map(json_t *o, struct arena *a, struct labels *out)
{
    struct label *v;
    const char *key;
    json_t *value;
    uint32_t n = 0;

    if (!json_is_object(o) || !(v = arena_array(a, json_object_size(o) + 1, sizeof *v)))
        return false;
    json_object_foreach(o, key, value)
    {
        if (!json_is_string(value) || !*key)
            return false;
        if (json_string_length(value))
            v[n++] = (struct label){nx_slice_str(key), nx_slice_of(json_string_value(value),
                                                                   json_string_length(value))};
    }
    qsort(v, n, sizeof *v, by_name);
    *out = (struct labels){v, n};
    return true;
}

static bool read_alert(json_t *o, struct arena *a, struct labels *labels, struct rule_notice *out,
                       int64_t *good_ms, int64_t *told_ms)
{
    json_t *starts = json_object_get(o, "startsNs"), *good = json_object_get(o, "goodMs"),
           *told = json_object_get(o, "toldAt");

    *out = (struct rule_notice){.generator_url =
                                    json_string_value(json_object_get(o, "generatorURL"))};
    if (!json_is_string(json_object_get(o, "receiver")) || !out->generator_url ||
        !json_is_integer(starts) || !json_is_integer(good) || !json_is_integer(told) ||
        json_integer_value(good) < 0 || json_integer_value(good) > INT64_MAX / 4000000)
        return false;
    out->starts_ns = json_integer_value(starts);
    *good_ms = json_integer_value(good);
    *told_ms = json_integer_value(told);
    return read_map(json_object_get(o, "labels"), a, labels) &&
           read_map(json_object_get(o, "annotations"), a, &out->annotations);
}

/* T2. `take` false: only looks whether it is all right. */
static nx_status each(struct groups *g, json_t *list, bool take, int64_t now_ms, int64_t grace_ms,
                      struct arena *a, struct nx_err *err)
{
    struct arena_mark mark = arena_mark(a);
    json_t *o;
    size_t i;

    json_array_foreach(list, i, o)
    {
        struct labels labels;
        struct rule_notice n;
        int64_t good_ms, told_ms;
        arena_release(a, mark);
        if (!read_alert(o, a, &labels, &n, &good_ms, &told_ms))
            return nx_fail(err, NX_CORRUPT, "alert %zu is not complete", i);
        if (!take)
            continue;
        n.ends_ns = (now_ms + grace_ms + good_ms) * 1000000;
        struct notify_alert *alert = alert_new(&labels, &n);
        if (!alert)
            return nx_fail(err, NX_NOMEM, "out of memory");
        json_t *r = json_object_get(o, "receiver");
        groups_take_told(g, nx_slice_of(json_string_value(r), json_string_length(r)), alert,
                         told_ms < now_ms ? told_ms : now_ms, now_ms);
        notify_alert_unref(alert);
    }
    return NX_OK;
}

nx_status state_read(struct groups *g, struct nx_slice text, int64_t now_ms, int64_t grace_ms,
                     struct nx_err *err)
{
    struct arena *a = arena_new(0);
    json_error_t why;
    json_t *root = a ? json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &why) : NULL, *list;
    nx_status st;

    if (!a)
        return nx_fail(err, NX_NOMEM, "out of memory");
    list = json_object_get(root, "alerts");
    if (!root)
        st = nx_fail(err, NX_CORRUPT, "line %d: %s", why.line, why.text);
    else if (json_integer_value(json_object_get(root, "version")) != STATE_VERSION)
        st = nx_fail(err, NX_CORRUPT, "its version is not %d", STATE_VERSION);
    else if (!json_is_array(list))
        st = nx_fail(err, NX_CORRUPT, "it has no list of alerts");
    else
        st = each(g, list, false, now_ms, grace_ms, a, err);
    if (!st)
        st = each(g, list, true, now_ms, grace_ms, a, err);
    json_decref(root);
    arena_free(a);
    return st;
}
