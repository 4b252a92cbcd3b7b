/* fuzz_notify.c - arbitrary bytes as matchers, as a file of direct notification, as the state that is read at the
 * start, and as a mail's addresses and headers.
 *
 * OPINION  Matchers that are taken read again as themselves when they are printed. What is refused changes nothing and
 *          has a text. A header's value is one line of ASCII, folded in no other way than by CRLF and a blank. */
#include <stdlib.h>
#include <string.h>

#include "src/notify/direct_message.h"
#include "src/notify/direct_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
    if (!what)
        abort();
}

static void matchers(struct nx_slice text, struct arena *a)
{
    struct match_list one = {0}, two = {0};
    struct nx_err err = {0};
    struct buf b, again;

    buf_init(&b, 0);
    buf_init(&again, 0);
    if (match_parse(&one, a, text, &err)) {
        require(!one.n && *err.text);
    } else {
        require(one.n > 0);
        match_print(&b, &one);
        require(!match_parse(&two, a, buf_view(&b), &err) && two.n == one.n);
        match_print(&again, &two);
        require(nx_slice_eq(buf_view(&b), buf_view(&again)));
    }
    match_list_done(&one);
    match_list_done(&two);
    buf_done(&b);
    buf_done(&again);
}

static void state(struct nx_slice text)
{
    static const struct groups_limits limits = {100, 1 << 20};
    struct direct_plan *plan = NULL;
    struct groups *g = NULL;
    struct groups_stats st;
    struct nx_err err = {0};

    require(!direct_plan_parse(
        &plan, nx_slice_str("notify: {receivers: [{name: r, webhook: {url: 'http://x/'}}]}"),
        "n.yml", &err));
    require(!groups_new(&g, plan, &limits, &err));
    direct_plan_unref(plan);
    if (state_read(g, text, 1000, 1000, &err)) {
        groups_count(g, &st);
        require(!st.alerts && *err.text);
    }
    groups_free(g);
}

static void mail(struct nx_slice text, struct arena *a)
{
    const char **v = NULL;
    size_t n = 0;
    struct nx_err err = {0};
    struct buf b;

    if (!mail_addresses(a, text, &v, &n, &err))
        for (size_t i = 0; i < n; i++)
            for (const char *s = v[i]; *s; s++)
                require(*s > ' ' && *s < 127);
    buf_init(&b, 0);
    mail_header_value(&b, text);
    for (size_t i = 0; i < b.len; i++) {
        if (b.ptr[i] == '\r') {
            require(i + 2 < b.len && memcmp(b.ptr + i, "\r\n ", 3) == 0);
            i += 2;
        }
        require(b.ptr[i] >= ' ' && b.ptr[i] < 127);
    }
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct nx_slice text = {(const char *)data + 1, size ? size - 1 : 0};
    struct arena *a = arena_new(0);
    struct direct_plan *plan = NULL;
    struct nx_err err = {0};

    if (!a || !size) {
        arena_free(a);
        return 0;
    }
    switch (data[0] % 4) {
    case 0:
        matchers(text, a);
        break;
    case 1:
        if (direct_plan_parse(&plan, text, "n.yml", &err))
            require(!plan && *err.text);
        direct_plan_unref(plan);
        break;
    case 2:
        state(text);
        break;
    default:
        mail(text, a);
    }
    arena_free(a);
    return 0;
}
