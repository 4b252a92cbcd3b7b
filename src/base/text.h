/* text.h - UTF-8; text as Go and JSON write it in quotes, and as URLs and paths hold it. Threads: any. */
#pragma once

#include "src/base/buf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The first character of `s`: its length in bytes (1 to 4) and code point; 0 if it is not
 * well-formed UTF-8 (cut short, overlong, a surrogate, above U+10FFFF) or `s` is empty. */
size_t text_utf8_take(struct nx_slice s, uint32_t *code_point);
/* Writes a code point up to U+10FFFF and returns its bytes, 1 to 4. Surrogates are written as they are. */
size_t text_utf8_put(char to[4], uint32_t code_point);
/* Appends it. */
void text_utf8(struct buf *b, uint32_t code_point);
/* Unicode's simple mappings, of a character to one character; what has none stays. */
uint32_t text_upper(uint32_t code_point);
uint32_t text_lower(uint32_t code_point);

/* Go's strconv.Quote: "a\tb\u200b\xff". Unassigned code points are taken as printable. */
void text_quote(struct buf *b, struct nx_slice s);
/* The same for a message: written to `to` with a NUL, cut between characters if it does not fit. Returns `to`. */
#define TEXT_QUOTED_BYTES NX_ERR_TEXT_BYTES
const char *text_quoted(char to[TEXT_QUOTED_BYTES], struct nx_slice s);
/* False for what Go's strconv.Quote writes as an escape, other than the quote and the backslash. */
bool text_printable(uint32_t code_point);
/* Unicode's white space, as Go's unicode.IsSpace has it. */
bool text_space(uint32_t code_point);

/* A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD; <, > and & stay. */
void text_json(struct buf *b, struct nx_slice s);

/* Percent signs for what is neither a letter, a digit, one of -_.~ nor of `also_plain`; blanks as + if `plus`. */
void text_url_escape(struct buf *b, struct nx_slice s, const char *also_plain, bool plus);
/* A name or value of a query, as Go's url.QueryEscape writes it. */
void text_url_query(struct buf *b, struct nx_slice s);
/* A path of a URL, as Go's net/url writes it. */
void text_url_path(struct buf *b, struct nx_slice s);
/* Appends a path to one that is in `b` already, as Go's path.Join does: a slash before each part, no part that is
 * empty or ".", and ".." takes the last one back, if there is one. */
void text_join_path(struct buf *b, struct nx_slice path);

#ifdef __cplusplus
}
#endif
