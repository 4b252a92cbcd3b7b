/* ast.h - the tree of an expression. Private to promql/.
 *
 * Nodes live in the arena given to pql_parse and never change after it, so a tree may be shared
 * between threads. Every node knows its bytes in the source. Compiled regexes are the one thing
 * outside the arena; pql_expr_done() frees them. */
#pragma once

#include "promql/promql.h"

struct pql_func; /* promql/funcs.h */

enum pql_kind {
    PQL_NODE_NUMBER,
    PQL_NODE_STRING,
    PQL_NODE_SELECTOR, /* instant vector selector */
    PQL_NODE_RANGE,    /* selector[range] */
    PQL_NODE_SUBQUERY, /* expr[range:step] */
    PQL_NODE_CALL,
    PQL_NODE_AGGREGATE,
    PQL_NODE_UNARY,
    PQL_NODE_BINARY,
    PQL_NODE_PAREN
};

/* Bytes [start, end) of the source. */
struct pql_pos {
    uint32_t start, end;
};

/* A duration: fixed, or an expression over numbers, step() and range() that the query's own step
 * and range decide (3.x duration expressions). */
struct pql_dur {
    int64_t ms; /* when expr is NULL */
    const struct pql_durexpr *expr;
};
enum pql_dur_op {
    PQL_DUR_NUM,
    PQL_DUR_STEP,
    PQL_DUR_RANGE,
    PQL_DUR_NEG,
    PQL_DUR_POS,
    PQL_DUR_ADD,
    PQL_DUR_SUB,
    PQL_DUR_MUL,
    PQL_DUR_DIV,
    PQL_DUR_MOD,
    PQL_DUR_POW,
    PQL_DUR_MIN,
    PQL_DUR_MAX,
    PQL_DUR_PAREN
};
struct pql_durexpr {
    enum pql_dur_op op;
    double value;     /* PQL_DUR_NUM, in seconds */
    bool is_duration; /* PQL_DUR_NUM: written as 5m, not 300 */
    const struct pql_durexpr *lhs, *rhs;
    struct pql_pos pos;
};

enum pql_at_kind { PQL_AT_NONE, PQL_AT_TIME, PQL_AT_START, PQL_AT_END };

/* offset and @ of selectors and subqueries. */
struct pql_shift {
    struct pql_dur offset; /* positive looks back */
    bool has_offset;
    enum pql_at_kind at;
    int64_t at_ms; /* PQL_AT_TIME */
};

struct pql_selector {
    struct nx_slice name;    /* metric name written before the braces; empty if there is none */
    const struct matcher *m; /* all matchers in source order, then the one for `name` */
    size_t n;
    struct pql_shift shift;
    bool anchored, smoothed; /* extended range selectors */
};

enum pql_op { /* binary and set operators, and the unary signs */
              PQL_OP_OR,
              PQL_OP_AND,
              PQL_OP_UNLESS,
              PQL_OP_EQ,
              PQL_OP_NE,
              PQL_OP_LT,
              PQL_OP_LE,
              PQL_OP_GT,
              PQL_OP_GE,
              PQL_OP_ADD,
              PQL_OP_SUB,
              PQL_OP_MUL,
              PQL_OP_DIV,
              PQL_OP_MOD,
              PQL_OP_ATAN2,
              PQL_OP_POW,
              PQL_OP_TRIM_UPPER,
              PQL_OP_TRIM_LOWER /* </ and >/ on native histograms */
};
const char *pql_op_text(enum pql_op op);
static inline bool pql_op_is_set(enum pql_op op)
{
    return op <= PQL_OP_UNLESS;
}
static inline bool pql_op_is_comparison(enum pql_op op)
{
    return op >= PQL_OP_EQ && op <= PQL_OP_GE;
}

enum pql_card {
    PQL_ONE_TO_ONE,
    PQL_MANY_TO_ONE /* group_left */,
    PQL_ONE_TO_MANY /* group_right */,
    PQL_MANY_TO_MANY
};

struct pql_matching {
    bool present; /* on or ignoring was written */
    bool on;
    const struct nx_slice *labels; /* in source order */
    size_t n;
    enum pql_card card;
    const struct nx_slice *include; /* group_left(...) */
    size_t n_include;
    bool has_fill_left, has_fill_right;
    double fill_left, fill_right;
};

enum pql_agg {
    PQL_AGG_SUM,
    PQL_AGG_AVG,
    PQL_AGG_COUNT,
    PQL_AGG_MIN,
    PQL_AGG_MAX,
    PQL_AGG_GROUP,
    PQL_AGG_STDDEV,
    PQL_AGG_STDVAR,
    PQL_AGG_TOPK,
    PQL_AGG_BOTTOMK,
    PQL_AGG_COUNT_VALUES,
    PQL_AGG_QUANTILE,
    PQL_AGG_LIMITK,
    PQL_AGG_LIMIT_RATIO
};
const char *pql_agg_text(enum pql_agg agg);

struct pql_expr {
    enum pql_kind kind;
    enum pql_type type;
    struct pql_pos pos;
    uint32_t height; /* nodes on the longest way down; at most NX_LIMIT_QUERY_DEPTH */
    union {
        struct {
            double value;
            bool duration; /* written as a duration: 5m */
        } number;
        struct nx_slice string;
        struct pql_selector selector;
        struct {
            const struct pql_expr *selector; /* PQL_NODE_SELECTOR; holds the shift */
            struct pql_dur range;
        } range;
        struct {
            const struct pql_expr *inner;
            struct pql_dur range, step; /* step.ms 0 and no expr: the default */
            struct pql_shift shift;
        } sub;
        struct {
            const struct pql_func *func;
            const struct pql_expr **args;
            size_t n;
        } call;
        struct {
            enum pql_agg op;
            const struct pql_expr *inner, *param; /* param NULL where the operator has none */
            const struct nx_slice *labels;        /* in source order */
            size_t n;
            bool without;
        } agg;
        struct {
            bool minus;
            const struct pql_expr *inner;
        } unary;
        struct {
            enum pql_op op;
            const struct pql_expr *lhs, *rhs;
            bool return_bool;
            struct pql_matching match; /* between vectors */
        } binary;
        const struct pql_expr *paren;
    };
};

/* Child i, or NULL behind the last. What is in strings, selectors and ranges is no child. */
const struct pql_expr *pql_child(const struct pql_expr *e, size_t i);
