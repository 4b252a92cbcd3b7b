#include "src/web/http.h"

/* api_rules.c - /api/v1/rules, alerts, alertmanagers. Rules are not evaluated yet, so the lists are
 * empty; parameters are checked as Prometheus checks them. */

#include "src/base/num.h"

static bool is_bool(struct nx_slice s)
{
    static const char *const words[] = {"1", "t", "T", "TRUE",  "true",  "True",
                                        "0", "f", "F", "FALSE", "false", "False"};

    for (size_t i = 0; i < NX_COUNT(words); i++)
        if (nx_slice_is(s, words[i]))
            return true;
    return false;
}

static bool paging_ok(struct web_req *r)
{
    struct nx_slice limit = web_url_param_get(r, "group_limit"),
                    token = web_url_param_get(r, "group_next_token");
    int64_t n;

    if (token.len && !limit.len)
        web_error(r, WEB_ERR_BAD_DATA,
                  "invalid parameter \"group_limit\": group_limit needs to be present in order to "
                  "paginate over the groups");
    else if (limit.len && !num_parse_i64(limit, &n))
        web_error(
            r, WEB_ERR_BAD_DATA,
            "invalid parameter \"group_limit\": strconv.ParseInt: parsing \"%.*s\": invalid syntax",
            (int)limit.len, limit.ptr);
    else if (limit.len && n <= 0)
        web_error(r, WEB_ERR_BAD_DATA,
                  "invalid parameter \"group_limit\": group_limit needs to be greater than 0");
    else if (token.len)
        web_error(r, WEB_ERR_BAD_DATA,
                  "invalid parameter \"group_next_token\": invalid group_next_token '%.*s'. were "
                  "rule groups changed?",
                  (int)token.len, token.ptr);
    else
        return true;
    return false;
}

void api_rules(struct web_req *r)
{
    struct nx_slice type = web_url_param_get(r, "type"),
                    exclude = web_url_param_get(r, "exclude_alerts");
    struct web_match_sets sets = {0};
    struct nx_err err = {0};

    if (type.len && !nx_slice_is(type, "alert") && !nx_slice_is(type, "record")) {
        web_error(r, WEB_ERR_BAD_DATA, "invalid parameter \"type\": not supported value \"%.*s\"",
                  (int)type.len, type.ptr);
        return;
    }
    if (exclude.len && !is_bool(exclude)) {
        web_error(r, WEB_ERR_BAD_DATA,
                  "invalid parameter \"exclude_alerts\": error converting exclude_alerts: "
                  "strconv.ParseBool: parsing "
                  "\"%.*s\": invalid syntax",
                  (int)exclude.len, exclude.ptr);
        return;
    }
    if (!paging_ok(r))
        return;
    if (web_param_matches(r, &sets, &err)) {
        web_fail(r, &err, NULL);
        return;
    }
    web_match_sets_done(&sets);
    web_ok_begin(r);
    buf_str(&r->reply.body, "{\"groups\":[]}");
    web_ok_end(r, NULL, 0, NULL, 0);
}

void api_alerts(struct web_req *r)
{
    web_ok_begin(r);
    buf_str(&r->reply.body, "{\"alerts\":[]}");
    web_ok_end(r, NULL, 0, NULL, 0);
}

void api_alertmanagers(struct web_req *r)
{
    web_ok_begin(r);
    buf_str(&r->reply.body, "{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}");
    web_ok_end(r, NULL, 0, NULL, 0);
}
