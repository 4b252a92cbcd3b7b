/* funcs.h - the table of functions: one row holds all that checker, evaluator and printer know. */
#pragma once

#include "promql/ast.h"

#define PQL_MAX_ARGS 6

enum pql_func_flags {
    PQL_F_KEEP_NAME = 1,    /* the result keeps __name__ */
    PQL_F_COUNTER = 2,      /* warns on names that don't look like counters */
    PQL_F_EXPERIMENTAL = 4, /* needs promql-experimental-functions */
    PQL_F_VARIADIC = 8,     /* the last argument may repeat without bound */
    PQL_F_PER_STEP = 16,    /* depends on the evaluation time even where its arguments don't */
    PQL_F_ANCHORED = 32,    /* may be used over an anchored selector */
    PQL_F_SMOOTHED = 64,    /* may be used over a smoothed selector */
    PQL_F_ROOMY = 128 /* its kernel needs more room than others: promql/eval.h, struct pql_slide */
};

struct pql_call;   /* promql/eval.h: what a whole-series kernel gets */
struct pql_window; /* promql/eval.h: the samples of one window */
struct pql_slide;  /* promql/eval.h: one series and all its windows */

struct pql_func {
    const char *name;
    enum pql_type result, args[PQL_MAX_ARGS]; /* PQL_NONE ends the list */
    uint8_t min_args;                         /* args beyond it are optional */
    uint8_t max_args; /* 0: as many as are listed; more repeat the last type */
    uint8_t flags;
    /* Exactly one kernel: per value, per window, over all windows of a series, or over the node. */
    double (*map)(double v, const double *scalar_args);
    bool (*window)(const struct pql_window *w, const double *scalar_args,
                   double *out); /* false: no point */
    void (*slide)(const struct pql_slide *s, double *out, uint8_t *has);
    nx_status (*call)(struct pql_call *c, struct nx_err *err);
};

/* Sorted by name. */
extern const struct pql_func pql_funcs[];
extern const size_t pql_n_funcs;
const struct pql_func *pql_func_find(struct nx_slice name); /* NULL if there is none */
