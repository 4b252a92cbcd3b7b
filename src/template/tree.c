#include "src/template/tree.h"

/* tree.c - nodes as text, as Go prints them in errors: the source with its spaces made regular. */

static void print_each(struct buf *b, struct node *const *v, uint32_t n, const char *between)
{
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            buf_str(b, between);
        node_print(b, v[i]);
    }
}

static void print_idents(struct buf *b, const struct node *n, bool first_has_point)
{
    for (uint32_t i = 0; i < n->n_idents; i++) {
        if (i || first_has_point)
            buf_char(b, '.');
        buf_slice(b, n->idents[i]);
    }
}

static void print_pipe(struct buf *b, const struct node *n)
{
    if (n->n_decls) {
        print_each(b, n->decls, n->n_decls, ", ");
        buf_str(b, n->assigns ? " = " : " := ");
    }
    print_each(b, n->kids, n->n_kids, " | ");
}

static void print_paren(struct buf *b, const struct node *n)
{
    if (n->kind == NODE_PIPE)
        buf_char(b, '(');
    node_print(b, n);
    if (n->kind == NODE_PIPE)
        buf_char(b, ')');
}

static void print_branch(struct buf *b, const struct node *n, const char *word)
{
    buf_printf(b, "{{%s ", word);
    node_print(b, n->pipe);
    buf_str(b, "}}");
    node_print(b, n->list);
    if (n->otherwise) {
        buf_str(b, "{{else}}");
        node_print(b, n->otherwise);
    }
    buf_str(b, "{{end}}");
}

void node_print(struct buf *b, const struct node *n)
{
    switch (n->kind) {
    case NODE_LIST:
        print_each(b, n->kids, n->n_kids, "");
        break;
    case NODE_TEXT:
    case NODE_IDENT:
    case NODE_NUMBER:
        buf_slice(b, n->text);
        break;
    case NODE_ACTION:
        buf_str(b, "{{");
        node_print(b, n->pipe);
        buf_str(b, "}}");
        break;
    case NODE_PIPE:
        print_pipe(b, n);
        break;
    case NODE_COMMAND:
        for (uint32_t i = 0; i < n->n_kids; i++) {
            if (i)
                buf_char(b, ' ');
            print_paren(b, n->kids[i]);
        }
        break;
    case NODE_CHAIN:
        print_paren(b, n->pipe);
        print_idents(b, n, true);
        break;
    case NODE_FIELD:
        print_idents(b, n, true);
        break;
    case NODE_VARIABLE:
        print_idents(b, n, false);
        break;
    case NODE_DOT:
        buf_char(b, '.');
        break;
    case NODE_NIL:
        buf_str(b, "nil");
        break;
    case NODE_BOOL:
        buf_str(b, n->truth ? "true" : "false");
        break;
    case NODE_STRING:
        buf_slice(b, n->quoted);
        break;
    case NODE_IF:
        print_branch(b, n, "if");
        break;
    case NODE_WITH:
        print_branch(b, n, "with");
        break;
    case NODE_RANGE:
        print_branch(b, n, "range");
        break;
    case NODE_TEMPLATE:
        buf_str(b, "{{template ");
        buf_slice(b, n->quoted);
        if (n->pipe) {
            buf_char(b, ' ');
            node_print(b, n->pipe);
        }
        buf_str(b, "}}");
        break;
    case NODE_BREAK:
        buf_str(b, "{{break}}");
        break;
    case NODE_CONTINUE:
        buf_str(b, "{{continue}}");
        break;
    case NODE_END:
        buf_str(b, "{{end}}");
        break;
    case NODE_ELSE:
        buf_str(b, "{{else}}");
        break;
    }
}
