/* template.h - Go's text/template with Prometheus's functions: what labels and annotations of alerts are
 * written in.
 *
 * A template is parsed once and executed any number of times. Texts of errors are Go's:
 *   template: __alert_Down:1:134: executing "__alert_Down" at <$labels.a.b>: can't evaluate field b in ...
 *
 * Memory   a template lives in the arena it was parsed into; an execution takes what it needs from another.
 * Threads  a parsed template is immutable and may be shared; an execution is one thread's.
 * Units    times are milliseconds of Unix time. */
#pragma once

#include "src/base/arena.h"
#include "src/base/buf.h"
#include "src/base/labels.h"
#include "src/base/status.h"

struct template;

/* The variables that Prometheus puts before the text of every label and annotation, as it writes them. */
#define TEMPLATE_ALERT_PREFIX                                                                      \
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := "               \
    ".ExternalURL}}{{$value := .Value}}"

/* `name` and `text` are copied. NX_BADINPUT: "template: NAME:1: unclosed action". */
NX_NODISCARD nx_status template_parse(struct template **out, struct arena *a, struct nx_slice name,
                                      struct nx_slice text, struct nx_err *err);
/* TEMPLATE_ALERT_PREFIX before the text. */
NX_NODISCARD nx_status template_parse_alert(struct template **out, struct arena *a,
                                            struct nx_slice name, struct nx_slice text,
                                            struct nx_err *err);

/* What files define, for templates that say {{ template "name" . }}. */
struct template_library;
/* Lives in the arena, as all that is added. NULL: arena_failed(). */
struct template_library *template_library_new(struct arena *a);
/* A file's definitions, and the file itself by its `name`; the last of two equal names holds. As template_parse(). */
NX_NODISCARD nx_status template_library_add(struct template_library *l, struct nx_slice name,
                                            struct nx_slice text, struct nx_err *err);
/* As template_parse(); `library` outlives it. What the text itself defines goes first. */
NX_NODISCARD nx_status template_parse_with(struct template **out, struct arena *a,
                                           struct nx_slice name, struct nx_slice text,
                                           const struct template_library *library,
                                           struct nx_err *err);

/* A sample of what `query` gives. */
struct template_sample {
    struct labels labels;
    double value;
};
/* What is not an alert's: a notification, say, of which a template wants `.Alerts.Firing` and
 * `.CommonLabels.SortedPairs`. All is borrowed. */
enum template_kind {
    TEMPLATE_TEXT,
    TEMPLATE_PAIRS, /* names and values: Alertmanager's KV, with its methods */
    TEMPLATE_TIME,  /* a time.Time */
    TEMPLATE_NUMBER,
    TEMPLATE_ITEMS, /* a list; its fields are what it answers besides */
    TEMPLATE_RECORD /* fields */
};
struct template_value {
    enum template_kind kind;
    struct nx_slice text;
    struct labels pairs;
    int64_t ns, number;
    const struct template_value *items;
    size_t n_items;
    const struct template_field *fields;
    size_t n_fields;
    const char *go; /* Go's name of the type of items or a record, in messages */
};
struct template_field {
    const char *name;
    struct template_value value;
};

/* Runs an expression at the execution's time; the result lives in the arena. */
typedef nx_status template_query_fn(void *ctx, struct nx_slice expr, struct arena *a,
                                    struct template_sample **out, size_t *n, struct nx_err *err);

/* What a template sees. All is borrowed. */
struct template_data {
    const struct labels *labels, *external_labels;
    struct nx_slice external_url;
    double value;
    int64_t now_ms;
    template_query_fn *query; /* NULL: queries fail */
    void *query_ctx;
    const struct template_value *root; /* the dot; NULL: an alert's labels and value, as above */
};
/* Appends to `out`. A failure leaves a part of the result there and gives NX_EXEC with Go's text, which begins
 * "error executing template NAME: template: ..." as Prometheus has it; NX_LIMIT: too long, or too much work. */
NX_NODISCARD nx_status template_execute(const struct template *t, const struct template_data *data,
                                        struct arena *a, struct buf *out, struct nx_err *err);

/* Whether the text is the same whatever the data: nothing but text. */
bool template_is_text(struct nx_slice text);

/* Of links: what Prometheus puts after its own address. */
void template_graph_link(struct buf *b, struct nx_slice expr); /* /graph?g0.expr=...&g0.tab=0 */
void template_table_link(struct buf *b, struct nx_slice expr); /* /graph?g0.expr=...&g0.tab=1 */
