/* fuzz_template.c - any text as a template: it is refused in Go's words, or runs to an end.
 *
 * OPINION  Parsing twice says the same; running twice writes the same; a failure names the template. */
#include <stdlib.h>
#include <string.h>

#include "src/template/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
    if (!what)
        abort();
}

static nx_status answer(void *ctx, struct nx_slice expr, struct arena *a,
                        struct template_sample **out, size_t *n, struct nx_err *err)
{
    static const struct label ls[] = {{{"__name__", 8}, {"m", 1}}, {{"i", 1}, {"b", 1}}};

    (void)ctx;
    if (!expr.len)
        return nx_fail(err, NX_BADINPUT, "nothing to query");
    *n = expr.len % 3;
    *out = arena_array(a, *n + 1, sizeof **out);
    for (size_t i = 0; *out && i < *n; i++)
        (*out)[i] = (struct template_sample){{ls, 2}, (double)i};
    return *out ? NX_OK : arena_failed(a, err);
}

static nx_status run(struct nx_slice text, struct buf *out, struct nx_err *err)
{
    static const struct label ls[] = {{{"a", 1}, {"va", 2}}, {{"instance", 8}, {"h:1", 3}}};
    static const struct labels labels = {ls, 2};
    const struct template_data data = {.labels = &labels,
                                       .external_labels = &labels,
                                       .external_url = {"http://x:1/p", 12},
                                       .value = 1.5,
                                       .query = answer};
    struct arena *a = arena_new(64u << 20);
    struct template *t = NULL;
    nx_status st;

    require(a != NULL);
    st = template_parse_alert(&t, a, nx_slice_str("__alert_X"), text, err);
    require(st == NX_OK || st == NX_LIMIT ||
            strstr(err->text, "template: __alert_X:") == err->text);
    if (!st) {
        st = template_execute(t, &data, a, out, err);
        require(st == NX_OK || st == NX_LIMIT ||
                strstr(err->text, "error executing template __alert_X: ") == err->text);
    }
    arena_free(a);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nx_slice text = {(const char *)data, size};
    struct nx_err err1 = {0}, err2 = {0};
    struct buf one, two;

    buf_init(&one, 1u << 20);
    buf_init(&two, 1u << 20);
    require(run(text, &one, &err1) == run(text, &two, &err2));
    require(nx_slice_eq(buf_view(&one), buf_view(&two)) && !strcmp(err1.text, err2.text));
    buf_done(&one);
    buf_done(&two);
    return 0;
}
