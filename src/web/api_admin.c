#include "src/web/http.h"

/* api_admin.c - /api/v1/admin/tsdb/: delete_series, clean_tombstones, snapshot.
 *
 * What can destroy or copy everything is off unless --web.enable-admin-api says otherwise. */

#include "src/base/text.h"

static bool admin_enabled(struct web_req *r)
{
    if (web_ctx(r->w)->opts->enable_admin_api)
        return true;
    web_error(r, WEB_ERR_UNAVAILABLE, "admin APIs disabled");
    return false;
}

/* 204, as Go answers when there is nothing to say. */
static void no_content(struct web_req *r)
{
    buf_clear(&r->reply.body);
    r->reply.status = 204;
    r->reply.content_type = NULL;
}

/* What failed in the store is an internal error, whatever it was. */
static void store_failed(struct web_req *r, const struct nx_err *err)
{
    web_error(r, WEB_ERR_INTERNAL, "%s", err->text);
}

static nx_status to_sets(struct web_req *r, const struct web_match_sets *from,
                         struct matcher_set **out, struct nx_err *err)
{
    struct matcher_set *v = arena_array(r->arena, from->n, sizeof *v);

    if (!v)
        return arena_failed(r->arena, err);
    for (size_t i = 0; i < from->n; i++)
        v[i] = (struct matcher_set){from->v[i].m, from->v[i].n};
    *out = v;
    return NX_OK;
}

static void delete_matching(struct web_req *r, int64_t start_ms, int64_t end_ms)
{
    struct web_match_sets sets = {0};
    struct matcher_set *v = NULL;
    struct nx_err err = {0};
    nx_status st = web_param_matches(r, &sets, &err);

    if (st) {
        web_fail(r, &err, "invalid parameter \"match[]\": ");
        return;
    }
    st = to_sets(r, &sets, &v, &err);
    if (!st)
        st = storage_delete(web_data(r->w)->storage, v, sets.n, start_ms, end_ms, &err);
    if (st)
        store_failed(r, &err);
    else
        no_content(r);
    web_match_sets_done(&sets);
}

void api_delete_series(struct web_req *r)
{
    int64_t start_ms, end_ms;
    struct nx_err err = {0};

    if (!admin_enabled(r))
        return;
    if (web_param_count(r, "match[]") == 0)
        web_error(r, WEB_ERR_BAD_DATA, "no match[] parameter provided");
    else if (web_param_time(r, "start", INT64_MIN, &start_ms, &err) ||
             web_param_time(r, "end", INT64_MAX, &end_ms, &err))
        web_fail(r, &err, NULL);
    else
        delete_matching(r, start_ms, end_ms);
}

void api_clean_tombstones(struct web_req *r)
{
    struct nx_err err = {0};

    if (!admin_enabled(r))
        return;
    if (storage_clean_tombstones(web_data(r->w)->storage, &err))
        store_failed(r, &err);
    else
        no_content(r);
}

/* As Go's strconv.ParseBool. */
static bool parse_bool(struct nx_slice s, bool *v)
{
    static const char *const words[] = {"0", "f", "F", "FALSE", "false", "False",
                                        "1", "t", "T", "TRUE",  "true",  "True"};

    for (size_t i = 0; i < NX_COUNT(words); i++) {
        if (!nx_slice_is(s, words[i]))
            continue;
        *v = i >= NX_COUNT(words) / 2;
        return true;
    }
    return false;
}

static void bad_bool(struct web_req *r, struct nx_slice text)
{
    struct buf quoted;

    buf_init(&quoted, 0);
    text_quote(&quoted, text);
    web_error(r, WEB_ERR_BAD_DATA,
              "invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: "
              "parsing %s: invalid syntax",
              buf_cstr(&quoted));
    buf_done(&quoted);
}

void api_snapshot(struct web_req *r)
{
    const struct nx_slice text = web_param_get(r, "skip_head");
    char name[STORAGE_SNAPSHOT_NAME_BYTES];
    bool skip_head = false;
    struct nx_err err = {0};

    if (!admin_enabled(r))
        return;
    if (text.len && !parse_bool(text, &skip_head)) {
        bad_bool(r, text);
        return;
    }
    if (storage_snapshot(web_data(r->w)->storage, skip_head, name, &err)) {
        web_error(r, WEB_ERR_INTERNAL, "create snapshot: %s", err.text);
        return;
    }
    web_ok_begin(r);
    buf_str(&r->reply.body, "{\"name\":");
    json_cstr(&r->reply.body, name);
    buf_char(&r->reply.body, '}');
    web_ok_end(r, NULL, 0, NULL, 0);
}
