/* wire.h - the next GET over a connection that is kept. Private to src/scrape.
 *
 * Owner    a target keeps the connection, a fetch what was read of the answer.
 * Threads  wire_ask() in the loop thread; wire_read() in the worker that was told of bytes. */
#pragma once

#include "src/scrape/fetch.h"

/* Is a request for this URL one that wire_ask() can make? */
bool wire_takes(const char *url);
/* Sends the request. False: the connection is not good any more; ask by libcurl. */
bool wire_ask(int fd, struct fetch *f, const struct fetch_request *r);

enum wire_got {
    WIRE_MORE, /* not all is there yet */
    WIRE_DONE, /* a 200 and its whole body, at fetch->body_at of fetch->body */
    WIRE_ODD   /* anything else: close, and ask by libcurl */
};
/* Reads what has come. */
enum wire_got wire_read(int fd, struct fetch *f);
/* The same without the reading, for bytes that were added to fetch->body. */
enum wire_got wire_look(struct fetch *f);
