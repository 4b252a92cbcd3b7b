/* text.h - UTF-8, and strings inside quotes as Go and JSON write them. Threads: any. */
#pragma once

#include "src/base/buf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The first character of `s`: its length in bytes (1 to 4) and code point; 0 if it is not
 * well-formed UTF-8 (cut short, overlong, a surrogate, above U+10FFFF) or `s` is empty. */
size_t text_utf8_take(struct nx_slice s, uint32_t *code_point);

/* Go's strconv.Quote: "a\tb\u200b\xff". Unassigned code points are taken as printable. */
void text_quote(struct buf *b, struct nx_slice s);
/* False for what Go's strconv.Quote writes as an escape, other than the quote and the backslash. */
bool text_printable(uint32_t code_point);
/* Unicode's white space, as Go's unicode.IsSpace has it. */
bool text_space(uint32_t code_point);

/* A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD; <, > and & stay. */
void text_json(struct buf *b, struct nx_slice s);

#ifdef __cplusplus
}
#endif
