/* fn_rank.c - values by their rank: quantiles, and the median of what lies off the median.
 *
 * WHY    Windows of neighbouring steps have most samples in common, so none of them should be sorted.
 * SHAPE  All samples of a series are sorted once, which gives each its rank. A window then is a set of bits, one
 *        a rank: a sample that comes or goes is one bit, and the value of a rank within the window is found
 *        from where the last one was, 64 ranks at a time. Where windows share little, each is sorted.
 * RULES  K1  NaNs are below everything. Equal values, such as zeros of both signs, are in the order of time.
 *        K2  Both ways give the same bits. */
#include "promql/fn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/num.h"

/* ---- a set seen once ---------------------------------------------------------------------------- */

/* K1 */
static bool below(double a, double b)
{
    return isnan(a) ? !isnan(b) : a < b;
}

static int compare_values(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return below(x, y) ? -1 : below(y, x);
}

static bool quantile_edge(double q, size_t n, double *out)
{
    if (!n || isnan(q))
        *out = (double)NAN;
    else if (q < 0)
        *out = -INFINITY;
    else if (q > 1)
        *out = INFINITY;
    else
        return false;
    return true;
}

/* Brings the value of rank `at` to its place, smaller ones before it. */
static void select_rank(double *v, size_t n, size_t at)
{
    size_t lo = 0, hi = n;

    while (hi - lo > 16) {
        double a = v[lo], b = v[lo + (hi - lo) / 2], c = v[hi - 1], pivot;
        size_t i = lo, j = hi - 1;

        pivot = below(a, b) ? (below(b, c)   ? b
                               : below(a, c) ? c
                                             : a)
                            : (below(a, c)   ? a
                               : below(b, c) ? c
                                             : b);
        for (;;) {
            while (below(v[i], pivot))
                i++;
            while (below(pivot, v[j]))
                j--;
            if (i >= j)
                break;
            double t = v[i];
            v[i++] = v[j];
            v[j--] = t;
        }
        size_t cut = i > j ? i : j + 1; /* [lo, cut) <= pivot <= [cut, hi) */
        if (cut == lo || cut == hi)
            break; /* all alike */
        if (at < cut)
            hi = cut;
        else
            lo = cut;
    }
    qsort(v + lo, hi - lo, sizeof *v, compare_values);
}

double quantile_of(double q, double *v, size_t n)
{
    double rank, weight, out, low, high;
    size_t lower;

    if (quantile_edge(q, n, &out))
        return out;
    rank = q * ((double)n - 1);
    lower = (size_t)floor(rank);
    weight = rank - floor(rank);
    select_rank(v, n, lower);
    low = high = v[lower];
    if (lower + 1 < n) {
        high = v[lower + 1];
        for (size_t i = lower + 2; i < n; i++)
            if (below(v[i], high))
                high = v[i];
    }
    return low * (1 - weight) + high * weight;
}

/* ---- sorting ------------------------------------------------------------------------------------ */

#define DIGIT_BITS 11
#define DIGITS     6
#define SMALL      48 /* values that are inserted into their places */

struct sorting {
    const struct pql_slide *slide;
    uint64_t *key, *key_to; /* sorted by these; room for the next pass */
    uint32_t *at, *at_to;   /* the samples that they belong to */
};

/* Ascends as K1 has it. */
static uint64_t order_of(double v)
{
    const uint64_t bits = num_bits(v == 0 ? 0 : v);

    if (isnan(v))
        return 0;
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}

/* False once more than `most` places have been moved over. */
static bool sort_by_insertion(struct sorting *s, size_t n, size_t most)
{
    for (size_t i = 1; i < n; i++) {
        const uint64_t key = s->key[i];
        const uint32_t at = s->at[i];
        size_t j = i;

        for (; j > 0 && s->key[j - 1] > key; j--) {
            s->key[j] = s->key[j - 1];
            s->at[j] = s->at[j - 1];
        }
        s->key[j] = key;
        s->at[j] = at;
        if (i - j > most)
            return false;
        most -= i - j;
    }
    return true;
}

static void sort_digit(struct sorting *s, size_t n, unsigned shift)
{
    uint32_t from[1 << DIGIT_BITS] = {0}, sum = 0;
    uint64_t *key = s->key;
    uint32_t *at = s->at;

    for (size_t i = 0; i < n; i++)
        from[key[i] >> shift & ((1 << DIGIT_BITS) - 1)]++;
    for (size_t d = 0; d < NX_COUNT(from); d++) {
        const uint32_t here = from[d];

        from[d] = sum;
        sum += here;
    }
    for (size_t i = 0; i < n; i++) {
        const uint32_t to = from[key[i] >> shift & ((1 << DIGIT_BITS) - 1)]++;

        s->key_to[to] = key[i];
        s->at_to[to] = at[i];
    }
    s->key = s->key_to;
    s->at = s->at_to;
    s->key_to = key;
    s->at_to = at;
}

/* By the digits from a bit on to the highest, unless the query is to stop meanwhile. */
static bool sort_digits(struct sorting *s, size_t n, unsigned shift, unsigned top)
{
    for (; shift < top; shift += DIGIT_BITS) {
        if (slide_stops(s->slide, n))
            return false;
        sort_digit(s, n, shift);
    }
    return true;
}

/* Keeps the order of equal keys. The three highest digits that differ tell nearly all values apart, and what
 * they do not is near its place. */
static void sort_keys(struct sorting *s, size_t n)
{
    uint64_t differ = 0;
    unsigned top;
    bool sorted = true;

    for (size_t i = 1; i < n; i++) {
        differ |= s->key[i] ^ s->key[0];
        sorted = sorted && s->key[i - 1] <= s->key[i];
    }
    if (sorted)
        return;
    if (n <= SMALL) {
        sort_by_insertion(s, n, SIZE_MAX);
        return;
    }
    top = 64 - (unsigned)__builtin_clzll(differ);
    if (!sort_digits(s, n, top > 3 * DIGIT_BITS ? top - 3 * DIGIT_BITS : 0, top) ||
        sort_by_insertion(s, n, 4 * n))
        return;
    sort_digits(s, n, 0, 64);
}

/* ---- ranks of samples, and those of a window --------------------------------------------------------- */

struct ranks {
    const double *sorted;
    size_t n_nans; /* the first of them */
    double *spare; /* room for as many */
    /* Of windows that share samples; else NULL, and all that was sorted is the window: */
    const uint32_t *of;  /* the rank of each sample */
    uint64_t *here;      /* the ranks that are in the window, as bits, */
    uint8_t *in_word;    /* and how many in each word of bits */
    size_t nans;         /* that are in the window */
    size_t word, before; /* how many are in the words before `word`, where the last was found */
};

/* Sorts v[0..n) of a slide; *at: the samples in order. `room` has space for 3 * n values. */
static void ranks_sort(struct ranks *r, const struct pql_slide *slide, const double *v, size_t n,
                       const uint32_t **at)
{
    double *room = slide->scratch;
    uint32_t *first = (uint32_t *)(void *)(room + 2 * n);
    struct sorting s = {slide, (uint64_t *)(void *)room, (uint64_t *)(void *)(room + n), first,
                        first + n};
    double *sorted;

    for (size_t i = 0; i < n; i++) {
        s.key[i] = order_of(v[i]);
        s.at[i] = (uint32_t)i;
    }
    sort_keys(&s, n);
    sorted = (double *)(void *)s.key_to;
    for (size_t i = 0; i < n; i++)
        sorted[i] = v[s.at[i]];
    *r = (struct ranks){.sorted = sorted, .spare = (double *)(void *)s.key};
    while (r->n_nans < n && isnan(sorted[r->n_nans]))
        r->n_nans++;
    *at = s.at;
}

static void ranks_of_window(struct ranks *r, const struct pql_slide *s, uint32_t k)
{
    const uint32_t *at;

    ranks_sort(r, s, s->v + s->lo[k], s->hi[k] - s->lo[k], &at);
    r->nans = r->n_nans;
}

/* All samples of a series, none of them in the window yet. */
static void ranks_of_series(struct ranks *r, const struct pql_slide *s)
{
    double *room = s->scratch; /* for 4 * (n + 2) values */
    const size_t n = s->n;
    const size_t words = (n + 63) / 64;
    uint32_t *of = (uint32_t *)(void *)(room + 3 * n);
    const uint32_t *at;

    ranks_sort(r, s, s->v, n, &at);
    for (size_t i = 0; i < n; i++)
        of[at[i]] = (uint32_t)i;
    r->of = of;
    r->here = (uint64_t *)(void *)(room + 3 * n + (n + 1) / 2);
    r->in_word = (uint8_t *)(r->here + words);
    memset(r->here, 0, words * sizeof *r->here);
    memset(r->in_word, 0, words);
}

static void sample_comes(struct ranks *r, size_t sample)
{
    const size_t rank = r->of[sample], word = rank / 64;

    r->here[word] |= 1ull << rank % 64;
    r->in_word[word]++;
    r->before += word < r->word;
    r->nans += rank < r->n_nans;
}

static void sample_goes(struct ranks *r, size_t sample)
{
    const size_t rank = r->of[sample], word = rank / 64;

    r->here[word] &= ~(1ull << rank % 64);
    r->in_word[word]--;
    r->before -= word < r->word;
    r->nans -= rank < r->n_nans;
}

/* Value i of the window in order, by its rank among all; there is one. */
static size_t rank_at(struct ranks *r, size_t i)
{
    uint64_t bits;

    if (!r->here)
        return i;
    while (r->before > i)
        r->before -= r->in_word[--r->word];
    while (r->before + r->in_word[r->word] <= i)
        r->before += r->in_word[r->word++];
    bits = r->here[r->word];
    for (size_t k = r->before; k < i; k++)
        bits &= bits - 1;
    return r->word * 64 + (size_t)__builtin_ctzll(bits);
}

/* The value after it, and before it; there is one. */
static size_t rank_after(const struct ranks *r, size_t rank)
{
    size_t word = (rank + 1) / 64;
    uint64_t bits;

    if (!r->here)
        return rank + 1;
    for (bits = r->here[word] >> (rank + 1) % 64 << (rank + 1) % 64; !bits;)
        bits = r->here[++word];
    return word * 64 + (size_t)__builtin_ctzll(bits);
}

static size_t rank_before(const struct ranks *r, size_t rank)
{
    size_t word = (rank - 1) / 64;
    uint64_t bits;

    if (!r->here)
        return rank - 1;
    for (bits = r->here[word] << (63 - (rank - 1) % 64) >> (63 - (rank - 1) % 64); !bits;)
        bits = r->here[--word];
    return word * 64 + 63 - (size_t)__builtin_clzll(bits);
}

/* ---- the functions ------------------------------------------------------------------------------- */

static double window_quantile(struct ranks *r, double q, size_t n)
{
    double rank, weight, low, high;
    size_t lower, at;

    if (quantile_edge(q, n, &low))
        return low;
    rank = q * ((double)n - 1);
    lower = (size_t)floor(rank);
    weight = rank - floor(rank);
    at = rank_at(r, lower);
    low = r->sorted[at];
    high = lower + 1 < n ? r->sorted[rank_after(r, at)] : low;
    return low * (1 - weight) + high * weight;
}

/* Values come closer to a finite median from both sides: half of them are gone through, the nearest first. */
static double window_mad(struct ranks *r, double median, size_t n)
{
    const size_t lower = (n - 1) / 2;
    const double weight = n % 2 ? 0 : 0.5;
    const size_t upper = n > 1 ? lower + 1 : lower;
    size_t below = lower + 1, above = n - below, down = rank_at(r, lower);
    size_t up = above ? rank_after(r, down) : 0;
    double low = 0, high = 0; /* the last two */

    for (size_t i = 0; i <= upper; i++) {
        double to_low = below ? fabs(r->sorted[down] - median) : INFINITY;
        double to_high = above ? fabs(r->sorted[up] - median) : INFINITY;

        low = high;
        if (below && (to_low <= to_high || !above)) {
            high = to_low;
            if (--below)
                down = rank_before(r, down);
        } else {
            high = to_high;
            if (--above)
                up = rank_after(r, up);
        }
    }
    return (n > 1 ? low : high) * (1 - weight) + high * weight;
}

/* The median of what lies off the median, where that is infinite. */
static double mad_afresh(const double *v, size_t n, double median, double *room)
{
    for (size_t i = 0; i < n; i++)
        room[i] = fabs(v[i] - median);
    return quantile_of(0.5, room, n);
}

struct rank_run {
    const struct pql_slide *s;
    struct ranks ranks;
    bool shared;     /* windows share samples */
    uint32_t lo, hi; /* those that are in the window */
};

static void rank_run_start(struct rank_run *run, const struct pql_slide *s)
{
    uint64_t all = 0;

    *run = (struct rank_run){.s = s};
    for (uint32_t k = 0; k < s->tm->n; k++)
        all += s->hi[k] - s->lo[k];
    run->shared = all > 3 * (uint64_t)s->n;
    if (run->shared)
        ranks_of_series(&run->ranks, s);
}

static void rank_run_step(struct rank_run *run, uint32_t k)
{
    const struct pql_slide *s = run->s;

    if (!run->shared) {
        ranks_of_window(&run->ranks, s, k);
        return;
    }
    for (; run->hi < s->hi[k]; run->hi++)
        sample_comes(&run->ranks, run->hi);
    for (; run->lo < s->lo[k]; run->lo++)
        sample_goes(&run->ranks, run->lo);
}

void slide_quantile_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    const struct pql_pos pos = eval_unparen(s->e->call.args[0])->pos;
    struct rank_run run;

    rank_run_start(&run, s);
    for (uint32_t k = 0; k < s->tm->n; k++) {
        const uint32_t n = s->hi[k] - s->lo[k];

        has[k] = n > 0;
        out[k] = 0;
        if (!n)
            continue;
        if (slide_stops(s, n))
            return;
        annots_quantile(&s->ev->annots, pos, s->arg[0][k]);
        rank_run_step(&run, k);
        out[k] = window_quantile(&run.ranks, s->arg[0][k], n);
    }
}

void slide_mad_over_time(const struct pql_slide *s, double *out, uint8_t *has)
{
    struct rank_run run;

    rank_run_start(&run, s);
    for (uint32_t k = 0; k < s->tm->n; k++) {
        const uint32_t n = s->hi[k] - s->lo[k];
        double median;

        has[k] = n > 0;
        out[k] = 0;
        if (!n)
            continue;
        if (slide_stops(s, n))
            return;
        rank_run_step(&run, k);
        median = window_quantile(&run.ranks, 0.5, n);
        if (run.ranks.nans)
            out[k] = (double)NAN;
        else if (isfinite(median))
            out[k] = window_mad(&run.ranks, median, n);
        else
            out[k] = mad_afresh(s->v + s->lo[k], n, median, run.ranks.spare);
    }
}
