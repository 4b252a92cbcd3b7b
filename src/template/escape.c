#include "src/template/value.h"

/* escape.c - text for HTML and JavaScript, as Go's text/template escapes it; links to the page of an expression. */

#include "src/base/text.h"

void escape_html(struct buf *b, struct nx_slice s)
{
    for (size_t i = 0; i < s.len; i++)
        switch (s.ptr[i]) {
        case '"':
            buf_str(b, "&#34;");
            break;
        case '\'':
            buf_str(b, "&#39;");
            break;
        case '&':
            buf_str(b, "&amp;");
            break;
        case '<':
            buf_str(b, "&lt;");
            break;
        case '>':
            buf_str(b, "&gt;");
            break;
        case '\0':
            buf_str(b, "\xef\xbf\xbd");
            break;
        default:
            buf_char(b, s.ptr[i]);
        }
}

void escape_js(struct buf *b, struct nx_slice s)
{
    for (size_t i = 0, len; i < s.len; i += len) {
        unsigned char c = (unsigned char)s.ptr[i];
        uint32_t rune = 0;

        len = 1;
        if (c == '\\' || c == '\'' || c == '"') {
            buf_printf(b, "\\%c", c);
        } else if (c == '<' || c == '>' || c == '&' || c == '=' || c < 0x20) {
            buf_printf(b, "\\u%04X", c);
        } else if (c < 0x80) {
            buf_char(b, (char)c);
        } else {
            len = text_utf8_take(nx_slice_of(s.ptr + i, s.len - i), &rune);
            if (!len) {
                len = 1;
                buf_str(b, "\xef\xbf\xbd");
            } else if (text_printable(rune)) {
                buf_append(b, s.ptr + i, len);
            } else {
                buf_printf(b, "\\u%04X", rune);
            }
        }
    }
}

void template_graph_link(struct buf *b, struct nx_slice expr)
{
    buf_str(b, "/graph?g0.expr=");
    text_url_query(b, expr);
    buf_str(b, "&g0.tab=0");
}

void template_table_link(struct buf *b, struct nx_slice expr)
{
    buf_str(b, "/graph?g0.expr=");
    text_url_query(b, expr);
    buf_str(b, "&g0.tab=1");
}
