/* stats.c - what the store can tell of itself. */
#include "storage/exemplar.h"
#include "storage/storage_impl.h"

static void head_stats(struct storage *s, struct storage_stats *out)
{
    struct head *h = s->head;
    struct index_stats ix;
    struct head_counts counts;

    nx_rdlock(&h->lock);
    index_get_stats(h->ix, &ix);
    nx_rwunlock(&h->lock);
    head_get_counts(h, &counts);
    out->head_series = ix.series;
    out->label_pairs = ix.pairs;
    out->symbols = ix.symbols;
    out->symbol_bytes = ix.symbol_bytes;
    out->head_groups = counts.groups;
    out->head_chunks = counts.chunks;
    out->chunks_stored = counts.stored_chunks;
    out->head_samples_appended = atomic_load(&h->samples);
    out->head_min_ms = atomic_load(&h->min_ms);
    out->head_max_ms = out->head_min_ms == INT64_MAX ? INT64_MIN : atomic_load(&h->max_ms);
    out->series_created = atomic_load(&h->series_created);
    out->series_removed = atomic_load(&h->series_removed);
    out->out_of_order = atomic_load(&h->out_of_order);
    out->duplicates = atomic_load(&h->duplicates);
    out->out_of_bounds = atomic_load(&h->out_of_bounds);
    out->too_old = atomic_load(&h->loose->too_old);
    out->out_of_order_appended = atomic_load(&h->loose->appended);
    for (size_t i = 0; i <= STORAGE_LATE_BOUNDS; i++)
        out->late[i] = atomic_load(&h->loose->late[i]);
    out->late_ms = atomic_load(&h->loose->late_ms);
}

static void wal_stats(struct storage *s, struct storage_stats *out)
{
    struct wal_stats w;
    struct headfile_stats f;

    wal_get_stats(s->wal, &w);
    out->wal_bytes = w.bytes;
    out->wal_segment = w.segment;
    out->wal_fsyncs = w.fsyncs;
    out->wal_corruptions = w.corruptions;
    out->wal_truncations = w.truncations;
    out->wal_append_failures = w.append_failures;
    out->wal_replay_ms = (uint64_t)s->replay_ms;
    out->wal_written_bytes = w.written_bytes;
    headfiles_get_stats(s->files, &f);
    out->chunk_files = f.files;
    out->chunk_file_bytes = f.bytes;
    out->chunk_written_bytes = f.written_bytes;
    out->chunks_damaged = f.damaged;
}

static void exemplar_stats(struct storage *s, struct storage_stats *out)
{
    struct exemplar_stats x;

    exemplars_get_stats(s->exemplars, &x);
    out->exemplars = x.exemplars;
    out->exemplar_series = x.series;
    out->exemplars_max = x.max;
    out->exemplars_appended = x.appended;
    out->exemplars_out_of_order = x.out_of_order;
    out->exemplar_oldest_ms = x.oldest_ms;
}

void storage_get_stats(struct storage *s, struct storage_stats *out)
{
    struct cache_stats cache;

    *out = (struct storage_stats){0};
    head_stats(s, out);
    wal_stats(s, out);
    exemplar_stats(s, out);
    cache_get_stats(s->cache, &cache);
    out->cache_bytes = cache.bytes;
    out->cache_limit_bytes = cache.limit_bytes;
    out->oldest_ms = out->head_min_ms;
    out->newest_ms = out->head_max_ms;
    nx_lock(&s->lock);
    out->blocks = s->n_blocks;
    for (size_t i = 0; i < s->n_blocks; i++) {
        const struct block_meta *m = block_meta(s->blocks[i]);
        out->block_bytes += block_bytes(s->blocks[i]);
        out->pages_damaged += block_pages_damaged(s->blocks[i]);
        if (m->min_ms < out->oldest_ms)
            out->oldest_ms = m->min_ms;
        if (m->max_ms - 1 > out->newest_ms)
            out->newest_ms = m->max_ms - 1;
    }
    out->block_loads_failed = s->loads_failed;
    out->blocks_set_aside = s->set_aside;
    out->compactions = s->compactions;
    out->compactions_failed = s->compactions_failed;
    out->retention_deletions = s->time_deletions;
    out->size_retention_deletions = s->size_deletions;
    out->retention = s->retention;
    out->rewrites = s->rewrites;
    out->downsampled = s->downsampled;
    out->samples_expired = s->samples_expired;
    out->disk_bytes = s->disk_bytes;
    nx_unlock(&s->lock);
}

nx_status storage_get_cardinality(struct storage *s, size_t limit, struct arena *a,
                                  struct storage_cardinality *out, struct nx_err *err)
{
    nx_status st;

    nx_rdlock(&s->head->lock);
    st = index_cardinality(s->head->ix, limit, a, out, err);
    nx_rwunlock(&s->head->lock);
    return st;
}
