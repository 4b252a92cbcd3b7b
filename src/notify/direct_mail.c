/* direct_mail.c - an email's head and bodies.
 *
 * RULES   M1  Nothing that comes from labels or templates can end a header's line: line ends become blanks.
 *         M2  Headers are ASCII: what is not goes into encoded words (RFC 2047) of at most 75 characters, cut between
 *             characters. Addresses are ASCII or refused.
 *         M3  The parts and their transfer encodings are libcurl's. */
#include "src/notify/direct_message.h"

#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "src/base/text.h"

#define WORD_BYTES     42 /* of text in an encoded word: 56 of base64, 12 around it */
#define SUBJECT_CHARS  500
#define MOST_ADDRESSES 100
#define PLAIN_LINE_CHARS                                                                           \
    900 /* longer ones are encoded, which folds them: 998 is the most there may be */

/* ---- headers ----------------------------------------------------------------------------------------------- */

static void base64(struct buf *b, const uint8_t *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
                     (i + 2 < n ? p[i + 2] : 0);
        buf_char(b, digits[v >> 18]);
        buf_char(b, digits[v >> 12 & 63]);
        buf_char(b, i + 1 < n ? digits[v >> 6 & 63] : '=');
        buf_char(b, i + 2 < n ? digits[v & 63] : '=');
    }
}

static bool is_plain(struct nx_slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] >= 127 || (unsigned char)s.ptr[i] < ' ')
            return false;
    return s.len <= PLAIN_LINE_CHARS && !memmem(s.ptr, s.len, "=?", 2);
}

void mail_header_value(struct buf *b, struct nx_slice s)
{
    struct buf clean;
    size_t from = 0;

    buf_init(&clean, 0);
    for (size_t i = 0; i < s.len; i++) /* M1 */
        buf_char(&clean, (unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 127 ? ' ' : s.ptr[i]);
    if (is_plain(buf_view(&clean))) {
        buf_slice(b, buf_view(&clean));
        from = clean.len;
    }
    while (from < clean.len) { /* M2 */
        size_t to = from;
        for (;;) {
            uint32_t c;
            size_t len = text_utf8_take(nx_slice_of(clean.ptr + to, clean.len - to), &c);
            len = len ? len : 1;
            if (to >= clean.len || to + len - from > WORD_BYTES)
                break;
            to += len;
        }
        buf_str(b, from ? "\r\n =?utf-8?B?" : "=?utf-8?B?");
        base64(b, (const uint8_t *)clean.ptr + from, to - from);
        buf_str(b, "?=");
        from = to;
    }
    if (clean.failed && !b->failed)
        b->failed = clean.failed;
    buf_done(&clean);
}

/* ---- addresses ---------------------------------------------------------------------------------------------- */

static nx_status bad_address(struct nx_slice s, const char *what, struct nx_err *err)
{
    struct buf b;

    buf_init(&b, 300);
    text_quote(&b, nx_slice_of(s.ptr, s.len < 100 ? s.len : 100));
    nx_fail(err, NX_BADINPUT, "address %s: %s", buf_cstr(&b), what);
    buf_done(&b);
    return NX_BADINPUT;
}

static struct nx_slice trim(struct nx_slice s)
{
    while (s.len && strchr(" \t\r\n", *s.ptr))
        s = nx_slice_of(s.ptr + 1, s.len - 1);
    while (s.len && strchr(" \t\r\n", s.ptr[s.len - 1]))
        s.len--;
    return s;
}

/* One of the list: up to a comma that is not in quotes. */
static size_t item_end(struct nx_slice s, size_t at)
{
    bool quoted = false;

    for (; at < s.len && (quoted || s.ptr[at] != ','); at++) {
        if (s.ptr[at] == '\\' && quoted && at + 1 < s.len)
            at++;
        else if (s.ptr[at] == '"')
            quoted = !quoted;
    }
    return at < s.len ? at : s.len;
}

/* What stands before the address in pointed brackets is its owner's name. */
static nx_status split(struct nx_slice item, struct nx_slice *name, struct nx_slice *address,
                       struct nx_err *err)
{
    const char *open = memrchr(item.ptr, '<', item.len);

    *name = nx_slice_of("", 0);
    *address = item;
    if (item.len && item.ptr[item.len - 1] == '>') {
        if (!open)
            return bad_address(item, "> without <", err);
        *name = trim(nx_slice_of(item.ptr, (size_t)(open - item.ptr)));
        *address = nx_slice_of(open + 1, (size_t)(item.ptr + item.len - open - 2));
    }
    if (!memchr(address->ptr, '@', address->len) || *address->ptr == '@' ||
        address->ptr[address->len - 1] == '@')
        return bad_address(item, "NAME@HOST is expected", err);
    for (size_t i = 0; i < address->len; i++)
        if ((unsigned char)address->ptr[i] <= ' ' || (unsigned char)address->ptr[i] >= 127 ||
            strchr("<>()[],;:\\\"", address->ptr[i]))
            return bad_address(item, "it may hold letters, digits and signs of ASCII only", err);
    return NX_OK;
}

nx_status mail_addresses(struct arena *a, struct nx_slice text, const char ***out, size_t *n,
                         struct nx_err *err)
{
    const char **v = arena_array(a, MOST_ADDRESSES, sizeof *v);
    size_t count = 0;

    if (!v)
        return arena_failed(a, err);
    for (size_t at = 0; at <= text.len;) {
        size_t end = item_end(text, at);
        struct nx_slice item = trim(nx_slice_of(text.ptr + at, end - at)), name, address;
        at = end + 1;
        if (!item.len)
            continue;
        if (count == MOST_ADDRESSES)
            return nx_fail(err, NX_LIMIT, "more than %d addresses", MOST_ADDRESSES);
        nx_status st = split(item, &name, &address, err);
        if (st)
            return st;
        v[count] = arena_strndup(a, address.ptr, address.len);
        if (!v[count++])
            return arena_failed(a, err);
    }
    if (!count)
        return bad_address(text, "there is none", err);
    *out = v;
    *n = count;
    return NX_OK;
}

/* A list as a header has it: names encoded where they must be. The text was found to be one. */
static void address_header(struct buf *b, struct nx_slice text)
{
    bool first = true;

    for (size_t at = 0; at <= text.len;) {
        size_t end = item_end(text, at);
        struct nx_slice item = trim(nx_slice_of(text.ptr + at, end - at)), name, address;
        at = end + 1;
        if (!item.len || split(item, &name, &address, NULL))
            continue;
        buf_str(b, first ? "" : ",\r\n ");
        first = false;
        if (name.len > 1 && *name.ptr == '"' && name.ptr[name.len - 1] == '"' && !is_plain(name))
            name = nx_slice_of(name.ptr + 1, name.len - 2);
        mail_header_value(b, name);
        buf_str(b, name.len ? " <" : "<");
        buf_slice(b, address);
        buf_char(b, '>');
    }
}

/* Lines end in CR LF on the way; an encoder would take a bare LF for a character. */
static struct nx_slice body(const struct message *m, enum direct_text field)
{
    struct nx_slice s = message_field(m, field, 0), out;
    struct buf b;

    buf_init(&b, 0);
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\n' && !(i && s.ptr[i - 1] == '\r'))
            buf_char(&b, '\r');
        buf_char(&b, s.ptr[i]);
    }
    out = arena_slice(m->arena, buf_view(&b));
    buf_done(&b);
    return out.ptr ? out : nx_slice_of("", 0);
}

/* ---- the message --------------------------------------------------------------------------------------------- */

static nx_status add(const struct message *m, struct mail *to, const char *name, struct buf *value,
                     struct nx_err *err)
{
    char *line = arena_printf(m->arena, "%s: %s", name, buf_cstr(value));
    nx_status st = buf_status(value, err);

    if (!st && !line)
        st = arena_failed(m->arena, err);
    if (!st)
        to->headers[to->n_headers++] = line;
    buf_clear(value);
    return st;
}

static void put_date(struct buf *b, int64_t now_ms)
{
    time_t t = (time_t)(now_ms / 1000);
    char text[64];
    struct tm tm;

    gmtime_r(&t, &tm);
    buf_append(b, text, strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000", &tm));
}

/* A header that the file gives in place of ours. */
static bool has_header(const struct message *m, const char *name)
{
    const struct config_pairs *own = &m->notice->receiver->via->headers;

    for (size_t i = 0; i < own->n; i++)
        if (!strcasecmp(own->v[i].name.ptr, name))
            return true;
    return false;
}

static nx_status own_headers(const struct message *m, struct mail *to, struct buf *b,
                             struct nx_err *err)
{
    const struct direct_receiver *r = m->notice->receiver;
    nx_status st = NX_OK;

    for (size_t i = 0; i < r->via->headers.n && !st; i++) {
        mail_header_value(b, message_text(m, r->headers[i], SUBJECT_CHARS));
        st = add(m, to, r->via->headers.v[i].name.ptr, b, err);
    }
    return st;
}

static nx_status headers(const struct message *m, struct nx_slice to, struct nx_slice from,
                         int64_t now_ms, uint64_t id, struct mail *out, struct nx_err *err)
{
    const char *host = strchr(out->from, '@') + 1;
    nx_status st = NX_OK;
    struct buf b;

    buf_init(&b, 1u << 20);
    address_header(&b, from);
    st = add(m, out, "From", &b, err);
    address_header(&b, to);
    if (!st)
        st = add(m, out, "To", &b, err);
    if (!has_header(m, "Subject")) {
        mail_header_value(&b, message_field(m, TEXT_TITLE, SUBJECT_CHARS));
        if (!st)
            st = add(m, out, "Subject", &b, err);
    }
    put_date(&b, now_ms);
    if (!st)
        st = add(m, out, "Date", &b, err);
    buf_printf(&b, "<%llx.%llx.%lx.narthex@%s>", (unsigned long long)now_ms, (unsigned long long)id,
               (unsigned long)getpid(), host);
    if (!st)
        st = add(m, out, "Message-ID", &b, err);
    buf_str(&b, "auto-generated");
    if (!st && !has_header(m, "Auto-Submitted"))
        st = add(m, out, "Auto-Submitted", &b, err);
    buf_clear(&b);
    if (!st)
        st = own_headers(m, out, &b, err);
    buf_done(&b);
    return st;
}

nx_status message_mail(const struct message *m, int64_t now_ms, uint64_t id, struct mail *out,
                       struct nx_err *err)
{
    struct nx_slice to = message_field(m, TEXT_TO, 0), from = message_field(m, TEXT_FROM, 0);
    struct mail mail = {0};
    const char **senders = NULL;
    size_t n_senders = 0;
    nx_status st = mail_addresses(m->arena, to, &mail.to, &mail.n_to, err);

    if (!st)
        st = mail_addresses(m->arena, from, &senders, &n_senders, err);
    if (!st && n_senders != 1)
        st = bad_address(from, "a message is from one address", err);
    if (st)
        return st;
    mail.from = senders[0];
    mail.headers =
        arena_array(m->arena, m->notice->receiver->via->headers.n + 8, sizeof *mail.headers);
    if (!mail.headers)
        return arena_failed(m->arena, err);
    st = headers(m, to, from, now_ms, id, &mail, err);
    mail.text = body(m, TEXT_TEXT);
    mail.html = body(m, TEXT_HTML);
    if (!st)
        *out = mail;
    return st;
}
