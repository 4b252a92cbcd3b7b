#include "src/cli/tool.h"

/* check_server.c - `check healthy` and `check ready`. */

#include <stdio.h>

#include "src/cli/server_url.h"

#define TIMEOUT_MS 10000
#define BODY_BYTES (16u << 20)

static int check(const struct flags *f, const char *path)
{
    const char *url = flags_str(f, "url");
    struct server_url s;
    struct nx_err err = {0};
    struct buf body;
    int code = 0, status = 1;

    buf_init(&body, BODY_BYTES);
    if (!server_url_init(&s, f, url))
        goto done;
    if (server_url_ask(&s, path, NULL, TIMEOUT_MS, &code, &body, &err))
        fprintf(stderr, "%s\n", err.text);
    else if (code != 200)
        fprintf(stderr, "check failed: URL=%s, status=%d\n", url, code);
    else
        status = fprintf(stderr, "  SUCCESS:  %s\n", buf_cstr(&body)) < 0;

done:
    server_url_done(&s);
    buf_done(&body);
    return status;
}

int tool_check_healthy(const struct flags *f)
{
    return check(f, "/-/healthy");
}

int tool_check_ready(const struct flags *f)
{
    return check(f, "/-/ready");
}
