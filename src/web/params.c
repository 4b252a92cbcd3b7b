#include "src/web/http.h"

/* params.c - what a client asked for: URL and form parameters as Go's net/http reads them, and the
 * value formats of Prometheus's API.
 *
 * RULES  P1  A form's pairs come before the URL's, so that the body wins where one value is wanted.
 *        P2  A pair with a bad escape or a ';' is dropped, the others stay (Go does the same).
 *        P3  '+' is a blank. */

#include <math.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/num.h"
#include "src/base/text.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool web_unescape(struct arena *a, struct nx_slice s, bool plus, struct nx_slice *out)
{
    char *to = arena_alloc(a, s.len + 1);
    size_t n = 0;

    if (!to)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '+' && plus) {
            to[n++] = ' ';
        } else if (s.ptr[i] == '%') {
            if (i + 2 >= s.len)
                return false;
            int hi = hex_digit(s.ptr[i + 1]), lo = hex_digit(s.ptr[i + 2]);
            if (hi < 0 || lo < 0)
                return false;
            to[n++] = (char)(hi << 4 | lo);
            i += 2;
        } else {
            to[n++] = s.ptr[i];
        }
    }
    to[n] = 0;
    *out = nx_slice_of(to, n);
    return true;
}

struct nx_slice web_unescape_name(struct arena *a, struct nx_slice s)
{
    size_t n = 0;

    if (s.len < 3 || memcmp(s.ptr, "U__", 3) != 0)
        return s;
    char *to = arena_alloc(a, s.len + 4);
    for (size_t i = 3; to && i < s.len; i++) {
        uint32_t code = 0;
        size_t from;
        if (s.ptr[i] != '_') {
            to[n++] = s.ptr[i];
            continue;
        }
        if (i + 1 < s.len && s.ptr[i + 1] == '_') {
            to[n++] = '_';
            i++;
            continue;
        }
        for (from = ++i; i < s.len && i - from < 5 && hex_digit(s.ptr[i]) >= 0; i++)
            code = code << 4 | (uint32_t)hex_digit(s.ptr[i]);
        if (i == from || i >= s.len || s.ptr[i] != '_' || code > 0x10ffff ||
            (code >= 0xd800 && code < 0xe000))
            return s;
        n += text_utf8_put(to + n, code);
    }
    return to ? nx_slice_of(to, n) : s;
}

static size_t count_pairs(struct nx_slice s)
{
    size_t n = s.len > 0;

    for (size_t i = 0; i < s.len; i++)
        n += s.ptr[i] == '&';
    return n;
}

static void parse_pairs(struct web_req *r, struct nx_slice s)
{
    while (s.len) {
        const char *amp = memchr(s.ptr, '&', s.len);
        struct nx_slice pair = {s.ptr, amp ? (size_t)(amp - s.ptr) : s.len};
        struct web_param p = {{"", 0}, {"", 0}};

        s = amp ? nx_slice_of(amp + 1, s.len - pair.len - 1) : nx_slice_of("", 0);
        if (!pair.len)
            continue;
        if (memchr(pair.ptr, ';', pair.len)) { /* P2 */
            r->url_semicolon = true;
            continue;
        }
        const char *eq = memchr(pair.ptr, '=', pair.len);
        struct nx_slice key = {pair.ptr, eq ? (size_t)(eq - pair.ptr) : pair.len};
        struct nx_slice value = {eq ? eq + 1 : "", eq ? pair.len - key.len - 1 : 0};
        if (web_unescape(r->arena, key, true, &p.key) &&
            web_unescape(r->arena, value, true, &p.value))
            r->params[r->n_params++] = p;
    }
}

nx_status web_params_parse(struct web_req *r)
{
    struct nx_slice form =
        r->form_taken && !r->form_too_large ? buf_view(&r->form) : nx_slice_of("", 0);
    size_t max = count_pairs(form) + count_pairs(r->raw_query);

    r->params = arena_array(r->arena, max + 1, sizeof *r->params);
    if (!r->params)
        return NX_NOMEM;
    parse_pairs(r, form); /* P1 */
    size_t of_form = r->n_params;
    parse_pairs(r, r->raw_query);
    r->n_url_params = r->n_params - of_form;
    return NX_OK;
}

static struct nx_slice find(const struct web_req *r, size_t from, const char *key)
{
    for (size_t i = from; i < r->n_params; i++)
        if (nx_slice_is(r->params[i].key, key))
            return r->params[i].value;
    return nx_slice_of("", 0);
}

struct nx_slice web_param_get(const struct web_req *r, const char *key)
{
    return find(r, 0, key);
}

struct nx_slice web_url_param_get(const struct web_req *r, const char *key)
{
    return find(r, r->n_params - r->n_url_params, key);
}

bool web_param_has(const struct web_req *r, const char *key)
{
    return web_param_get(r, key).len > 0;
}

size_t web_param_count(const struct web_req *r, const char *key)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_params; i++)
        n += nx_slice_is(r->params[i].key, key);
    return n;
}

/* Rounds to milliseconds the part behind the point alone, as Prometheus does; what lies outside of int64 stays at its
 * end. */
static int64_t seconds_to_ms(double s)
{
    const double whole = trunc(s);

    if (s >= 9.2e15)
        return INT64_MAX;
    if (s <= -9.2e15)
        return INT64_MIN;
    return (int64_t)whole * 1000 + (int64_t)round((s - whole) * 1000);
}

nx_status web_parse_time(struct nx_slice s, int64_t *ms, struct nx_err *err)
{
    double seconds;

    if (num_parse(s, &seconds, NULL) && !isnan(seconds)) {
        *ms = seconds_to_ms(seconds);
        return NX_OK;
    }
    if (clock_parse_rfc3339(s, ms))
        return NX_OK;
    if (nx_slice_is(s, "-292273086-05-16T16:47:06Z")) {
        *ms = INT64_MIN;
        return NX_OK;
    }
    if (nx_slice_is(s, "292277025-08-18T07:12:54.999999999Z")) {
        *ms = INT64_MAX;
        return NX_OK;
    }
    return nx_fail(err, NX_BADINPUT, "cannot parse \"%.*s\" to a valid timestamp", (int)s.len,
                   s.ptr);
}

nx_status web_parse_duration(struct nx_slice s, int64_t *ms, struct nx_err *err)
{
    double seconds;

    if (num_parse(s, &seconds, NULL)) {
        double ns = seconds * 1e9;
        if (ns > 9223372036854775807.0 || ns < -9223372036854775808.0)
            return nx_fail(err, NX_BADINPUT,
                           "cannot parse \"%.*s\" to a valid duration. It overflows int64",
                           (int)s.len, s.ptr);
        if (!isnan(seconds)) {
            *ms = ns < 9.2e18 ? (int64_t)ns / 1000000 : INT64_MAX / 1000000; /* cut, not rounded */
            return NX_OK;
        }
    } else if (num_parse_duration(s, ms, NULL) == NX_OK) {
        return NX_OK;
    }
    return nx_fail(err, NX_BADINPUT, "cannot parse \"%.*s\" to a valid duration", (int)s.len,
                   s.ptr);
}

nx_status web_param_time(const struct web_req *r, const char *key, int64_t absent_ms, int64_t *ms,
                         struct nx_err *err)
{
    struct nx_slice s = web_param_get(r, key);

    if (!s.len) {
        *ms = absent_ms;
        return NX_OK;
    }
    if (web_parse_time(s, ms, err))
        return nx_context(err, "invalid parameter \"%s\": invalid time value for '%s'", key, key);
    return NX_OK;
}

/* Whether a number was refused for its size alone. */
static bool is_integer(struct nx_slice s)
{
    size_t sign = s.len && (*s.ptr == '-' || *s.ptr == '+');

    for (size_t i = sign; i < s.len; i++)
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    return s.len > sign;
}

nx_status web_param_limit(const struct web_req *r, size_t *limit, struct nx_err *err)
{
    struct nx_slice s = web_param_get(r, "limit");
    int64_t n;

    *limit = 0;
    if (!s.len)
        return NX_OK;
    if (!num_parse_i64(s, &n))
        return nx_fail(err, NX_BADINPUT,
                       "invalid parameter \"limit\": strconv.Atoi: parsing \"%.*s\": %s",
                       (int)s.len, s.ptr, is_integer(s) ? "value out of range" : "invalid syntax");
    if (n < 0)
        return nx_fail(err, NX_BADINPUT, "invalid parameter \"limit\": limit must be non-negative");
    *limit = (size_t)n;
    return NX_OK;
}

nx_status web_check(const struct web_req *r, struct nx_err *err)
{
    if (__atomic_load_n(&r->cancel, __ATOMIC_RELAXED))
        return nx_fail(err, NX_CANCELED, "canceled");
    return NX_OK;
}

nx_status web_param_matches(struct web_req *r, struct web_match_sets *out, struct nx_err *err)
{
    struct web_match_sets sets = {0};

    for (size_t i = 0; i < r->n_params; i++)
        sets.n += nx_slice_is(r->params[i].key, "match[]");
    sets.v = arena_array(r->arena, sets.n, sizeof *sets.v);
    if (!sets.v)
        return arena_failed(r->arena, err);
    sets.n = 0;
    for (size_t i = 0; i < r->n_params; i++) {
        if (!nx_slice_is(r->params[i].key, "match[]"))
            continue;
        struct web_match_set *set = &sets.v[sets.n];
        nx_status st = web_check(r, err);
        if (!st)
            st = pql_parse_selector(r->arena, r->params[i].value, &set->m, &set->n, err);
        if (st) {
            web_match_sets_done(&sets);
            return st;
        }
        sets.n++;
    }
    for (size_t i = 0; i < sets.n;
         i++) { /* after all are read: what none could read is told first */
        nx_status st = pql_check_match(sets.v[i].m, sets.v[i].n, err);
        if (st) {
            web_match_sets_done(&sets);
            return st;
        }
    }
    *out = sets;
    return NX_OK;
}

void web_match_sets_done(struct web_match_sets *sets)
{
    for (size_t i = 0; i < sets->n; i++)
        pql_matchers_done(sets->v[i].m, sets->v[i].n);
    sets->n = 0;
}
