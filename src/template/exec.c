#include "src/template/value.h"

/* exec.c - walks a template's tree with data and writes text.
 *
 * WHY     Users know what Go's text/template does, and read its errors in their alerts. So evaluation
 *         goes the way Go's does, and `run.at` is set where Go sets it: it is the place that an error names.
 * RULES   X1  The first failure ends the execution; what was written before stays.
 *         X2  Work is bounded: steps are counted, and named parts may call each other only so deep. So is memory:
 *             what the arena holds more than before, queries' results and all.
 *         X3  and, or evaluate as many arguments as they need. */

#include <stdio.h>
#include <string.h>

#include "src/base/text.h"

#define MAX_STEPS 5000000u
#define MAX_MIB   64u
#define MAX_DEPTH                                                                                  \
    200 /* of functions in functions, blocks in blocks and parts; Go's, of parts, is 100000 */

enum walked { WALKED, BREAK, CONTINUE, FAILED };

static bool eval_pipeline(struct run *r, const struct value *dot, const struct node *pipe,
                          struct value *out);
static enum walked walk(struct run *r, const struct value *dot, const struct node *n);

/* ---- saying what is wrong ------------------------------------------------------------------------ */

bool run_memory(struct run *r)
{
    if (!r->st)
        r->st = arena_failed(r->arena, r->err);
    return false;
}

/* X2 */
static bool has_room(struct run *r)
{
    if (arena_bytes(r->arena) <= r->arena_bytes + ((size_t)MAX_MIB << 20))
        return true;
    if (!r->st)
        r->st = nx_fail(r->err, NX_LIMIT, "template: %.*s: more than %u MiB of memory",
                        (int)r->t->name.len, r->t->name.ptr, MAX_MIB);
    return false;
}

bool run_text(struct run *r, struct buf *b, struct value *out)
{
    struct nx_slice s = arena_slice(r->arena, buf_view(b));

    if (b->failed && !r->st)
        r->st = buf_status(b, r->err);
    else if (!s.ptr)
        run_memory(r);
    buf_done(b);
    *out = value_string(s);
    return has_room(r) && !r->st;
}

static void place_of(const struct run *r, uint32_t *line, uint32_t *col)
{
    const char *text = r->in->text.ptr;

    *line = 1;
    *col = r->at->pos;
    for (uint32_t i = 0; i < r->at->pos; i++)
        if (text[i] == '\n') {
            ++*line;
            *col = r->at->pos - i - 1;
        }
}

static bool fail(struct run *r, const char *fmt, ...) NX_PRINTF(2, 3);
static bool fail(struct run *r, const char *fmt, ...)
{
    char text[1400];
    struct buf b;
    uint32_t line, col;
    va_list ap;

    if (r->st)
        return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_init(&b, NX_ERR_TEXT_BYTES);
    place_of(r, &line, &col);
    buf_printf(&b, "template: %.*s:%u:%u: executing ", (int)r->in->name.len, r->in->name.ptr, line,
               col);
    text_quote(&b, r->part);
    buf_str(&b, " at <");
    node_print(&b, r->at);
    buf_printf(&b, ">: %s", text);
    r->st = nx_fail(r->err, NX_EXEC, "%s", buf_cstr(&b));
    buf_done(&b);
    return false;
}

/* X2 */
static bool step(struct run *r)
{
    if (r->st)
        return false;
    if (r->out->failed) {
        r->st = buf_status(r->out, r->err);
        return false;
    }
    if (!has_room(r))
        return false;
    if (r->steps-- > 0)
        return true;
    r->steps = 0;
    r->st = nx_fail(r->err, NX_LIMIT, "template: %.*s: more than %u steps", (int)r->t->name.len,
                    r->t->name.ptr, MAX_STEPS);
    return false;
}

/* X2: of recursion. Comes back with `depth--`. */
static bool deeper(struct run *r)
{
    if (r->depth >= MAX_DEPTH)
        return fail(r, "exceeded maximum template depth (%d)", MAX_DEPTH);
    r->depth++;
    return true;
}

static const char *shown(struct run *r, const struct node *n)
{
    struct buf b;
    const char *s;

    buf_init(&b, 0);
    node_print(&b, n);
    s = arena_strdup(r->arena, buf_cstr(&b));
    buf_done(&b);
    return s ? s : "";
}

/* ---- variables ----------------------------------------------------------------------------------- */

static bool push_var(struct run *r, struct nx_slice name, const struct value *v)
{
    if (r->n_vars == r->cap_vars) {
        size_t cap = r->cap_vars ? r->cap_vars * 2 : 16;
        struct run_var *vars =
            arena_grow(r->arena, r->vars, r->cap_vars * sizeof *vars, cap * sizeof *vars);
        if (!vars)
            return run_memory(r);
        r->vars = vars;
        r->cap_vars = cap;
    }
    r->vars[r->n_vars++] = (struct run_var){name, *v};
    return true;
}

static struct run_var *find_var(struct run *r, struct nx_slice name)
{
    for (size_t i = r->n_vars; i-- > 0;)
        if (nx_slice_eq(r->vars[i].name, name))
            return &r->vars[i];
    fail(r, "undefined variable: %.*s", (int)name.len, name.ptr);
    return NULL;
}

static bool set_var(struct run *r, struct nx_slice name, const struct value *v)
{
    struct run_var *var = find_var(r, name);

    if (var)
        var->value = *v;
    return var != NULL;
}

/* ---- operands ------------------------------------------------------------------------------------ */

/* What a command gets from the stage before it, and its arguments behind the first word. */
struct given {
    struct node *const *args;
    uint32_t n;
    const struct value *final; /* NULL: there is none */
    const struct node
        *cmd; /* the whole command, which a failing call names; NULL: its name alone */
};

static bool not_a_function(struct run *r, const struct node *first, const struct given *g)
{
    if (!g->n && !g->final)
        return true;
    return fail(r, "can't give argument to non-function %s", shown(r, first));
}

static bool eval_field(struct run *r, const struct value *dot, struct nx_slice name,
                       const struct given *g, const struct value *of, struct value *out);

static bool eval_fields(struct run *r, const struct value *dot, const struct node *n, uint32_t from,
                        const struct given *g, const struct value *of, struct value *out)
{
    static const struct given nothing = {0};
    struct value v = *of;

    for (uint32_t i = from; i < n->n_idents; i++) {
        struct value inner = {0};
        if (!eval_field(r, dot, n->idents[i], i + 1 == n->n_idents ? g : &nothing, &v, &inner))
            return false;
        v = inner;
    }
    *out = v;
    return true;
}

static bool eval_variable(struct run *r, const struct value *dot, const struct node *n,
                          const struct given *g, struct value *out)
{
    struct run_var *var;

    r->at = n;
    if (!(var = find_var(r, n->idents[0])))
        return false;
    struct value v = var->value;
    if (n->n_idents == 1) {
        *out = v;
        return not_a_function(r, n, g);
    }
    return eval_fields(r, dot, n, 1, g, &v, out);
}

static bool eval_number(struct run *r, const struct node *n, struct value *out)
{
    r->at = n;
    if (n->as_float)
        *out = value_float(n->f);
    else if (n->is_int)
        *out = value_int(n->i);
    else
        return fail(r, "%.*s overflows int", (int)n->text.len, n->text.ptr);
    return true;
}

static bool eval_function(struct run *r, const struct value *dot, const struct node *n,
                          const struct given *g, struct value *out);

static bool eval_chain(struct run *r, const struct value *dot, const struct node *n,
                       const struct given *g, struct value *out);

/* An argument, or the first word of a command, whatever its kind. */
static bool eval_operand(struct run *r, const struct value *dot, const struct node *n,
                         const struct given *g, struct value *out)
{
    switch (n->kind) {
    case NODE_FIELD:
        r->at = n;
        return eval_fields(r, dot, n, 0, g, dot, out);
    case NODE_CHAIN:
        return eval_chain(r, dot, n, g, out);
    case NODE_IDENT:
        return eval_function(r, dot, n, g, out);
    case NODE_PIPE:
        return not_a_function(r, n, g) && eval_pipeline(r, dot, n, out);
    case NODE_VARIABLE:
        return eval_variable(r, dot, n, g, out);
    default:
        break;
    }
    r->at = n;
    if (!not_a_function(r, n, g))
        return false;
    switch (n->kind) {
    case NODE_DOT:
        *out = *dot;
        return true;
    case NODE_BOOL:
        *out = value_bool(n->truth);
        return true;
    case NODE_NUMBER:
        return eval_number(r, n, out);
    case NODE_STRING:
        *out = value_string(n->text);
        return true;
    default:
        return fail(r, "nil is not a command");
    }
}

static const char *want_type(enum want w)
{
    return w == WANT_STRING   ? "string"
           : w == WANT_SAMPLE ? "*template.sample"
                              : "template.queryResult";
}

/* Go's validateType. */
static bool check_type(struct run *r, struct value *v, enum want w)
{
    static struct vector none;

    if (w == WANT_ANY || (w == WANT_STRING && v->kind == V_STRING) ||
        (w == WANT_SAMPLE && v->kind == V_SAMPLE) || (w == WANT_VECTOR && v->kind == V_VECTOR))
        return true;
    if (v->kind == V_NONE && w == WANT_VECTOR) {
        *v = (struct value){.kind = V_VECTOR, .vector = &none};
        return true;
    }
    if (v->kind == V_NONE)
        return fail(r, "invalid value; expected %s", want_type(w));
    return fail(r, "wrong type for value; expected %s; got %s", want_type(w), value_type(v));
}

static bool eval_arg(struct run *r, const struct value *dot, enum want w, const struct node *n,
                     struct value *out)
{
    static const struct given nothing = {0};

    r->at = n;
    switch (n->kind) {
    case NODE_NIL:
        if (w == WANT_STRING)
            return fail(r, "cannot assign nil to string");
        *out = (struct value){0};
        return w != WANT_VECTOR || check_type(r, out, w);
    case NODE_BOOL:
    case NODE_NUMBER:
    case NODE_STRING:
        if (w == WANT_STRING && n->kind != NODE_STRING)
            return fail(r, "expected string; found %s", shown(r, n));
        if (w == WANT_SAMPLE || w == WANT_VECTOR)
            return fail(r, "can't handle %s for arg of type %s", shown(r, n), want_type(w));
        return eval_operand(r, dot, n, &nothing, out);
    default:
        return eval_operand(r, dot, n, &nothing, out) && check_type(r, out, w);
    }
}

static bool eval_chain(struct run *r, const struct value *dot, const struct node *n,
                       const struct given *g, struct value *out)
{
    struct value v = {0};

    r->at = n;
    if (n->pipe->kind == NODE_NIL)
        return fail(r, "indirection through explicit nil in %s", shown(r, n));
    return eval_arg(r, dot, WANT_ANY, n->pipe, &v) && eval_fields(r, dot, n, 0, g, &v, out);
}

/* ---- calls --------------------------------------------------------------------------------------- */

static bool call_failed(struct run *r, const struct node *n, struct nx_slice name,
                        const struct nx_err *why)
{
    if (!r->st && why->code == NX_NOMEM)
        r->st = nx_fail(r->err, NX_NOMEM, "%s", why->text);
    if (r->st)
        return false;
    if (n)
        r->at = n;
    return fail(r, "error calling %.*s: %s", (int)name.len, name.ptr, why->text);
}

/* The two methods with an argument: Remove of pairs, Format of a time. */
enum called { CALLED, CALLED_NOT, CALLED_BADLY };
static enum called eval_method_of_one(struct run *r, const struct value *dot, struct nx_slice name,
                                      const struct given *g, const struct value *of,
                                      struct value *out)
{
    bool remove = of->kind == V_PAIRS && nx_slice_is(name, "Remove"), ok;
    uint32_t n = g->n + (g->final != NULL);
    struct value arg = {0};

    if (!remove && !(of->kind == V_TIME && nx_slice_is(name, "Format")))
        return CALLED_NOT;
    if (n != 1)
        ok = fail(r, "wrong number of args for %.*s: want 1 got %u", (int)name.len, name.ptr, n);
    else if (g->final)
        arg = *g->final, ok = true;
    else
        ok = eval_arg(r, dot, remove ? WANT_ANY : WANT_STRING, g->args[0], &arg);
    if (ok && remove && arg.kind != V_LIST)
        ok = fail(r, "wrong type for value; expected []string; got %s", value_type(&arg));
    if (ok && !remove)
        ok = check_type(r, &arg, WANT_STRING);
    if (ok)
        ok = remove ? notice_remove(r, of, &arg, out) : value_format_time(r, of, arg.s, out);
    return ok ? CALLED : CALLED_BADLY;
}

static bool eval_method(struct run *r, const struct value *dot, struct nx_slice name,
                        const struct given *g, const struct value *of, struct value *out)
{
    struct nx_err why = {0};

    if (of->kind == V_PAIRS || of->kind == V_TIME) {
        enum called c = eval_method_of_one(r, dot, name, g, of, out);
        if (c != CALLED_NOT)
            return c == CALLED;
    }
    if (g->n + (g->final != NULL) > 0) /* no other takes any */
        return fail(r, "wrong number of args for %.*s: want 0 got %u", (int)name.len, name.ptr,
                    g->n + (g->final != NULL));
    return value_call_method(r, of, name, out, &why) || call_failed(r, NULL, name, &why);
}

static bool eval_field(struct run *r, const struct value *dot, struct nx_slice name,
                       const struct given *g, const struct value *of, struct value *out)
{
    bool has_args = g->n > 0 || g->final;

    switch (value_member(r, of, name, out)) {
    case MEMBER_MISSING:
        *out = (struct value){0};
        return true;
    case MEMBER_METHOD:
        return eval_method(r, dot, name, g, of, out);
    case MEMBER_NO_SUCH:
        return fail(r, "can't evaluate field %.*s in type %s", (int)name.len, name.ptr,
                    value_type(of));
    default:
        break;
    }
    if (has_args && (of->kind == V_LABELS || of->kind == V_ARGS))
        return fail(r, "%.*s is not a method but has arguments", (int)name.len, name.ptr);
    if (has_args)
        return fail(r, "%.*s has arguments but cannot be invoked as function", (int)name.len,
                    name.ptr);
    return true;
}

/* X3 */
static bool eval_and_or(struct run *r, const struct value *dot, bool until, const struct given *g,
                        struct value *out)
{
    struct value v = {0};

    for (uint32_t i = 0; i < g->n; i++) {
        if (!eval_arg(r, dot, WANT_ANY, g->args[i], &v))
            return false;
        if (value_truth(&v) == until) {
            *out = v;
            return true;
        }
    }
    *out = g->final ? *g->final : v;
    return true;
}

static bool eval_function(struct run *r, const struct value *dot, const struct node *n,
                          const struct given *g, struct value *out)
{
    const struct function_row *f = function_find(n->text);
    struct value args[VALUES_MAX];
    struct nx_err why = {0};
    uint32_t n_in = g->n + (g->final != NULL), i;

    r->at = n;
    NX_ASSERT(f); /* the parser looked */
    if (f->variadic ? g->n + (g->final != NULL) < f->n : n_in != f->n)
        return fail(r, "wrong number of args for %s: want %s%u got %u", f->name,
                    f->variadic ? "at least " : "", f->n, f->variadic ? g->n : n_in);
    if (!f->fn)
        return eval_and_or(r, dot, f->name[0] == 'o', g, out);
    if (n_in > VALUES_MAX)
        return fail(r, "more than %d arguments for %s", VALUES_MAX, f->name);
    for (i = 0; i < g->n; i++) {
        args[i] = (struct value){0};
        if (!eval_arg(r, dot, i < f->n ? f->wants[i] : WANT_ANY, g->args[i], &args[i]))
            return false;
    }
    if (g->final) {
        args[i] = *g->final;
        if (!check_type(r, &args[i], i < f->n ? f->wants[i] : WANT_ANY))
            return false;
    }
    for (i = 0; i < f->n; i++)
        if (f->wants[i] == WANT_SAMPLE && args[i].kind == V_NONE) {
            nx_fail(&why, NX_EXEC,
                    "runtime error: invalid memory address or nil pointer dereference");
            return call_failed(r, g->cmd ? g->cmd : n, n->text, &why);
        }
    *out = (struct value){0};
    return f->fn(r, args, n_in, out, &why) || call_failed(r, g->cmd ? g->cmd : n, n->text, &why);
}

/* ---- pipelines ------------------------------------------------------------------------------------- */

static bool eval_command(struct run *r, const struct value *dot, const struct node *cmd,
                         const struct value *final, struct value *out)
{
    const struct given g = {cmd->kids + 1, cmd->n_kids - 1, final, cmd};

    return eval_operand(r, dot, cmd->kids[0], &g, out);
}

static bool eval_pipeline(struct run *r, const struct value *dot, const struct node *pipe,
                          struct value *out)
{
    struct value v = {0};

    if (!step(r) || !deeper(r))
        return false;
    r->at = pipe;
    for (uint32_t i = 0; i < pipe->n_kids; i++) {
        struct value got = {0};
        if (!eval_command(r, dot, pipe->kids[i], i ? &v : NULL, &got))
            return false;
        v = got;
    }
    for (uint32_t i = 0; i < pipe->n_decls; i++) {
        struct nx_slice name = pipe->decls[i]->idents[0];
        if (pipe->assigns ? !set_var(r, name, &v) : !push_var(r, name, &v))
            return false;
    }
    r->depth--;
    *out = v;
    return true;
}

/* ---- statements -------------------------------------------------------------------------------------- */

static enum walked walk_list(struct run *r, const struct value *dot, const struct node *list)
{
    for (uint32_t i = 0; list && i < list->n_kids; i++) {
        enum walked w = walk(r, dot, list->kids[i]);
        if (w != WALKED)
            return w;
    }
    return WALKED;
}

static enum walked walk_if(struct run *r, const struct value *dot, const struct node *n)
{
    size_t mark = r->n_vars;
    struct value v = {0};
    enum walked w;

    if (!eval_pipeline(r, dot, n->pipe, &v))
        return FAILED;
    if (value_truth(&v))
        w = walk_list(r, n->kind == NODE_WITH ? &v : dot, n->list);
    else
        w = walk_list(r, dot, n->otherwise);
    r->n_vars = mark;
    return w;
}

/* One round of a range: variables first, as many as are declared. */
static enum walked iterate(struct run *r, const struct node *n, const struct value *index,
                           const struct value *item, size_t top)
{
    const struct node *pipe = n->pipe;
    size_t mark = r->n_vars;
    enum walked w;

    for (uint32_t i = 0; i < pipe->n_decls; i++) {
        const struct value *v = pipe->n_decls > 1 && i == 0 ? index : item;
        if (pipe->assigns) {
            if (!set_var(r, pipe->decls[i]->idents[0], v))
                return FAILED;
        } else {
            r->vars[top - pipe->n_decls + i].value = *v;
        }
    }
    w = step(r) ? walk_list(r, item, n->list) : FAILED;
    r->n_vars = mark;
    return w;
}

static size_t count_items(const struct value *v)
{
    switch (v->kind) {
    case V_LABELS:
    case V_PAIRS:
        return v->labels.n;
    case V_LIST:
    case V_NODE:
        return notice_count(v);
    case V_VECTOR:
        return v->vector->n;
    case V_ARGS:
        return v->args.n;
    case V_INT:
        return v->i > 0 ? (size_t)v->i : 0;
    default:
        return 0;
    }
}

static void item_of(const struct value *v, size_t i, struct value *index, struct value *item)
{
    *index = value_int((int64_t)i);
    switch (v->kind) {
    case V_LIST:
    case V_NODE:
        notice_item(v, i, item);
        break;
    case V_LABELS:
    case V_PAIRS:
        *index = value_string(v->labels.v[i].name);
        *item = value_string(v->labels.v[i].value);
        break;
    case V_VECTOR:
        *item = (struct value){.kind = V_SAMPLE, .sample = v->vector->v[i]};
        break;
    case V_ARGS:
        *index = value_string(v->args.v[i].name);
        *item = *v->args.v[i].value;
        break;
    default:
        *item = *index;
    }
}

static bool check_range(struct run *r, const struct node *n, const struct value *v)
{
    struct buf b;

    if (v->kind == V_NONE || v->kind == V_LABELS || v->kind == V_VECTOR || v->kind == V_ARGS ||
        v->kind == V_PAIRS || v->kind == V_LIST ||
        (v->kind == V_NODE && v->node->kind == TEMPLATE_ITEMS) ||
        (v->kind == V_INT && n->pipe->n_decls < 2))
        return true;
    buf_init(&b, 1000);
    print_values(&b, v, 1);
    if (v->kind == V_INT)
        fail(r, "can't use %s to iterate over more than one variable", buf_cstr(&b));
    else
        fail(r, "range can't iterate over %s", buf_cstr(&b));
    buf_done(&b);
    return false;
}

static enum walked walk_range(struct run *r, const struct value *dot, const struct node *n)
{
    size_t mark = r->n_vars, top, n_items;
    struct value v = {0}, index = {0}, item = {0};
    enum walked w = WALKED;

    r->at = n;
    if (!eval_pipeline(r, dot, n->pipe, &v))
        return FAILED;
    top = r->n_vars;
    if (!check_range(r, n, &v))
        return FAILED;
    n_items = count_items(&v);
    for (size_t i = 0; i < n_items && w != BREAK; i++) {
        item_of(&v, i, &index, &item);
        w = iterate(r, n, &index, &item, top);
        if (w == FAILED)
            return FAILED;
    }
    if (!n_items)
        w = walk_list(r, dot, n->otherwise);
    else
        w = WALKED;
    r->n_vars = mark;
    return w;
}

bool run_part(struct run *r, struct nx_slice name, struct value dot, struct buf *out)
{
    const struct part *part = template_find_part(r->t, name);
    struct run inner = *r;
    struct buf quoted;
    bool ok;

    if (!part || !part->list) {
        buf_init(&quoted, 500);
        text_quote(&quoted, name);
        fail(r, "template %s not defined", buf_cstr(&quoted));
        buf_done(&quoted);
        return false;
    }
    if (!deeper(&inner)) {
        r->st = inner.st;
        return false;
    }
    inner.vars = NULL;
    inner.n_vars = inner.cap_vars = 0;
    inner.part = name;
    inner.in = part->in;
    inner.out = out;
    ok = push_var(&inner, nx_slice_str("$"), &dot) && walk_list(&inner, &dot, part->list) != FAILED;
    r->st = inner.st;
    r->steps = inner.steps;
    return ok;
}

static enum walked walk(struct run *r, const struct value *dot, const struct node *n)
{
    struct value v = {0};
    enum walked w;

    if (!step(r))
        return FAILED;
    r->at = n;
    switch (n->kind) {
    case NODE_TEXT:
        buf_slice(r->out, n->text);
        return WALKED;
    case NODE_ACTION:
        if (!eval_pipeline(r, dot, n->pipe, &v))
            return FAILED;
        if (!n->pipe->n_decls) {
            r->at = n;
            print_result(r->out, &v);
        }
        return WALKED;
    case NODE_IF:
    case NODE_WITH:
    case NODE_RANGE:
        if (!deeper(r))
            return FAILED;
        w = n->kind == NODE_RANGE ? walk_range(r, dot, n) : walk_if(r, dot, n);
        r->depth--;
        return w;
    case NODE_TEMPLATE:
        if (!template_find_part(r->t, n->text)) /* before its argument, as in Go */
            return run_part(r, n->text, v, r->out) ? WALKED : FAILED;
        if (n->pipe && !eval_pipeline(r, dot, n->pipe, &v))
            return FAILED;
        return run_part(r, n->text, v, r->out) ? WALKED : FAILED;
    case NODE_BREAK:
        return BREAK;
    default:
        return CONTINUE;
    }
}

nx_status template_execute(const struct template *t, const struct template_data *data,
                           struct arena *a, struct buf *out, struct nx_err *err)
{
    struct nx_err own;
    struct run r = {.t = t,
                    .in = t,
                    .data = data,
                    .arena = a,
                    .arena_bytes = arena_bytes(a),
                    .out = out,
                    .part = t->name,
                    .steps = MAX_STEPS,
                    .err = err ? err : &own};
    struct value dot =
        data->root ? value_of_node(data->root) : (struct value){.kind = V_DATA, .data = data};

    r.at = t->parts[0].list;
    if (push_var(&r, nx_slice_str("$"), &dot))
        walk_list(&r, &dot, t->parts[0].list);
    if (!r.st)
        r.st = buf_status(out, r.err);
    if (r.st)
        nx_context(r.err, "error executing template %.*s", (int)t->name.len, t->name.ptr);
    return r.st;
}
