/* token.h - OAuth2 client credentials: a token for a job's requests. Private to src/scrape.
 *
 * Threads  token_get() blocks and is called by one worker at a time; the others from any thread. */
#pragma once

#include "src/config/config.h"

struct token;

/* `cfg` is borrowed until token_free(). */
NX_NODISCARD nx_status token_new(struct token **out, const struct config_oauth2 *cfg,
                                 struct nx_err *err);
void token_free(struct token *t); /* accepts NULL */

bool token_needed(struct token *t); /* there is none, or it ends within ten seconds */
void token_get(struct token *t, int64_t timeout_ms, const int *cancel);
/* The same in steps, for who has a multi handle of libcurl. One of token_get() and these at a time. */
struct token_ask;
struct token_ask *token_ask_new(struct token *t); /* NULL out of memory */
/* *easy, a CURL *, is ready to be added; `cancel` as above. */
NX_NODISCARD nx_status token_ask_begin(struct token_ask *a, int64_t timeout_ms, const int *cancel,
                                       void **easy, struct nx_err *err);
/* What came of it, a CURLcode. True: begin once more; else token_header() tells. */
bool token_ask_end(struct token_ask *a, int result);
void token_ask_free(struct token_ask *a); /* accepts NULL */
/* Appends "Bearer ..."; or fails as the last token_get() did. */
NX_NODISCARD nx_status token_header(struct token *t, struct buf *to, struct nx_err *err);
