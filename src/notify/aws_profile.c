/* aws_profile.c - a profile of ~/.aws/credentials or ~/.aws/config.
 *
 * SHAPE   Lines: [section], key = value (or key : value), comments behind # or ;. Indented lines under a key without a
 *         value are that key's own, and not the profile's.
 * RULES   P1  As AWS's SDK for Go reads it: a line that is nothing is passed over, the last of two equal keys holds, what
 *             stands between quotes is without them. A section may stand in the file twice.
 *         P2  Half a pair of keys is a mistake of the profile that is asked for, and of no other. */
#include "src/notify/aws.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#define AT(member) offsetof(struct aws_profile, member)
static const struct {
    const char *key;
    size_t offset;
} keys[] = {
    {"aws_access_key_id", AT(access_key)},
    {"aws_secret_access_key", AT(secret_key)},
    {"aws_session_token", AT(session_token)},
    {"credential_process", AT(credential_process)},
    {"credential_source", AT(credential_source)},
    {"endpoint_url", AT(endpoint_url)},
    {"login_session", AT(login_session)},
    {"region", AT(region)},
    {"role_arn", AT(role_arn)},
    {"role_session_name", AT(role_session_name)},
    {"source_profile", AT(source_profile)},
    {"sso_session", AT(sso_session)},
    {"sso_start_url", AT(sso_start_url)},
    {"web_identity_token_file", AT(web_identity_token_file)},
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct nx_slice trim(struct nx_slice s)
{
    while (s.len && is_blank(*s.ptr))
        s = nx_slice_of(s.ptr + 1, s.len - 1);
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

/* Up to a # or a ;, which in a value must follow a blank. */
static struct nx_slice without_comment(struct nx_slice s, bool value)
{
    for (size_t i = 0; i < s.len; i++)
        if ((s.ptr[i] == '#' || s.ptr[i] == ';') && (!value || (i && is_blank(s.ptr[i - 1]))))
            s.len = i;
    return s;
}

static struct nx_slice without_quotes(struct nx_slice s)
{
    if (s.len > 1 && (*s.ptr == '"' || *s.ptr == '\'') && s.ptr[s.len - 1] == *s.ptr)
        s = nx_slice_of(s.ptr + 1, s.len - 2);
    return s;
}

/* Is the line the head of a section; and then, of that profile? */
static bool is_head(struct nx_slice line, const char *name, bool prefixed, bool *ours)
{
    struct nx_slice s = trim(without_comment(line, false));
    bool is_profile;

    if (s.len < 2 || *s.ptr != '[' || s.ptr[s.len - 1] != ']')
        return false;
    s = trim(nx_slice_of(s.ptr + 1, s.len - 2));
    is_profile = s.len > 7 && !memcmp(s.ptr, "profile", 7) && is_blank(s.ptr[7]);
    if (is_profile)
        s = trim(nx_slice_of(s.ptr + 7, s.len - 7));
    *ours = nx_slice_is(s, name) && (is_profile == prefixed || nx_slice_is(s, "default"));
    return true;
}

struct reading {
    struct aws_profile *p;
    struct arena *arena;
    bool open; /* the last key has no value: what is indented below it is not the profile's */
};

static nx_status take_line(struct reading *r, struct nx_slice line, struct nx_err *err)
{
    const char *sep;
    struct nx_slice key, value;
    bool indented = is_blank(*line.ptr);

    line = without_comment(line, true);
    for (sep = line.ptr; sep < line.ptr + line.len && *sep != '=' && *sep != ':'; sep++)
        ;
    if ((indented && r->open) || sep == line.ptr + line.len)
        return NX_OK;
    key = trim(nx_slice_of(line.ptr, (size_t)(sep - line.ptr)));
    value = without_quotes(trim(nx_slice_of(sep + 1, (size_t)(line.ptr + line.len - sep - 1))));
    r->open = value.len == 0;
    for (size_t i = 0; i < NX_COUNT(keys); i++)
        if (key.len == strlen(keys[i].key) && !strncasecmp(key.ptr, keys[i].key, key.len)) {
            value = nx_slice_of(arena_strndup(r->arena, value.ptr, value.len), value.len);
            if (!value.ptr)
                return arena_failed(r->arena, err);
            memcpy((char *)r->p + keys[i].offset, &value, sizeof value);
        }
    return NX_OK;
}

/* Keys go over as a pair, with the token of the same file or without one. */
static void put_over(struct aws_profile *to, const struct aws_profile *from)
{
    bool pair = from->access_key.len && from->secret_key.len;

    for (size_t i = 0; i < NX_COUNT(keys); i++) {
        bool of_pair = keys[i].offset == AT(access_key) || keys[i].offset == AT(secret_key) ||
                       keys[i].offset == AT(session_token);
        struct nx_slice s;
        memcpy(&s, (const char *)from + keys[i].offset, sizeof s);
        if (of_pair ? pair : s.len > 0)
            memcpy((char *)to + keys[i].offset, &s, sizeof s);
    }
    to->found = true;
}

nx_status aws_profile_read(struct aws_profile *p, struct nx_slice text, const char *name,
                           bool prefixed, struct arena *a, struct nx_err *err)
{
    struct aws_profile own = {0};
    struct reading r = {&own, a, false};
    bool ours = false;

    for (size_t at = 0; at < text.len;) {
        const char *from = text.ptr + at, *end = memchr(from, '\n', text.len - at);
        struct nx_slice line = nx_slice_of(from, end ? (size_t)(end - from) : text.len - at);
        nx_status st;
        at += line.len + 1;
        if (!trim(line).len || strchr("#;", *trim(line).ptr))
            continue;
        if (is_head(line, name, prefixed, &ours)) {
            own.found = own.found || ours;
            r.open = false;
            continue;
        }
        st = ours ? take_line(&r, line, err) : NX_OK;
        if (st)
            return st;
    }
    if (!own.access_key.len != !own.secret_key.len) /* P2 */
        return nx_fail(err, NX_BADINPUT, "partial credentials found for profile %s", name);
    if (own.found)
        put_over(p, &own);
    return NX_OK;
}
