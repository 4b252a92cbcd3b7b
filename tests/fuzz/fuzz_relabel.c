/* fuzz_relabel.c - arbitrary rules on arbitrary labels.
 *
 * INPUT    Lines "name=value" up to an empty line, then the YAML of a relabel_configs list.
 * OPINION  Nothing crashes or leaks. Afterwards the set is sorted, has no name twice and no empty value
 *          (names may be invalid: labelmap makes what it is told to). The same again from the start gives the same, and so does
 *          applying the rules one at a time. */
#include <stdlib.h>
#include <string.h>

#include "src/relabel/relabel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes the labels off the front of `text`. */
static void take_labels(struct nx_slice *text, struct labels_builder *lb)
{
    labels_builder_reset(lb, NULL);
    while (text->len) {
        const char *end = memchr(text->ptr, '\n', text->len);
        struct nx_slice line = {text->ptr, end ? (size_t)(end - text->ptr) : text->len};
        const char *eq = memchr(line.ptr, '=', line.len);

        text->ptr += line.len + (end != NULL);
        text->len -= line.len + (end != NULL);
        if (!line.len)
            return;
        if (eq && label_name_valid(nx_slice_of(line.ptr, (size_t)(eq - line.ptr))))
            labels_builder_set(lb, nx_slice_of(line.ptr, (size_t)(eq - line.ptr)),
                               nx_slice_of(eq + 1, line.len - (size_t)(eq + 1 - line.ptr)));
    }
}

static void check_set(const struct labels_builder *lb)
{
    for (uint32_t i = 0; i < lb->n; i++) {
        if (!lb->v[i].value.len)
            abort();
        if (i && nx_slice_cmp(lb->v[i - 1].name, lb->v[i].name) >= 0)
            abort();
    }
}

static void compare(const struct labels_builder *a, const struct labels_builder *b)
{
    struct labels x = {a->v, a->n}, y = {b->v, b->n};

    if (!labels_eq(&x, &y))
        abort();
}

static void run(struct nx_slice labels, const struct relabel_rules *rules)
{
    struct relabel_work whole, single;
    struct nx_slice again = labels;
    bool kept = false, each_kept = true;
    nx_status st, each = NX_OK;

    if (relabel_work_init(&whole, NULL) || relabel_work_init(&single, NULL))
        abort();
    take_labels(&labels, &whole.labels);
    take_labels(&again, &single.labels);
    st = relabel_apply(rules, &whole, &kept, NULL);
    check_set(&whole.labels);
    for (size_t i = 0; i < rules->n && !each && each_kept; i++) {
        struct relabel_rules rule = {&rules->v[i], 1};

        each = relabel_apply(&rule, &single, &each_kept, NULL);
        check_set(&single.labels);
    }
    if (each != st)
        abort();
    if (!st && kept != each_kept)
        abort();
    if (!st)
        compare(&whole.labels, &single.labels);
    relabel_work_done(&whole);
    relabel_work_done(&single);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nx_slice text = {(const char *)data, size}, labels = text;
    struct labels_builder lb;
    struct config *cfg = NULL;
    struct buf yaml;

    if (size > 4096)
        return 0;
    labels_builder_init(&lb);
    take_labels(&text, &lb);
    labels.len -= text.len;
    labels_builder_done(&lb);
    buf_init(&yaml, 0);
    buf_str(&yaml, "scrape_configs:\n- job_name: a\n  relabel_configs:\n");
    buf_slice(&yaml, text);
    if (!config_parse(&cfg, buf_view(&yaml), "fuzz.yml", ".", NULL, NULL) && cfg->scrape_configs.n)
        run(labels, &cfg->scrape_configs.v[0].relabel);
    config_unref(cfg);
    buf_done(&yaml);
    return 0;
}
