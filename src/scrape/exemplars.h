/* exemplars.h - the exemplars of a body, on their way to the store. Private to src/scrape; see ingest.h.
 *
 * Threads  one worker, as for struct ingest. */
#pragma once

#include "src/scrape/ingest.h"

/* The last sample of s->samples has this exemplar; the text is valid as long as the body. */
void exemplars_note(struct ingest_scratch *s, struct nx_slice text);
/* Stores what was noted, each for the series that its sample went to. Call when the row is made, while
 * the body is there. */
void exemplars_store(const struct ingest *in, const struct ingest_env *env, int64_t t_ms,
                     struct ingest_scratch *s, struct ingest_result *res);
