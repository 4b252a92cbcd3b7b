#include "src/cli/tool.h"

/* tsdb_analyze.c - `tsdb analyze`: which labels make a block large.
 *
 * One pass over the series fills two tables, of label pairs and of label names; the lists are those,
 * sorted. Where promtool leaves the order of equals to chance, they are sorted by their text. */

#include <stdlib.h>
#include <string.h>

#include "promql/promql.h"
#include "src/base/hash.h"
#include "src/cli/tsdb.h"

struct entry {
    struct nx_slice key;
    uint64_t uncovered_ms; /* time of the block that its series lack, added up */
    uint64_t series;
    uint64_t values, value_bytes; /* of names: distinct ones */
    bool is_metric;               /* a pair of __name__; its value begins at key.ptr + 9 */
};
struct table {
    struct entry *v;
    size_t n, cap;
    uint32_t *slots; /* place + 1; a power of two of them, at least twice n */
    size_t n_slots;
};

static bool grow_slots(struct table *t)
{
    size_t n = t->n_slots ? t->n_slots * 2 : 256;
    uint32_t *slots = calloc(n, sizeof *slots);

    if (!slots)
        return false;
    for (size_t i = 0; i < t->n; i++) {
        size_t at = hash_bytes(t->v[i].key.ptr, t->v[i].key.len) & (n - 1);
        while (slots[at])
            at = (at + 1) & (n - 1);
        slots[at] = (uint32_t)i + 1;
    }
    free(t->slots);
    t->slots = slots;
    t->n_slots = n;
    return true;
}

/* The entry of `key`, made if it is new (*is_new) with a copy of the key in the arena; NULL: no memory. */
static struct entry *entry_of(struct table *t, struct nx_slice key, struct arena *a, bool *is_new)
{
    size_t at;

    *is_new = false;
    if (t->n * 2 >= t->n_slots && !grow_slots(t))
        return NULL;
    at = hash_bytes(key.ptr, key.len) & (t->n_slots - 1);
    for (; t->slots[at]; at = (at + 1) & (t->n_slots - 1)) {
        struct entry *e = &t->v[t->slots[at] - 1];
        if (nx_slice_eq(e->key, key))
            return e;
    }
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 128;
        struct entry *v = t->n < UINT32_MAX / 2 ? reallocarray(t->v, cap, sizeof *v) : NULL;
        if (!v)
            return NULL;
        t->v = v;
        t->cap = cap;
    }
    char *copy = arena_strndup(a, key.ptr, key.len);
    if (!copy)
        return NULL;
    t->v[t->n] = (struct entry){.key = nx_slice_of(copy, key.len)};
    t->slots[at] = (uint32_t)++t->n;
    *is_new = true;
    return &t->v[t->n - 1];
}

static void table_done(struct table *t)
{
    free(t->v);
    free(t->slots);
}

struct ints {
    uint64_t *v;
    size_t n, cap;
    bool nomem;
};

static void ints_add(struct ints *to, uint64_t v)
{
    if (to->n == to->cap) {
        size_t cap = to->cap ? to->cap * 2 : 1024;
        uint64_t *more = reallocarray(to->v, cap, sizeof *more);
        to->nomem = to->nomem || !more;
        if (!more)
            return;
        to->v = more;
        to->cap = cap;
    }
    to->v[to->n++] = v;
}

struct analysis {
    struct storage_block *block;
    struct storage_block_info info;
    struct table pairs, names;
    struct arena *keys;
    struct buf key;
    uint64_t series, entries;
    bool extended;
    struct ints chunk_samples, chunk_bytes;
};

static nx_status add_label(struct analysis *an, const struct label *l, uint64_t uncovered,
                           struct nx_err *err)
{
    struct entry *pair, *name;
    bool new_pair, new_name;
    nx_status st;

    buf_clear(&an->key);
    buf_slice(&an->key, l->name);
    buf_char(&an->key, '=');
    buf_slice(&an->key, l->value);
    st = buf_status(&an->key, err);
    if (st)
        return st;
    pair = entry_of(&an->pairs, buf_view(&an->key), an->keys, &new_pair);
    name = pair ? entry_of(&an->names, l->name, an->keys, &new_name) : NULL;
    if (!name)
        return nx_fail(err, NX_NOMEM, "out of memory");
    pair->is_metric = nx_slice_is(l->name, LABEL_NAME);
    pair->uncovered_ms += uncovered;
    pair->series++;
    name->uncovered_ms += uncovered;
    name->values += new_pair;
    name->value_bytes += new_pair ? l->value.len : 0;
    an->entries++;
    return NX_OK;
}

static void add_chunk(void *ctx, const struct storage_block_chunk *c)
{
    struct analysis *an = ctx;

    ints_add(&an->chunk_samples, c->samples);
    ints_add(&an->chunk_bytes, c->bytes);
}

static nx_status add_series(void *ctx, uint64_t number, const struct storage_block_series *s,
                            struct nx_err *err)
{
    struct analysis *an = ctx;
    uint64_t whole = (uint64_t)an->info.max_ms - (uint64_t)an->info.min_ms;
    uint64_t uncovered = whole - ((uint64_t)s->max_ms - (uint64_t)s->min_ms);
    nx_status st = NX_OK;

    an->series++;
    for (uint32_t i = 0; i < s->labels.n && !st; i++)
        st = add_label(an, &s->labels.v[i], uncovered, err);
    if (!st && an->extended)
        st = storage_block_each_chunk(an->block, number, add_chunk, an, err);
    if (!st && (an->chunk_samples.nomem || an->chunk_bytes.nomem))
        st = nx_fail(err, NX_NOMEM, "out of memory");
    return st;
}

/* ---- the lists ------------------------------------------------------------------------------- */

struct row {
    struct nx_slice key;
    uint64_t value;
};

static int by_value(const void *x, const void *y)
{
    const struct row *a = x, *b = y;

    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return nx_slice_cmp(a->key, b->key);
}

enum list { CHURN, SERIES, VALUE_BYTES, VALUES, METRICS };

static nx_status print_list(const struct analysis *an, const char *title, const struct table *t,
                            enum list what, int64_t limit, struct nx_err *err)
{
    double span = (double)((uint64_t)an->info.max_ms - (uint64_t)an->info.min_ms);
    struct row *rows = calloc(t->n + 1, sizeof *rows);
    size_t n = 0;

    if (!rows)
        return nx_fail(err, NX_NOMEM, "out of memory");
    for (size_t i = 0; i < t->n; i++) {
        const struct entry *e = &t->v[i];
        struct row *r = &rows[n];
        if (what == METRICS && !e->is_metric)
            continue;
        n++;
        *r = (struct row){e->key, e->series};
        if (what == CHURN)
            r->value = (uint64_t)((double)e->uncovered_ms / span);
        else if (what == VALUES)
            r->value = e->values;
        else if (what == VALUE_BYTES)
            r->value = e->value_bytes;
        else if (what == METRICS)
            r->key = nx_slice_of(e->key.ptr + sizeof LABEL_NAME, e->key.len - sizeof LABEL_NAME);
    }
    qsort(rows, n, sizeof *rows, by_value);
    printf("\n%s:\n", title);
    for (size_t i = 0; i < n && (int64_t)i < limit; i++)
        printf("%llu %.*s\n", (unsigned long long)rows[i].value, (int)rows[i].key.len,
               rows[i].key.ptr);
    free(rows);
    return NX_OK;
}

static nx_status print_lists(const struct analysis *an, int64_t limit, struct nx_err *err)
{
    nx_status st =
        print_list(an, "Label pairs most involved in churning", &an->pairs, CHURN, limit, err);

    if (!st)
        st = print_list(an, "Label names most involved in churning", &an->names, CHURN, limit, err);
    if (!st)
        st = print_list(an, "Most common label pairs", &an->pairs, SERIES, limit, err);
    if (!st)
        st = print_list(an, "Label names with highest cumulative label value length", &an->names,
                        VALUE_BYTES, limit, err);
    if (!st)
        st = print_list(an, "Highest cardinality labels", &an->names, VALUES, limit, err);
    if (!st)
        st = print_list(an, "Highest cardinality metric names", &an->pairs, METRICS, limit, err);
    return st;
}

/* ---- --extended ------------------------------------------------------------------------------ */

static int by_size(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

    return a < b ? -1 : a > b;
}

static int digits(uint64_t v)
{
    return snprintf(NULL, 0, "%llu", (unsigned long long)v);
}

/* Steps are powers of ten, from 10 to 100000, so that there are about ten buckets. */
static void print_buckets(const struct ints *x, uint64_t start, uint64_t end, uint64_t step)
{
    size_t n = (size_t)((end - start) / step) + 1, at = 0;
    uint64_t most = 0;
    int left = digits(end), right = digits(end + step);

    for (size_t i = 0, from = 0; i <= x->n; i++) {
        if (i < x->n && (x->v[i] - start) / step == (x->v[from] - start) / step)
            continue;
        most = i - from > most ? i - from : most;
        from = i;
    }
    for (size_t bucket = 0; bucket < n; bucket++) {
        uint64_t count = 0;
        for (; at < x->n && (x->v[at] - start) / step == bucket; at++)
            count++;
        printf("[%*llu, %*llu]: %*llu ", left, (unsigned long long)(bucket * step + start + 1),
               right, (unsigned long long)((bucket + 1) * step + start), digits(most),
               (unsigned long long)count);
        for (uint64_t i = 0; i < 100 * count / x->n; i++)
            putchar('#');
        putchar('\n');
    }
    putchar('\n');
}

static void print_histogram(const char *what, struct ints *x)
{
    uint64_t sum = 0, min, max, step = 10;

    if (!x->n) {
        printf("%s: N/A\n\n", what);
        return;
    }
    qsort(x->v, x->n, sizeof *x->v, by_size);
    min = x->v[0];
    max = x->v[x->n - 1];
    for (size_t i = 0; i < x->n; i++)
        sum += x->v[i];
    while (step < (max - min) / 10 && step <= 10000)
        step *= 10;
    printf("%s (min/avg/max): %llu/%llu/%llu\n", what, (unsigned long long)min,
           (unsigned long long)(sum / x->n), (unsigned long long)max);
    print_buckets(x, min - min % step, max - max % step + step, step);
}

static void print_chunks(struct analysis *an)
{
    static struct ints none;

    printf("\nCompaction analysis:\n\n");
    print_histogram("samples per float chunk", &an->chunk_samples);
    print_histogram("bytes per float chunk", &an->chunk_bytes);
    print_histogram("samples per histogram chunk", &none);
    print_histogram("bytes per histogram chunk", &none);
    print_histogram("buckets per histogram chunk", &none);
}

/* ---- the command ----------------------------------------------------------------------------- */

static void print_head(const struct analysis *an, const char *match)
{
    char duration[40];

    tsdb_go_duration(duration, sizeof duration, tsdb_ms_to_ns(an->info.max_ms - an->info.min_ms));
    printf("Block ID: %s\nDuration: %s\nTotal Series: %llu\n", an->info.ulid, duration,
           (unsigned long long)an->info.series);
    if (*match)
        printf("Matcher: %s\n", match);
    printf("Label names: %zu\n", an->names.n);
    if (*match)
        printf("Matched series: %llu\n", (unsigned long long)an->series);
    printf("Postings (unique label pairs): %zu\nPostings entries (total label pairs): %llu\n",
           an->pairs.n, (unsigned long long)an->entries);
}

static nx_status open_block(struct analysis *an, const struct flags *f, struct nx_err *err)
{
    const char *dir = f->n_args ? f->args[0] : "data/";
    const char *ulid = f->n_args > 1 && *f->args[1] ? f->args[1] : NULL;
    struct fs_stat stat;
    nx_status st = fs_real()->stat(fs_real(), dir, &stat, err);

    if (st)
        return nx_fail(err, st, "opening the db dir: stat %s: no such file or directory", dir);
    st = storage_block_open(&an->block, fs_real(), dir, ulid, err);
    if (!st)
        storage_block_get_info(an->block, &an->info);
    return st;
}

int tool_tsdb_analyze(const struct flags *f)
{
    struct analysis an = {.keys = arena_new(0), .extended = flags_bool(f, "extended")};
    struct arena *sets = arena_new(0);
    const char *match = flags_str(f, "match");
    struct matcher *m = NULL;
    size_t n = 0;
    struct nx_err err = {0};
    nx_status st = NX_OK;

    buf_init(&an.key, 0);
    if (!an.keys || !sets)
        st = nx_fail(&err, NX_NOMEM, "out of memory");
    if (!st && *match)
        st = pql_parse_selector(sets, nx_slice_str(match), &m, &n, &err);
    if (!st)
        st = open_block(&an, f, &err);
    if (!st)
        st = storage_block_each_series(an.block, m, n, add_series, &an, &err);
    if (!st) {
        print_head(&an, match);
        st = print_lists(&an, flags_int(f, "limit"), &err);
    }
    if (!st && an.extended)
        print_chunks(&an);
    if (st)
        fprintf(stderr, "%s\n", err.text);
    pql_matchers_done(m, n);
    storage_block_close(an.block);
    free(an.chunk_samples.v);
    free(an.chunk_bytes.v);
    table_done(&an.pairs);
    table_done(&an.names);
    buf_done(&an.key);
    arena_free(an.keys);
    arena_free(sets);
    return st ? 1 : 0;
}
