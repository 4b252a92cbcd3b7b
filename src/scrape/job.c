/* job.c - a scrape_config made ready for use. */
#include "src/scrape/manager.h"

#include <stdlib.h>

/* Protocols that are asked for when the configuration does not say. */
static const enum config_protocol default_protocols[] = {
    CONFIG_PROTO_OM_1_0_0, CONFIG_PROTO_OM_0_0_1, CONFIG_PROTO_TEXT_1_0_0, CONFIG_PROTO_TEXT_0_0_4};

/* SCR-004, SCR-005. The protobuf format is not read, so it is not asked for. */
static char *accept_header(const struct config_scrape *c)
{
    const enum config_protocol *v =
        c->scrape_protocols.n ? c->scrape_protocols.v : default_protocols;
    size_t n = c->scrape_protocols.n ? c->scrape_protocols.n : NX_COUNT(default_protocols);
    const char *escaping = config_escaping_name(
        c->escaping == CONFIG_ESCAPE_UNSET ? CONFIG_ESCAPE_ALLOW_UTF8 : c->escaping);
    int weight = 6;
    struct buf b;
    char *out;

    buf_init(&b, 0);
    for (size_t i = 0; i < n && weight > 1; i++) {
        if (v[i] == CONFIG_PROTO_PROTOBUF)
            continue;
        buf_str(&b, config_protocol_header(v[i]));
        if (v[i] == CONFIG_PROTO_OM_1_0_0 || v[i] == CONFIG_PROTO_TEXT_1_0_0)
            buf_printf(&b, ";escaping=%s", escaping);
        buf_printf(&b, ";q=0.%d,", weight--);
    }
    buf_printf(&b, "*/*;q=0.%d", weight);
    (void)buf_cstr(&b);
    out = b.failed ? NULL : b.ptr;
    if (!out)
        buf_done(&b);
    return out;
}

nx_status job_new(struct job **out, const struct config *cfg, const struct config_scrape *c,
                  bool extra_metrics, struct nx_err *err)
{
    struct job *j = calloc(1, sizeof *j);
    nx_status st;

    if (!j)
        return nx_fail(err, NX_NOMEM, "out of memory");
    j->refs = 1;
    j->cfg = config_ref(cfg);
    j->c = c;
    j->extra_metrics = extra_metrics || c->extra_scrape_metrics == CONFIG_YES;
    sample_rules_of(&j->rules, c);
    j->accept = accept_header(c);
    st = j->accept ? fetch_client_new(&j->client, &c->http, err)
                   : nx_fail(err, NX_NOMEM, "out of memory");
    if (st) {
        job_unref(j);
        return st;
    }
    *out = j;
    return NX_OK;
}

void job_unref(struct job *j)
{
    if (!j || --j->refs > 0)
        return;
    fetch_client_free(j->client);
    free(j->accept);
    config_unref(j->cfg);
    free(j);
}
