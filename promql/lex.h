/* lex.h - the text of an expression as tokens. Private to promql/.
 *
 * Tokens are slices of the text, which outlives the lexer. The lexer works on demand, one token a
 * call: which of two faults a message names depends on how far the parser has read. */
#pragma once

#include "src/base/buf.h"

// clang-format off
enum lex_type {
    TOK_EOF, TOK_ERROR, TOK_COMMENT,
    /* described by their kind */
    TOK_IDENTIFIER, TOK_METRIC_IDENTIFIER, TOK_STRING, TOK_NUMBER, TOK_DURATION,
    /* described by their text */
    TOK_LEFT_PAREN, TOK_RIGHT_PAREN, TOK_LEFT_BRACE, TOK_RIGHT_BRACE, TOK_LEFT_BRACKET,
    TOK_RIGHT_BRACKET, TOK_COMMA, TOK_COLON, TOK_EQL,
    TOK_START, TOK_END, TOK_STEP, TOK_RANGE, TOK_MAX_OF, TOK_MIN_OF,
    /* described as <op:...> */
    TOK_ADD, TOK_SUB, TOK_MUL, TOK_DIV, TOK_MOD, TOK_POW, TOK_EQLC, TOK_NEQ, TOK_LTE, TOK_LSS,
    TOK_GTE, TOK_GTR, TOK_TRIM_UPPER, TOK_TRIM_LOWER, TOK_EQL_REGEX, TOK_NEQ_REGEX, TOK_AT,
    TOK_AND, TOK_OR, TOK_UNLESS, TOK_ATAN2,
    /* described as <aggr:...>; in the order of enum pql_agg */
    TOK_SUM, TOK_AVG, TOK_COUNT, TOK_MIN, TOK_MAX, TOK_GROUP, TOK_STDDEV, TOK_STDVAR, TOK_TOPK,
    TOK_BOTTOMK, TOK_COUNT_VALUES, TOK_QUANTILE, TOK_LIMITK, TOK_LIMIT_RATIO,
    /* described as <...> */
    TOK_BOOL, TOK_BY, TOK_WITHOUT, TOK_ON, TOK_IGNORING, TOK_GROUP_LEFT, TOK_GROUP_RIGHT, TOK_FILL,
    TOK_FILL_LEFT, TOK_FILL_RIGHT, TOK_OFFSET, TOK_SMOOTHED, TOK_ANCHORED
};
// clang-format on

static inline bool lex_is_agg(enum lex_type t)
{
    return t >= TOK_SUM && t <= TOK_LIMIT_RATIO;
}

struct token {
    enum lex_type type;
    uint32_t pos; /* of its first byte */
    struct nx_slice text;
};

struct lexer {
    struct nx_slice in;
    uint32_t pos, start; /* of the next character; of the token at work */
    uint32_t width;      /* of the last character */
    int paren_depth;
    bool brace_open, bracket_open;
    bool in_duration;             /* after a `[`, up to the first number */
    bool got_colon, got_duration; /* since a `[` */
    nx_status failed;             /* of the first fault, which `err` holds; NX_OK: none */
    struct nx_err *err;
};

/* `text` and `err` are borrowed and outlive the lexer; text.len is below 4 GiB. */
void lex_init(struct lexer *l, struct nx_slice text, struct nx_err *err);

/* The next token that is not a comment. TOK_ERROR: `err` holds the message; do not call again. */
struct token lex_next(struct lexer *l);

/* Writes "LINE:COL: parse error: ..." for the byte at `pos`, unless there was a fault before; returns
 * the status of the first. Columns count bytes from 1. */
nx_status lex_fail(struct lexer *l, uint32_t pos, const char *fmt, ...) NX_PRINTF(3, 4);

/* As lex_fail with a text that was put together in `b`, which is done with. */
nx_status lex_fail_buf(struct lexer *l, uint32_t pos, struct buf *b);

/* A token as messages name it: identifier "foo", <op:+>, "(", end of input. */
void lex_describe(struct buf *b, const struct token *t);
