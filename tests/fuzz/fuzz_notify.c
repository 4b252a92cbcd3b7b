/* fuzz_notify.c - arbitrary bytes as matchers, as a file of direct notification, as the state that is read at the
 * start, as a mail's addresses and headers, as AWS's files, answers and URLs, and as a template over a notification.
 *
 * OPINION  Matchers that are taken read again as themselves when they are printed. What is refused changes nothing and
 *          has a text. A header's value is one line of ASCII, folded in no other way than by CRLF and a blank. */
#include <stdlib.h>
#include <string.h>

#include "src/notify/aws.h"
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

/* Whatever a template does with what it is given, it ends, and its failure has a text. */
static void notice_template(struct nx_slice text, struct arena *a)
{
    static const struct label v[] = {{{"alertname", 9}, {"A", 1}},
                                     {{"job", 3}, {"\xc3\xbc<&\n", 6}}};
    static const struct labels ls = {v, 2}, none = {0};
    const struct template_field of_alert[] = {
        {"Status", {.kind = TEMPLATE_TEXT, .text = {"firing", 6}}},
        {"Labels", {.kind = TEMPLATE_PAIRS, .pairs = ls}},
        {"StartsAt", {.kind = TEMPLATE_TIME, .ns = 1767225600000000000}}};
    const struct template_value alerts[] = {
        {.kind = TEMPLATE_RECORD, .fields = of_alert, .n_fields = 3},
        {.kind = TEMPLATE_RECORD, .fields = of_alert, .n_fields = 3}};
    const struct template_field of_alerts[] = {
        {"Firing", {.kind = TEMPLATE_ITEMS, .items = alerts, .n_items = 1}}};
    const struct template_field fields[] = {
        {"Alerts",
         {.kind = TEMPLATE_ITEMS,
          .items = alerts,
          .n_items = 2,
          .fields = of_alerts,
          .n_fields = 1}},
        {"CommonLabels", {.kind = TEMPLATE_PAIRS, .pairs = ls}},
        {"GroupLabels", {.kind = TEMPLATE_PAIRS, .pairs = none}}};
    const struct template_value root = {.kind = TEMPLATE_RECORD, .fields = fields, .n_fields = 3};
    const struct template_data data = {
        .labels = &none, .external_labels = &none, .external_url = {"", 0}, .root = &root};
    struct template *t = NULL;
    struct nx_err err = {0};
    struct buf b;

    if (template_parse(&t, a, nx_slice_str("t"), text, &err))
        return;
    buf_init(&b, 1u << 20);
    require(!template_execute(t, &data, a, &b, &err) || *err.text);
    buf_done(&b);
}

/* A profile that is found has its keys in pairs; of an answer only what stands between tags is taken. */
static void aws_files(struct nx_slice text, struct arena *a)
{
    struct aws_profile p = {0};
    struct aws_temporary t;
    struct nx_err err = {0};
    struct buf b;

    if (!aws_profile_read(&p, text, "default", true, a, &err)) {
        require(p.found || !p.region.len);
        require(!p.access_key.len == !p.secret_key.len);
    } else {
        require(!p.found && *err.text);
    }
    buf_init(&b, 0);
    if (!aws_element(text, "Key", &b, &err))
        require(b.len <= text.len);
    buf_done(&b);
    aws_temporary_init(&t);
    if (!aws_meta_keys(text, &t, &err))
        require(aws_is_word(buf_view(&t.access)) && aws_is_word(buf_view(&t.token)));
    else
        require(!t.access.len && *err.text);
    aws_temporary_done(&t);
}

/* What is sent is signed as it is: signing it again changes nothing. */
static void aws_url(struct nx_slice text)
{
    struct sigv4_request r = {.url = text};
    const struct sigv4_keys keys = {0};
    struct nx_err err = {0};
    struct sigv4_signed one, two;

    sigv4_init(&one);
    sigv4_init(&two);
    if (!sigv4_sign(&r, &keys, &one, &err)) {
        r.url = buf_view(&one.url);
        require(!sigv4_sign(&r, &keys, &two, &err));
        require(nx_slice_eq(buf_view(&one.url), buf_view(&two.url)));
        require(nx_slice_eq(buf_view(&one.lines[SIGV4_AUTHORIZATION]),
                            buf_view(&two.lines[SIGV4_AUTHORIZATION])));
    }
    sigv4_done(&one);
    sigv4_done(&two);
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
    switch (data[0] % 8) {
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
    case 3:
        mail(text, a);
        break;
    case 5:
        aws_files(text, a);
        break;
    case 7:
        aws_url(text);
        break;
    default:
        notice_template(text, a);
    }
    arena_free(a);
    return 0;
}
