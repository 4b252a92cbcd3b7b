/* alert.c - alerts: made once, shared by all queues, written for the Alertmanager.
 *
 * RULES   A1  An alert is one block of memory and never changes: relabelling for one Alertmanager makes another one.
 *         A2  External labels are added where the alert has none of the name, before any relabelling. */
#include "src/notify/alert.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/text.h"

struct shared {
    struct notify_alert alert; /* first: what others point at */
    atomic_uint refs;
};

static struct shared *shared_of(const struct notify_alert *a)
{
    return (struct shared *)(uintptr_t)a;
}

const struct notify_alert *notify_alert_ref(const struct notify_alert *a)
{
    atomic_fetch_add_explicit(&shared_of(a)->refs, 1, memory_order_relaxed);
    return a;
}

void notify_alert_unref(const struct notify_alert *a)
{
    if (a && atomic_fetch_sub_explicit(&shared_of(a)->refs, 1, memory_order_acq_rel) == 1)
        free(shared_of(a));
}

/* ---- making ----------------------------------------------------------------------------------------- */

static size_t size_of(const struct labels *ls)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < ls->n; i++)
        bytes += sizeof *ls->v + ls->v[i].name.len + ls->v[i].value.len + 2;
    return bytes;
}

static struct nx_slice put_text(char **at, struct nx_slice s)
{
    struct nx_slice out = nx_slice_of(*at, s.len);

    if (s.len)
        memcpy(*at, s.ptr, s.len);
    (*at)[s.len] = '\0';
    *at += s.len + 1;
    return out;
}

static struct labels put_labels(struct label *v, char **at, const struct labels *from)
{
    for (uint32_t i = 0; i < from->n; i++) {
        v[i].name = put_text(at, from->v[i].name);
        v[i].value = put_text(at, from->v[i].value);
    }
    return (struct labels){v, from->n};
}

/* `like` says all but the labels and where the strings are. */
static struct notify_alert *make(const struct labels *labels, const struct labels *annotations,
                                 struct nx_slice url, const struct notify_alert *like)
{
    size_t bytes = sizeof(struct shared) + size_of(labels) + size_of(annotations) + url.len + 1;
    struct shared *s = malloc(bytes);
    struct label *v;
    char *at;

    if (!s)
        return NULL;
    v = (struct label *)(s + 1);
    at = (char *)(v + labels->n + annotations->n);
    s->alert = *like;
    s->alert.bytes = bytes;
    s->alert.labels = put_labels(v, &at, labels);
    s->alert.annotations = put_labels(v + labels->n, &at, annotations);
    s->alert.generator_url = put_text(&at, url);
    atomic_init(&s->refs, 1);
    return &s->alert;
}

struct notify_alert *alert_new(const struct labels *labels, const struct rule_notice *from)
{
    const struct notify_alert like = {
        .starts_ns = from->starts_ns, .ends_ns = from->ends_ns, .resolved = from->resolved};

    return make(labels, &from->annotations, nx_slice_str(from->generator_url), &like);
}

struct notify_alert *alert_with_labels(const struct notify_alert *from, const struct labels *labels)
{
    return make(labels, &from->annotations, from->generator_url, from); /* A1 */
}

/* ---- relabelling ------------------------------------------------------------------------------------ */

nx_status alert_relabel(struct relabel_work *w, const struct labels *from,
                        const struct labels *external, const struct relabel_rules *rules,
                        bool *kept, struct labels *out, struct nx_err *err)
{
    nx_status st;

    relabel_work_begin(w, from);
    for (uint32_t i = 0; external && i < external->n; i++) /* A2 */
        if (!labels_get(from, external->v[i].name).len)
            labels_builder_set(&w->labels, external->v[i].name, external->v[i].value);
    st = relabel_apply(rules, w, kept, err);
    return st || !*kept ? st : labels_builder_build(&w->labels, out, err);
}

/* ---- JSON ------------------------------------------------------------------------------------------- */

/* Milliseconds, always three digits of them. */
static void put_time(struct buf *b, const char *key, int64_t ns)
{
    const int64_t s_ns = 1000000000;
    int64_t rest = ns % s_ns;
    char text[40];
    size_t n;

    if (rest < 0)
        rest += s_ns;
    n = clock_format_rfc3339(text, ns - rest); /* whole seconds: no fraction */
    buf_printf(b, "\"%s\":\"%.*s.%03dZ\",", key, (int)(n - 1), text, (int)(rest / 1000000));
}

void alerts_json(struct buf *b, const struct notify_alert *const *v, size_t n)
{
    buf_char(b, '[');
    for (size_t i = 0; i < n; i++) {
        const struct notify_alert *a = v[i];

        buf_str(b, i ? ",{" : "{");
        if (a->annotations.n) {
            buf_str(b, "\"annotations\":");
            labels_print_json(b, &a->annotations);
            buf_char(b, ',');
        }
        put_time(b, "endsAt", a->ends_ns);
        put_time(b, "startsAt", a->starts_ns);
        if (a->generator_url.len) {
            buf_str(b, "\"generatorURL\":");
            text_json(b, a->generator_url);
            buf_char(b, ',');
        }
        buf_str(b, "\"labels\":");
        labels_print_json(b, &a->labels);
        buf_char(b, '}');
    }
    buf_char(b, ']');
}
