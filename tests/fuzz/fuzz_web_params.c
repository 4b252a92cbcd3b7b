/* Any bytes as a form, a query string, a path and a label name. Opinions: what the parser gives,
 * escaped and parsed again, is the same pairs in the same order; the plainest reader there can be finds
 * as many; any name, escaped as Grafana does it, comes back; any time in ms, written as seconds, too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/text.h"
#include "src/web/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void escape(struct buf *b, struct nx_slice s)
{
    for (size_t i = 0; i < s.len; i++)
        buf_printf(b, "%%%02x", (unsigned char)s.ptr[i]);
}

static struct web_req parse(struct nx_slice form, struct nx_slice query)
{
    struct web_req r = {.arena = arena_new(0), .raw_query = query, .form_taken = true};

    buf_init(&r.form, 0);
    buf_slice(&r.form, form);
    NX_ASSERT_ALWAYS(web_params_parse(&r) == NX_OK);
    NX_ASSERT_ALWAYS(r.n_url_params <= r.n_params);
    return r;
}

static void done(struct web_req *r)
{
    buf_done(&r->form);
    arena_free(r->arena);
}

static bool well_escaped(const char *s, size_t n)
{
    static const char digits[] = "0123456789abcdefABCDEF";

    for (size_t i = 0; i < n; i++)
        if (s[i] == '%' && (i + 2 >= n || !s[i + 1] || !s[i + 2] || !strchr(digits, s[i + 1]) ||
                            !strchr(digits, s[i + 2])))
            return false;
    return true;
}

/* Pairs that are to be taken: not empty, no ';', good escapes on both sides of the first '='. */
static size_t count_plainly(struct nx_slice s)
{
    size_t n = 0;

    for (size_t i = 0; i <= s.len;) {
        size_t from = i;
        while (i < s.len && s.ptr[i] != '&')
            i++;
        size_t len = i - from;
        const char *p = s.ptr + from, *eq = len ? memchr(p, '=', len) : NULL;
        size_t key = eq ? (size_t)(eq - p) : len;
        if (len && !memchr(p, ';', len) && well_escaped(p, key) &&
            (!eq || well_escaped(eq + 1, len - key - 1)))
            n++;
        i++;
    }
    return n;
}

static void check_pairs(struct nx_slice form, struct nx_slice query)
{
    struct web_req r = parse(form, query);
    struct web_match_sets sets = {0};
    struct buf b;

    NX_ASSERT_ALWAYS(r.n_url_params == count_plainly(query));
    NX_ASSERT_ALWAYS(r.n_params - r.n_url_params == count_plainly(form));
    buf_init(&b, 0);
    for (size_t i = 0; i < r.n_params; i++) {
        if (i)
            buf_char(&b, '&');
        escape(&b, r.params[i].key);
        buf_char(&b, '=');
        escape(&b, r.params[i].value);
    }
    struct web_req again = parse(nx_slice_of("", 0), buf_view(&b));
    NX_ASSERT_ALWAYS(again.n_params == r.n_params);
    for (size_t i = 0; i < r.n_params; i++)
        NX_ASSERT_ALWAYS(nx_slice_eq(again.params[i].key, r.params[i].key) &&
                         nx_slice_eq(again.params[i].value, r.params[i].value));
    if (web_param_matches(&r, &sets, NULL) == NX_OK)
        web_match_sets_done(&sets);
    buf_done(&b);
    done(&again);
    done(&r);
}

static void check_path(struct nx_slice s)
{
    struct arena *a = arena_new(0);
    struct nx_slice out;
    struct buf b;

    NX_ASSERT_ALWAYS(web_unescape(a, s, false, &out) == well_escaped(s.ptr, s.len));
    buf_init(&b, 0);
    escape(&b, s);
    NX_ASSERT_ALWAYS(web_unescape(a, buf_view(&b), true, &out) && nx_slice_eq(out, s));
    buf_done(&b);
    arena_free(a);
}

/* Grafana's way: '_' doubled, what is not of a plain name by its code point. */
static bool escape_name(struct buf *b, struct nx_slice s)
{
    buf_str(b, "U__");
    while (s.len) {
        uint32_t c;
        size_t n = text_utf8_take(s, &c);
        if (!n || c > 0xfffff)
            return false;
        if (c == '_')
            buf_str(b, "__");
        else if (c == ':' || (c < 0x80 && memchr("0123456789abcdefghijklmnopqrstuvwxyz"
                                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                                                 (int)c, 62)))
            buf_char(b, (char)c);
        else
            buf_printf(b, "_%x_", c);
        s = nx_slice_of(s.ptr + n, s.len - n);
    }
    return true;
}

static void check_name(struct nx_slice s)
{
    struct arena *a = arena_new(0);
    struct nx_slice out = web_unescape_name(a, s);
    struct buf b;

    NX_ASSERT_ALWAYS(out.len <= s.len);
    buf_init(&b, 0);
    if (escape_name(&b, s))
        NX_ASSERT_ALWAYS(nx_slice_eq(web_unescape_name(a, buf_view(&b)), s));
    buf_done(&b);
    arena_free(a);
}

static void check_numbers(struct nx_slice s)
{
    int64_t ms, again = 0;
    char text[64];

    if (web_parse_duration(s, &ms, NULL) == NX_OK)
        NX_ASSERT_ALWAYS(ms > -9300000000000000 && ms < 9300000000000000);
    if (web_parse_time(s, &ms, NULL) || ms > 9000000000000 || ms < -9000000000000)
        return;
    snprintf(text, sizeof text, "%s%lld.%03lld", ms < 0 ? "-" : "", (long long)llabs(ms) / 1000,
             (long long)llabs(ms) % 1000);
    NX_ASSERT_ALWAYS(web_parse_time(nx_slice_str(text), &again, NULL) == NX_OK && again == ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of its own, so that reading past the end is seen. */
    char *copy = malloc(size ? size : 1);

    if (size)
        memcpy(copy, data, size);
    size_t half = size ? (unsigned char)copy[0] % size : 0;
    check_pairs(nx_slice_of(copy, half), nx_slice_of(copy + half, size - half));
    check_path(nx_slice_of(copy, size));
    check_name(nx_slice_of(copy, size));
    check_numbers(nx_slice_of(copy, size));
    free(copy);
    return 0;
}
