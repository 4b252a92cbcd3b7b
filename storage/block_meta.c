/* block_meta.c - meta.json and the ULIDs that name blocks.
 *
 * WHY     Tools that know Prometheus's folders (and people) read meta.json, so the fields are
 *         Prometheus's. Ours is "narthex": the format version, and a checksum, so that a flipped digit
 *         in a time does not go unseen.
 * RULES   M1  The checksum is CRC-32C over the whole text with its own eight hex digits taken as zeros.
 *         M2  Unknown fields are ignored, missing ones that matter are damage. */
#include "storage/block_format.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "src/base/clock.h"
#include "src/base/hash.h"
#include "src/base/thread.h"

#define CRC_KEY    "\"crc32c\": \""
#define LATE_HINT  "from-out-of-order" /* as Prometheus has it */
#define CRC_DIGITS 8u

/* ---- ULIDs ---------------------------------------------------------------------------------- */

static const char base32[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; /* Crockford's */

/* 48 bits of time, 80 of chance; within one millisecond the last one's chance plus one. */
void block_ulid(char to[BLOCK_ULID_LEN + 1], int64_t now_ms)
{
    static pthread_mutex_t lock =
        PTHREAD_MUTEX_INITIALIZER; /* leaf; no rank: nothing is called under it */
    static uint64_t last_ms, high; /* high: 16 bits, low: 64 bits of the last ULID */
    static uint64_t low;
    uint64_t ms = now_ms > 0 ? (uint64_t)now_ms & 0xffffffffffffu : 0, h = 0, l = 0;

    if (getrandom(&l, sizeof l, 0) != sizeof l || getrandom(&h, 2, 0) != 2) {
        l = (uint64_t)clock_mono_ns();
        h = (uint64_t)(uintptr_t)to & 0xffff;
    }
    pthread_mutex_lock(&lock);
    if (ms <= last_ms && last_ms) { /* also when the clock was set back: names keep ascending */
        ms = last_ms;
        l = low + 1;
        h = l ? high : (high + 1) & 0xffff;
    }
    last_ms = ms;
    high = h;
    low = l;
    pthread_mutex_unlock(&lock);
    for (unsigned i = 10; i-- > 0; ms >>= 5)
        to[i] = base32[ms & 31];
    for (unsigned i = BLOCK_ULID_LEN; i-- > 10;) {
        to[i] = base32[l & 31];
        l = l >> 5 | (h & 31) << 59;
        h >>= 5;
    }
    to[BLOCK_ULID_LEN] = '\0';
}

bool block_ulid_valid(const char *name)
{
    size_t n = strspn(name, base32);

    return n == BLOCK_ULID_LEN && name[n] == '\0' && name[0] <= '7';
}

/* ---- struct block_meta ---------------------------------------------------------------------- */

void block_meta_done(struct block_meta *m)
{
    if (!m)
        return;
    free(m->sources);
    free(m->parents);
    *m = (struct block_meta){0};
}

nx_status block_meta_copy(const struct block_meta *from, struct block_meta *to, struct nx_err *err)
{
    struct block_meta m = *from;

    m.sources = calloc(from->n_sources + 1, sizeof *m.sources);
    m.parents = calloc(from->n_parents + 1, sizeof *m.parents);
    if (!m.sources || !m.parents) {
        block_meta_done(&m);
        return nx_fail(err, NX_NOMEM, "out of memory for a block's meta data");
    }
    if (from->n_sources)
        memcpy(m.sources, from->sources, from->n_sources * sizeof *m.sources);
    if (from->n_parents)
        memcpy(m.parents, from->parents, from->n_parents * sizeof *m.parents);
    *to = m;
    return NX_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

static void print_parents(const struct block_meta *m, struct buf *to)
{
    if (!m->n_parents)
        return;
    buf_str(to, ",\n\t\t\"parents\": [");
    for (size_t i = 0; i < m->n_parents; i++)
        buf_printf(to,
                   "%s\n\t\t\t{\n\t\t\t\t\"ulid\": \"%s\",\n\t\t\t\t\"minTime\": %" PRId64
                   ",\n\t\t\t\t\"maxTime\": %" PRId64 "\n\t\t\t}",
                   i ? "," : "", m->parents[i].ulid, m->parents[i].min_ms, m->parents[i].max_ms);
    buf_str(to, "\n\t\t]");
}

static void put_crc(char *at, uint32_t crc)
{
    char digits[CRC_DIGITS + 1];

    snprintf(digits, sizeof digits, "%08" PRIx32, crc);
    memcpy(at, digits, CRC_DIGITS);
}

nx_status block_meta_print(const struct block_meta *m, struct buf *to, struct nx_err *err)
{
    const size_t start = to->len;
    char *crc;
    nx_status st;

    buf_printf(to,
               "{\n\t\"ulid\": \"%s\",\n\t\"minTime\": %" PRId64 ",\n\t\"maxTime\": %" PRId64
               ",\n\t\"stats\": {\n\t\t\"numSamples\": %" PRIu64
               ",\n\t\t\"numFloatSamples\": %" PRIu64 ",\n\t\t\"numSeries\": %" PRIu64
               ",\n\t\t\"numChunks\": %" PRIu64
               "\n\t},\n\t\"compaction\": {\n\t\t\"level\": %" PRIu32 ",\n\t\t\"sources\": [",
               m->ulid, m->min_ms, m->max_ms, m->n_samples, m->n_samples, m->n_series, m->n_chunks,
               m->level);
    for (size_t i = 0; i < m->n_sources; i++)
        buf_printf(to, "%s\n\t\t\t\"%s\"", i ? "," : "", m->sources[i]);
    buf_str(to, "\n\t\t]");
    print_parents(m, to);
    if (m->late)
        buf_str(to, ",\n\t\t\"hints\": [\n\t\t\t\"" LATE_HINT "\"\n\t\t]");
    buf_printf(to, "\n\t},\n\t\"version\": 1,\n\t\"narthex\": {\n\t\t\"format\": %u,\n\t\t",
               m->resolution_ms ? BLOCK_FORMAT_COARSE : BLOCK_FORMAT);
    if (m->resolution_ms)
        buf_printf(to, "\"resolution\": %" PRId64 ",\n\t\t", m->resolution_ms);
    buf_str(to, CRC_KEY "00000000\"\n\t}\n}\n");
    buf_char(to, '\0'); /* for strstr; taken back */
    st = buf_status(to, err);
    if (st)
        return st;
    to->len--;
    crc = strstr(to->ptr + start, CRC_KEY);
    if (crc)
        put_crc(crc + strlen(CRC_KEY), crc32c(0, to->ptr + start, to->len - start));
    return NX_OK;
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool checksum_ok(struct nx_slice text) /* M1 */
{
    const char *key = memmem(text.ptr, text.len, CRC_KEY, strlen(CRC_KEY));
    size_t at = key ? (size_t)(key - text.ptr) + strlen(CRC_KEY) : 0;
    char want[CRC_DIGITS];
    uint32_t crc;

    if (!key || text.len - at < CRC_DIGITS)
        return false;
    crc = crc32c(0, text.ptr, at);
    crc = crc32c(crc, "00000000", CRC_DIGITS);
    crc = crc32c(crc, text.ptr + at + CRC_DIGITS, text.len - at - CRC_DIGITS);
    put_crc(want, crc);
    return memcmp(want, text.ptr + at, CRC_DIGITS) == 0;
}

static bool get_int(const json_t *o, const char *key, int64_t *out)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_integer(v))
        return false;
    *out = json_integer_value(v);
    return true;
}

static bool get_count(const json_t *o, const char *key, uint64_t *out)
{
    int64_t v;

    if (!get_int(o, key, &v) || v < 0)
        return false;
    *out = (uint64_t)v;
    return true;
}

static bool get_ulid(const json_t *v, char to[BLOCK_ULID_LEN + 1])
{
    const char *s = json_string_value(v);

    if (!s || !block_ulid_valid(s))
        return false;
    memcpy(to, s, BLOCK_ULID_LEN + 1);
    return true;
}

static bool get_sources(const json_t *a, struct block_meta *m)
{
    for (size_t i = 0; i < m->n_sources; i++)
        if (!get_ulid(json_array_get(a, i), m->sources[i]))
            return false;
    return true;
}

static bool get_parents(const json_t *a, struct block_meta *m)
{
    for (size_t i = 0; i < m->n_parents; i++) {
        const json_t *p = json_array_get(a, i);
        if (!get_ulid(json_object_get(p, "ulid"), m->parents[i].ulid) ||
            !get_int(p, "minTime", &m->parents[i].min_ms) ||
            !get_int(p, "maxTime", &m->parents[i].max_ms))
            return false;
    }
    return true;
}

static bool has_hint(const json_t *hints, const char *name)
{
    for (size_t i = 0; i < json_array_size(hints); i++) {
        const char *hint = json_string_value(json_array_get(hints, i));
        if (hint && strcmp(hint, name) == 0)
            return true;
    }
    return false;
}

/* A block of points says of which resolution; a block of samples has none. */
static bool get_resolution(const json_t *root, struct block_meta *m)
{
    const json_t *own = json_object_get(root, "narthex");
    int64_t format;

    if (!get_int(own, "format", &format))
        return false;
    if (format == BLOCK_FORMAT)
        return true;
    return get_int(own, "resolution", &m->resolution_ms) && m->resolution_ms > 0 &&
           m->resolution_ms <= BLOCK_MAX_RESOLUTION_MS && m->max_ms - m->min_ms <= INT64_MAX / 16 &&
           m->max_ms <= INT64_MAX / 16 && m->min_ms >= INT64_MIN / 16;
}

static bool get_fields(const json_t *root, struct block_meta *m)
{
    const json_t *stats = json_object_get(root, "stats"),
                 *compaction = json_object_get(root, "compaction");
    int64_t level;

    if (!get_ulid(json_object_get(root, "ulid"), m->ulid) ||
        !get_int(root, "minTime", &m->min_ms) || !get_int(root, "maxTime", &m->max_ms) ||
        m->min_ms >= m->max_ms)
        return false;
    if (!get_count(stats, "numSamples", &m->n_samples) ||
        !get_count(stats, "numSeries", &m->n_series) ||
        !get_count(stats, "numChunks", &m->n_chunks))
        return false;
    if (!get_int(compaction, "level", &level) || level < 1 || level > UINT32_MAX)
        return false;
    m->level = (uint32_t)level;
    m->late = has_hint(json_object_get(compaction, "hints"), LATE_HINT);
    return get_resolution(root, m) && get_sources(json_object_get(compaction, "sources"), m) &&
           get_parents(json_object_get(compaction, "parents"), m);
}

/* Room for the lists of a block's origins; a list that is not there has none. */
static bool make_room(const json_t *root, struct block_meta *m)
{
    const json_t *compaction = json_object_get(root, "compaction");

    m->n_sources = json_array_size(json_object_get(compaction, "sources"));
    m->n_parents = json_array_size(json_object_get(compaction, "parents"));
    m->sources = calloc(m->n_sources + 1, sizeof *m->sources);
    m->parents = calloc(m->n_parents + 1, sizeof *m->parents);
    return m->sources && m->parents;
}

nx_status block_meta_parse(struct nx_slice text, struct block_meta *out, struct nx_err *err)
{
    struct block_meta m = {0};
    json_error_t why;
    json_t *root = NULL;
    int64_t version, format;
    nx_status st = NX_OK;

    if (!checksum_ok(text))
        return nx_fail(err, NX_CORRUPT, "checksum does not match");
    root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        st = nx_fail(err, NX_CORRUPT, "line %d: %s", why.line, why.text);
    else if (!get_int(root, "version", &version) || version != 1 ||
             !get_int(json_object_get(root, "narthex"), "format", &format) ||
             (format != BLOCK_FORMAT && format != BLOCK_FORMAT_COARSE))
        st = nx_fail(err, NX_CORRUPT, "format version is not known");
    else if (!make_room(root, &m))
        st = nx_fail(err, NX_NOMEM, "out of memory");
    else if (!get_fields(root, &m))
        st = nx_fail(err, NX_CORRUPT, "fields are missing or make no sense");
    json_decref(root);
    if (st) {
        block_meta_done(&m);
        return st;
    }
    *out = m;
    return NX_OK;
}
