/* target.c - targets out of target groups.
 *
 * RULES   T1  Labels of discovery win over the job's defaults; a group's label of empty value removes
 *             nothing but itself.
 *         T2  The address is used as it is: no port is added (3.x).
 *         T3  The place in the interval is FNV-1a over labels and URL, xor the server's seed, modulo
 *             the interval, counted from the Unix epoch, at the beginning of its slot.
 *         T4  The first slot begins at a place that follows from the seed: two servers with the same
 *             targets do not ask them at the same moment, however few slots there are. Intervals of which
 *             one is a multiple of the other have slots that begin together.
 * NOT     Asking DNS for the full host name, as Prometheus does for its seed: a name server that comes
 *         and goes would move all scrapes. */
#include "src/scrape/target.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/hash.h"
#include "src/base/num.h"
#include "src/base/text.h"

struct labels labels_packed(const struct labels *from, bool public_only)
{
    struct labels out = {0};
    struct label *v;
    size_t bytes = 0;
    char *p;

    for (uint32_t i = 0; i < from->n; i++)
        bytes += sizeof *v + from->v[i].name.len + from->v[i].value.len;
    v = malloc(bytes + 1);
    if (!v)
        return (struct labels){NULL, 1};
    p = (char *)(v + from->n);
    for (uint32_t i = 0; i < from->n; i++) {
        const struct label *l = &from->v[i];
        if (public_only && l->name.len >= 2 && memcmp(l->name.ptr, "__", 2) == 0)
            continue;
        memcpy(p, l->name.ptr, l->name.len);
        v[out.n].name = nx_slice_of(p, l->name.len);
        p += l->name.len;
        if (l->value.len)
            memcpy(p, l->value.ptr, l->value.len);
        v[out.n++].value = nx_slice_of(p, l->value.len);
        p += l->value.len;
    }
    out.v = v;
    return out;
}

/* ---- URL ----------------------------------------------------------------------------------------- */

static void put_param(struct buf *b, bool *any, struct nx_slice name, struct nx_slice value)
{
    buf_char(b, *any ? '&' : '?');
    *any = true;
    text_url_query(b, name);
    buf_char(b, '=');
    text_url_query(b, value);
}

static struct nx_slice param_label(const struct labels *all, struct nx_slice name)
{
    for (uint32_t i = 0; i < all->n; i++) {
        struct nx_slice l = all->v[i].name;
        if (l.len == name.len + 8 && memcmp(l.ptr, "__param_", 8) == 0 &&
            memcmp(l.ptr + 8, name.ptr, name.len) == 0)
            return all->v[i].value;
    }
    return nx_slice_of(NULL, 0);
}

/* Two sorted lists merged: the job's params and __param_ labels, whose value replaces the first (SCR-008). */
static void put_params(struct buf *b, const struct config_scrape *cfg, const struct labels *all)
{
    bool any = false;
    size_t p = 0;
    uint32_t l = 0;

    for (;;) {
        const struct config_values *v = p < cfg->params.n ? &cfg->params.v[p] : NULL;
        struct nx_slice name = {0};
        while (l < all->n &&
               !(all->v[l].name.len > 8 && memcmp(all->v[l].name.ptr, "__param_", 8) == 0))
            l++;
        if (l < all->n)
            name = nx_slice_of(all->v[l].name.ptr + 8, all->v[l].name.len - 8);
        if (!v && !name.ptr)
            return;
        if (v && (!name.ptr || nx_slice_cmp(v->name, name) <= 0)) {
            struct nx_slice first = param_label(all, v->name);
            if (name.ptr && nx_slice_eq(v->name, name))
                l++;
            for (size_t i = 0; i < v->values.n; i++)
                put_param(b, &any, v->name, i == 0 && first.ptr ? first : v->values.v[i]);
            if (v->values.n == 0 && first.ptr)
                put_param(b, &any, v->name, first);
            p++;
        } else {
            put_param(b, &any, name, all->v[l++].value);
        }
    }
}

/* scheme://address/path?params of a set of labels. ptr NULL out of memory. */
static struct nx_slice target_url(const struct config_scrape *cfg, const struct labels *all,
                                  struct arena *a)
{
    struct nx_slice host = labels_get_str(all, "__address__"),
                    path = labels_get_str(all, "__metrics_path__"), out = {0};
    struct buf b;

    buf_init(&b, 0);
    buf_slice(&b, labels_get_str(all, "__scheme__"));
    buf_str(&b, "://");
    buf_slice(&b, host);
    if (path.len && path.ptr[0] != '/')
        buf_char(&b, '/');
    text_url_path(&b, path);
    put_params(&b, cfg, all);
    if (!b.failed) {
        char *p = arena_strndup(a, b.ptr, b.len);
        if (p)
            out = nx_slice_of(p, b.len);
    }
    buf_done(&b);
    return out;
}

/* ---- labels ------------------------------------------------------------------------------------ */

static void set_default(struct labels_builder *b, const char *name, struct nx_slice value)
{
    if (labels_builder_get(b, nx_slice_str(name)).len == 0)
        labels_builder_set(b, nx_slice_str(name), value);
}

static struct nx_slice duration_text(int64_t ms, struct arena *a)
{
    char text[NUM_TEXT_BYTES];

    return arena_slice(a, nx_slice_of(text, num_format_duration(text, ms)));
}

/* Labels before relabelling (SCR-048). */
static nx_status discover(const struct config_scrape *cfg, struct nx_slice address,
                          const struct labels *group, struct labels_builder *b, struct arena *a,
                          struct nx_err *err)
{
    struct nx_slice interval = duration_text(cfg->scrape_interval_ms, a),
                    timeout = duration_text(cfg->scrape_timeout_ms, a);

    if (!interval.ptr || !timeout.ptr)
        return arena_failed(a, err);
    for (uint32_t i = 0; i < group->n; i++)
        labels_builder_set(b, group->v[i].name, group->v[i].value);
    if (address.len) /* some mechanisms give it as a label */
        labels_builder_set(b, nx_slice_str("__address__"), address);
    set_default(b, "job", cfg->job_name);
    set_default(b, "__scrape_interval__", interval);
    set_default(b, "__scrape_timeout__", timeout);
    set_default(b, "__metrics_path__", cfg->metrics_path);
    set_default(b, "__scheme__", cfg->scheme);
    for (size_t i = 0; i < cfg->params.n; i++) {
        const struct config_values *p = &cfg->params.v[i];
        char *name = arena_printf(a, "__param_%.*s", (int)p->name.len, p->name.ptr);
        if (!name)
            return arena_failed(a, err);
        if (p->values.n)
            set_default(b, name, p->values.v[0]);
    }
    return NX_OK;
}

static nx_status times_of(const struct labels_builder *b, struct target_made *m, struct nx_err *err)
{
    struct nx_slice interval = labels_builder_get(b, nx_slice_str("__scrape_interval__"));
    struct nx_slice timeout = labels_builder_get(b, nx_slice_str("__scrape_timeout__"));

    if (num_parse_duration(interval, &m->interval_ms, err))
        return nx_context(err, "error parsing scrape interval");
    if (m->interval_ms == 0)
        return nx_fail(err, NX_BADINPUT, "scrape interval cannot be 0");
    if (num_parse_duration(timeout, &m->timeout_ms, err))
        return nx_context(err, "error parsing scrape timeout");
    if (m->timeout_ms == 0)
        return nx_fail(err, NX_BADINPUT, "scrape timeout cannot be 0");
    if (m->timeout_ms > m->interval_ms)
        return nx_fail(
            err, NX_BADINPUT,
            "scrape timeout cannot be greater than scrape interval (\"%.*s\" > \"%.*s\")",
            (int)timeout.len, timeout.ptr, (int)interval.len, interval.ptr);
    return NX_OK;
}

static bool go_bool(struct nx_slice s)
{
    static const char *const words[] = {"1", "t", "T", "TRUE",  "true",  "True",
                                        "0", "f", "F", "FALSE", "false", "False"};

    for (size_t i = 0; i < NX_COUNT(words); i++)
        if (nx_slice_is(s, words[i]))
            return true;
    return false;
}

static nx_status check_bools(const struct labels_builder *b, struct nx_err *err) /* SCR-052 */
{
    static const struct {
        const char *label, *what;
    } v[] = {
        {"__convert_classic_histograms_to_nhcb__",
         "error parsing convert classic histograms to nhcb: strconv.ParseBool: parsing "},
        {"__always_scrape_classic_histograms__",
         "error parsing always scrape classic histograms: strconv.ParseBool: parsing "},
        {"__scrape_native_histograms__",
         "error parsing scrape native histograms: strconv.ParseBool: parsing "},
    };

    char quoted[TEXT_QUOTED_BYTES];

    for (size_t i = 0; i < NX_COUNT(v); i++) {
        struct nx_slice s = labels_builder_get(b, nx_slice_str(v[i].label));
        if (s.len && !go_bool(s))
            return nx_fail(err, NX_BADINPUT, "%s%s: invalid syntax", v[i].what,
                           text_quoted(quoted, s));
    }
    return NX_OK;
}

static nx_status check(const struct labels_builder *b, struct nx_slice address,
                       struct target_made *m, struct nx_err *err)
{
    char quoted[TEXT_QUOTED_BYTES];
    nx_status st;

    if (address.len == 0)
        return nx_fail(err, NX_BADINPUT, "no address");
    if (memchr(address.ptr, '/', address.len))
        return nx_fail(err, NX_BADINPUT, "%s is not a valid hostname",
                       text_quoted(quoted, address));
    st = times_of(b, m, err);
    return st ? st : check_bools(b, err);
}

static bool is_meta(struct nx_slice name)
{
    return name.len >= 7 && memcmp(name.ptr, "__meta_", 7) == 0;
}

/* What relabelling left: __meta_ labels go, instance comes. */
static nx_status finish(struct labels_builder *b, struct nx_slice address, struct arena *a,
                        struct labels *out, struct nx_err *err)
{
    struct labels view;
    char quoted[TEXT_QUOTED_BYTES];
    nx_status st;

    if (labels_builder_get(b, nx_slice_str("instance")).len == 0)
        labels_builder_set(b, nx_slice_str("instance"), address);
    st = labels_builder_build(b, &view, err);
    if (!st)
        st = labels_copy(a, &view, out, err);
    if (st)
        return st;
    {
        struct label *v = arena_array(a, out->n, sizeof *v);
        uint32_t n = 0;
        if (!v)
            return arena_failed(a, err);
        for (uint32_t i = 0; i < out->n; i++) {
            if (is_meta(out->v[i].name))
                continue;
            if (!utf8_valid(out->v[i].value))
                return nx_fail(err, NX_BADINPUT, "invalid label value: %s",
                               text_quoted(quoted, out->v[i].value));
            v[n++] = out->v[i];
        }
        *out = (struct labels){v, n};
    }
    return NX_OK;
}

nx_status target_make(const struct config_scrape *cfg, struct nx_slice address,
                      const struct labels *group, struct relabel_work *w, struct arena *a,
                      struct target_made *out, struct nx_err *err)
{
    struct target_made m = {0};
    struct labels view;
    bool kept;
    nx_status st;

    relabel_work_begin(w, NULL);
    st = discover(cfg, address, group, &w->labels, a, err);
    if (!st)
        st = labels_builder_build(&w->labels, &view, err);
    if (!st)
        st = labels_copy(a, &view, &m.discovered, err);
    if (st)
        return st;
    *out = m;
    st = relabel_apply(&cfg->relabel, w, &kept, err);
    if (st || !kept)
        return st;
    address = labels_builder_get(&w->labels, nx_slice_str("__address__"));
    st = check(&w->labels, address, &m, err);
    if (!st)
        st = finish(&w->labels, address, a, &m.all, err);
    if (st)
        return st;
    m.url = target_url(cfg, &m.all, a);
    if (!m.url.ptr)
        return arena_failed(a, err);
    m.hash = labels_hash(&m.all);
    m.hash = hash_fnv1a(hash_fnv1a(HASH_FNV1A_INIT, &m.hash, sizeof m.hash), m.url.ptr, m.url.len);
    *out = m;
    return NX_OK;
}

/* ---- times --------------------------------------------------------------------------------------- */

int64_t target_first_ns(uint64_t hash, uint64_t seed, int64_t interval_ns, uint32_t slots,
                        int64_t now_ns)
{
    int64_t slot_ns = slots < interval_ns ? interval_ns / slots : 1;
    int64_t slot = (int64_t)((hash ^ seed) % (uint64_t)interval_ns) / slot_ns * slot_ns; /* T3 */
    int64_t begun = now_ns - now_ns % interval_ns;
    int64_t offset = (slot + (int64_t)(seed % (uint64_t)interval_ns)) % interval_ns; /* T4 */

    return begun + offset >= now_ns ? begun + offset : begun + offset + interval_ns;
}

uint64_t target_seed(const struct labels *external)
{
    char host[256] = "";
    struct buf b;
    uint64_t h;

    if (gethostname(host, sizeof host - 1))
        host[0] = '\0';
    buf_init(&b, 0);
    buf_str(&b, host);
    labels_print(&b, external);
    h = hash_fnv1a(HASH_FNV1A_INIT, buf_view(&b).ptr, b.len);
    buf_done(&b);
    return h;
}
