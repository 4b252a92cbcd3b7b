/* query.h - a server's query API, as the `query` commands ask it. Private to src/cli. */
#pragma once

#include "src/cli/model.h"
#include "src/cli/server_url.h"

/* An answer's "data" and its warnings. */
struct query_answer {
    json_t *root; /* owned */
    const json_t *data, *warnings;
};
/* POSTs a form, or GETs where the server does not take that; `form` NULL: GETs `path` as it is. On failure the
 * text is that of Prometheus's client library, with what the server said. */
NX_NODISCARD nx_status query_ask(const struct server_url *s, const char *path, const char *form,
                                 struct query_answer *out, struct nx_err *err);
void query_answer_done(struct query_answer *a);
/* name=<seconds>, as the client library writes times. */
void query_param_time(struct buf *form, const char *name, int64_t ns);
