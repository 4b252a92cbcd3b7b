/* series.c - from exposed labels to stored ones.
 *
 * RULES   S1  honor_labels false: the target's labels win; an exposed one of the same name moves to
 *             exported_NAME, or with as many exported_ as it takes (SCR-066).
 *         S2  honor_labels true: the exposed one wins, even if it is empty: then there is none (SCR-067).
 *         S3  Empty values are no labels; they matter only to S2.
 *         S4  Checks are made on what is stored, after relabelling, so a rule can repair a target. */
#include "src/scrape/series.h"

#include <string.h>

#define EXPORTED "exported_"

void sample_rules_of(struct sample_rules *r, const struct config_scrape *cfg)
{
    *r = (struct sample_rules){
        .honor_labels = cfg->honor_labels,
        .honor_timestamps = cfg->honor_timestamps,
        .track_timestamps = cfg->track_timestamps_staleness,
        .legacy_names = cfg->validation == CONFIG_VALIDATION_LEGACY,
        .relabel = cfg->metric_relabel,
        .sample_limit = cfg->limits.samples,
        .label_limit = cfg->limits.labels,
        .label_name_limit = cfg->limits.label_name_bytes,
        .label_value_limit = cfg->limits.label_value_bytes,
    };
    if (cfg->fallback_scrape_protocol != CONFIG_PROTO_UNSET)
        r->fallback = nx_slice_str(config_protocol_name(cfg->fallback_scrape_protocol));
}

/* ---- merging --------------------------------------------------------------------------------- */

static const struct label *exposed(const struct expo_labels *ls, struct nx_slice name)
{
    for (uint32_t i = 0; i < ls->n; i++)
        if (nx_slice_eq(ls->v[i].name, name))
            return &ls->v[i];
    return NULL;
}

/* The free name for an exposed label that the target's own displaced (S1). */
static struct nx_slice exported_name(const struct labels_builder *b, struct nx_slice name,
                                     struct arena *a)
{
    do {
        char *p = arena_alloc(a, name.len + sizeof EXPORTED - 1);
        if (!p)
            return nx_slice_of(NULL, 0);
        memcpy(p, EXPORTED, sizeof EXPORTED - 1);
        memcpy(p + sizeof EXPORTED - 1, name.ptr, name.len);
        name = nx_slice_of(p, name.len + sizeof EXPORTED - 1);
    } while (labels_builder_get(b, name).len > 0);
    return name;
}

/* Displaced labels get their new names shortest name first, as Prometheus does it: with both job and
 * exported_job displaced, job becomes exported_job's neighbour in a known order. */
static nx_status rename_displaced(struct labels_builder *b, struct label *v, uint32_t n,
                                  struct arena *a, struct nx_err *err)
{
    for (uint32_t i = 1; i < n; i++) {
        struct label l = v[i];
        uint32_t at = i;
        for (; at > 0 && v[at - 1].name.len > l.name.len; at--)
            v[at] = v[at - 1];
        v[at] = l;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct nx_slice name = exported_name(b, v[i].name, a);
        if (!name.ptr)
            return arena_failed(a, err);
        labels_builder_set(b, name, v[i].value);
    }
    return NX_OK;
}

static nx_status merge(struct labels_builder *b, const struct expo_labels *ls,
                       const struct labels *target, bool honor, struct arena *a, struct nx_err *err)
{
    struct label *displaced = honor ? NULL : arena_array(a, target->n, sizeof *displaced);
    uint32_t n = 0;

    if (!honor && !displaced)
        return arena_failed(a, err);
    for (uint32_t i = 0; i < ls->n; i++)
        if (ls->v[i].value.len) /* S3 */
            labels_builder_set(b, ls->v[i].name, ls->v[i].value);
    for (uint32_t i = 0; i < target->n; i++) {
        const struct label *l = &target->v[i], *old = exposed(ls, l->name);
        if (honor && old)
            continue; /* S2 */
        if (old && old->value.len)
            displaced[n++] = *old;
        labels_builder_set(b, l->name, l->value);
    }
    return n ? rename_displaced(b, displaced, n, a, err) : NX_OK;
}

/* ---- checking -------------------------------------------------------------------------------- */

static int shown(struct nx_slice s) /* Prometheus cuts names in these texts at 50 */
{
    return s.len > 50 ? 50 : (int)s.len;
}

static nx_status check_limits(const struct labels *ls, struct nx_slice metric,
                              const struct sample_rules *r, struct nx_err *err)
{
    if (r->label_limit && ls->n > r->label_limit)
        return nx_fail(err, NX_BADINPUT,
                       "label_limit exceeded (metric: %.*s, number of labels: %u, limit: %llu)",
                       shown(metric), metric.ptr, ls->n, (unsigned long long)r->label_limit);
    for (uint32_t i = 0; i < ls->n && (r->label_name_limit || r->label_value_limit); i++) {
        struct nx_slice name = ls->v[i].name, value = ls->v[i].value;
        if (r->label_name_limit && name.len > r->label_name_limit)
            return nx_fail(err, NX_BADINPUT,
                           "label_name_length_limit exceeded (metric: %.*s, label name: %.*s, "
                           "length: %zu, limit: %llu)",
                           shown(metric), metric.ptr, shown(name), name.ptr, name.len,
                           (unsigned long long)r->label_name_limit);
        if (r->label_value_limit && value.len > r->label_value_limit)
            return nx_fail(err, NX_BADINPUT,
                           "label_value_length_limit exceeded (metric: %.*s, label name: %.*s, "
                           "value: \"%.*s\", length: "
                           "%zu, limit: %llu)",
                           shown(metric), metric.ptr, shown(name), name.ptr, shown(value),
                           value.ptr, value.len, (unsigned long long)r->label_value_limit);
    }
    return NX_OK;
}

static bool names_valid(const struct labels *ls, struct nx_slice metric, bool legacy)
{
    if (legacy ? !metric_name_legacy_valid(metric) : !utf8_valid(metric))
        return false;
    for (uint32_t i = 0; i < ls->n; i++)
        if ((legacy ? !label_name_legacy_valid(ls->v[i].name) : !label_name_valid(ls->v[i].name)) ||
            !utf8_valid(ls->v[i].value))
            return false;
    return true;
}

static nx_status check(const struct labels *ls, const struct expo_labels *from,
                       const struct sample_rules *r, bool *label_limit, struct nx_err *err)
{
    struct nx_slice metric = labels_get_str(ls, LABEL_NAME);
    struct nx_slice twice = from->repeated;
    struct buf b;

    if (metric.len == 0)
        return nx_fail(err, NX_BADINPUT, "missing metric name (__name__ label)");
    if (!names_valid(ls, metric, r->legacy_names)) {
        buf_init(&b, NX_ERR_TEXT_BYTES);
        labels_print(&b, ls);
        nx_fail(err, NX_BADINPUT, "invalid metric name or label names: %s", buf_cstr(&b));
        buf_done(&b);
        return NX_BADINPUT;
    }
    if (check_limits(ls, metric, r, err)) {
        *label_limit = true;
        return NX_BADINPUT;
    }
    if (twice.ptr && labels_get(ls, twice).len)
        return nx_fail(err, NX_BADINPUT, "label name \"%.*s\" is not unique: invalid sample",
                       (int)twice.len, twice.ptr);
    return NX_OK;
}

nx_status series_labels(struct nx_slice series, enum expo_type type, const struct labels *target,
                        const struct sample_rules *r, struct relabel_work *w, struct arena *a,
                        struct labels *out, bool *label_limit, struct nx_err *err)
{
    struct expo_labels from;
    struct labels built = {0};
    bool kept = false;
    nx_status st = expo_labels(series, type, a, &from, err);

    *label_limit = false;
    relabel_work_begin(w, NULL);
    if (!st)
        st = merge(&w->labels, &from, target, r->honor_labels, a, err);
    if (!st)
        st = relabel_apply(&r->relabel, w, &kept, err);
    if (!st && kept)
        st = labels_builder_build(&w->labels, &built, err);
    if (st)
        return st;
    if (built.n == 0) {
        *out = built;
        return NX_OK;
    }
    st = check(&built, &from, r, label_limit, err); /* S4 */
    return st ? st : labels_copy(a, &built, out, err);
}

nx_status series_report_labels(const char *name, const struct labels *target,
                               struct relabel_work *w, struct labels *out, struct nx_err *err)
{
    relabel_work_begin(w, target);
    labels_builder_set(&w->labels, nx_slice_str(LABEL_NAME), nx_slice_str(name));
    return labels_builder_build(&w->labels, out, err);
}
