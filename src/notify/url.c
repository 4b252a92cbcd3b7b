/* url.c - from a target of discovery to the URL that alerts are sent to.
 *
 * RULES   U1  __scheme__ and __alerts_path__ are the section's; labels of the target's group win over them, and
 *             relabel_configs over those.
 *         U2  What is dropped is told by the URL it had before relabelling.
 *         U3  Labels may be of any length: a URL that is too long is a bad one, not a want of memory. */
#include "src/notify/section.h"

#include <string.h>

#include "src/base/text.h"

static struct nx_slice default_path(const struct config_alertmanager *am, struct arena *a)
{
    struct nx_slice out;
    struct buf b;

    buf_init(&b, NX_LIMIT_URL_BYTES);
    text_join_path(&b, am->path_prefix);
    text_join_path(&b, nx_slice_str("/api"));
    text_join_path(&b, am->api_version);
    text_join_path(&b, nx_slice_str("/alerts"));
    out = b.failed ? nx_slice_of(NULL, 0) : arena_slice(a, buf_view(&b));
    buf_done(&b);
    return out;
}

static nx_status url_of(const struct labels_builder *from, struct arena *a, struct nx_slice *out,
                        struct nx_err *err)
{
    struct nx_slice path = labels_builder_get(from, nx_slice_str("__alerts_path__"));
    nx_status st;
    struct buf b;

    buf_init(&b, NX_LIMIT_URL_BYTES);
    buf_slice(&b, labels_builder_get(from, nx_slice_str("__scheme__")));
    buf_str(&b, "://");
    buf_slice(&b, labels_builder_get(from, nx_slice_str("__address__")));
    if (path.len && path.ptr[0] != '/')
        buf_char(&b, '/');
    text_url_path(&b, path);
    (void)buf_cstr(&b);
    *out = nx_slice_of(b.failed ? NULL : arena_strndup(a, b.ptr, b.len), b.len);
    if (b.failed == NX_LIMIT) /* U3 */
        st = nx_fail(err, NX_BADINPUT, "a URL is longer than %u bytes", NX_LIMIT_URL_BYTES);
    else
        st = out->ptr ? NX_OK : nx_fail(err, NX_NOMEM, "out of memory");
    buf_done(&b);
    return st;
}

static nx_status bad_address(struct nx_slice address, struct nx_err *err)
{
    char quoted[TEXT_QUOTED_BYTES];

    return nx_fail(err, NX_BADINPUT, "%s is not a valid hostname", text_quoted(quoted, address));
}

nx_status notify_url(const struct config_alertmanager *am, struct nx_slice address,
                     const struct labels *group, struct relabel_work *work, struct arena *a,
                     bool *dropped, struct nx_slice *url, struct nx_err *err)
{
    struct labels_builder *b = &work->labels;
    struct nx_slice path = default_path(am, a), before;
    bool kept = false;
    nx_status st;

    if (!path.ptr)
        return nx_fail(err, NX_NOMEM, "out of memory");
    relabel_work_begin(work, NULL);
    labels_builder_set(b, nx_slice_str("__scheme__"), am->scheme);
    labels_builder_set(b, nx_slice_str("__alerts_path__"), path);
    for (uint32_t i = 0; i < group->n; i++) /* U1 */
        labels_builder_set(b, group->v[i].name, group->v[i].value);
    if (address.len) /* some mechanisms give it as a label */
        labels_builder_set(b, nx_slice_str("__address__"), address);
    if (b->nomem)
        return nx_fail(err, NX_NOMEM, "out of memory");
    st = url_of(b, a, &before, err);
    if (!st)
        st = relabel_apply(&am->relabel, work, &kept, err);
    if (st)
        return st;
    if (!kept) {
        *dropped = true;
        *url = before; /* U2 */
        return NX_OK;
    }
    address = labels_builder_get(b, nx_slice_str("__address__"));
    if (address.len && memchr(address.ptr, '/', address.len))
        return bad_address(address, err);
    *dropped = false;
    return url_of(b, a, url, err);
}
