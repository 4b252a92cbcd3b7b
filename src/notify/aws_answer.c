/* aws_answer.c - texts of elements in the XML that AWS's query services answer.
 *
 * WHY     Four texts of a document whose form is fixed: no reason for a parser of all of XML. What it does not
 *         understand it refuses.
 * NOT     Attributes with > in them, comments, CDATA: those services write none. */
#include "src/notify/aws.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/text.h"

static nx_status broken(const char *name, struct nx_err *err)
{
    return nx_fail(err, NX_CORRUPT, "%s in the answer is no text", name);
}

/* Behind the start tag of that name; NULL: there is none. */
static const char *find_start(struct nx_slice xml, const char *name, bool *empty)
{
    const char *end = xml.ptr + xml.len, *at = xml.ptr, *close;
    size_t n = strlen(name);

    while ((at = xml.len ? memchr(at, '<', (size_t)(end - at)) : NULL)) {
        at++;
        if ((size_t)(end - at) <= n || memcmp(at, name, n) || !strchr("> \t\r\n/", at[n]))
            continue;
        close = memchr(at, '>', (size_t)(end - at));
        if (!close)
            return NULL;
        *empty = close[-1] == '/';
        return close + 1;
    }
    return NULL;
}

/* At the &; its length, or 0. */
static size_t take_entity(struct nx_slice s, struct buf *to)
{
    static const struct {
        const char *text;
        char c;
    } v[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char digits[10], *end;
    const char *close = memchr(s.ptr, ';', s.len < 12 ? s.len : 12);
    unsigned long c;
    size_t n;

    for (size_t i = 0; i < NX_COUNT(v); i++)
        if (s.len >= (n = strlen(v[i].text)) && !memcmp(s.ptr, v[i].text, n)) {
            buf_char(to, v[i].c);
            return n;
        }
    if (!close || close - s.ptr < 3 || s.ptr[1] != '#' || close - s.ptr > 10)
        return 0;
    n = (size_t)(close - s.ptr) - 2;
    memcpy(digits, s.ptr + 2, n);
    digits[n] = '\0';
    c = *digits == 'x' ? strtoul(digits + 1, &end, 16) : strtoul(digits, &end, 10);
    if (*end || end == digits + (*digits == 'x') || strpbrk(digits, "+- ") || !c || c > 0x10ffff ||
        (c >= 0xd800 && c < 0xe000))
        return 0;
    text_utf8(to, (uint32_t)c);
    return n + 3;
}

nx_status aws_element(struct nx_slice xml, const char *name, struct buf *to, struct nx_err *err)
{
    bool empty = false;
    const char *at = find_start(xml, name, &empty), *end = xml.ptr + xml.len;
    size_t n = strlen(name);

    if (!at)
        return nx_fail(err, NX_NOTFOUND, "the answer has no %s", name);
    if (empty)
        return NX_OK;
    while (at < end && *at != '<') {
        size_t len = 1;
        if (*at == '&')
            len = take_entity(nx_slice_of(at, (size_t)(end - at)), to);
        else
            buf_char(to, *at);
        if (!len)
            return broken(name, err);
        at += len;
    }
    if ((size_t)(end - at) < n + 3 || memcmp(at, "</", 2) || memcmp(at + 2, name, n) ||
        at[n + 2] != '>')
        return broken(name, err);
    return buf_status(to, err);
}
