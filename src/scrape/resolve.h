/* resolve.h - samples to columns, columns to a row. Private to src/scrape; see ingest.h. */
#pragma once

#include "src/scrape/ingest.h"

/* Opens the group and finds the report columns, once. */
NX_NODISCARD nx_status resolve_ready(struct ingest *in, const struct ingest_env *env,
                                     const struct ingest_target *t, struct ingest_scratch *s,
                                     struct nx_err *err);
/* Gives columns to the new series of a changed pass, tells duplicates apart, prepares the next layout.
 * After a failure nothing new is left in the store. */
NX_NODISCARD nx_status resolve_new(struct ingest *in, const struct ingest_env *env,
                                   const struct ingest_target *t, struct ingest_scratch *s,
                                   struct ingest_result *res, struct nx_err *err);
/* The group of slots that say `group`. */
struct storage_group *resolve_stamped_group(const struct ingest *in, uint32_t group);
/* The row: samples, then stale markers for what was there and is not any more. Samples with timestamps
 * are appended at once, in their groups. */
NX_NODISCARD nx_status resolve_row(struct ingest *in, const struct ingest_env *env,
                                   const struct ingest_target *t, int64_t now_ms,
                                   struct ingest_scratch *s, struct ingest_result *res,
                                   struct nx_err *err);
/* The row of nothing: stale markers for all. */
NX_NODISCARD nx_status resolve_all_stale(struct ingest *in, const struct ingest_target *t,
                                         struct ingest_scratch *s, struct nx_err *err);
