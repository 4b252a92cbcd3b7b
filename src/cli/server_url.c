#include "src/cli/server_url.h"

/* server_url.c - one server, asked over HTTP with the settings of --http.config.file and --header.
 *
 * RULES   U1  A URL without a scheme is http, also where promtool refuses it (localhost:9090). */

#include <stdio.h>
#include <string.h>

#include "src/base/text.h"
#include "src/scrape/scrape.h"

static bool fatal(const char *what, const char *why)
{
    fprintf(stderr, "promtool: error: %s%s\n", what, why);
    return false;
}

static bool has_flag(const struct flags *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->table[i].name, name) == 0)
            return flags_given(f, name);
    return false;
}

static bool take_headers(struct server_url *s, const struct flags *f)
{
    const char *const *given;
    size_t n = flags_list(f, "header", &given);

    s->headers = arena_array(s->arena, n, sizeof *s->headers);
    if (!s->headers)
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t at = strcspn(given[i], "=:");
        s->headers[i] = arena_printf(s->arena, given[i][at + 1] ? "%.*s: %s" : "%.*s;%s", (int)at,
                                     given[i], given[i] + at + 1);
        if (!s->headers[i])
            return false;
    }
    s->n_headers = n;
    return true;
}

bool server_url_init(struct server_url *s, const struct flags *f, const char *url)
{
    const char *scheme = strstr(url, "://"), *end;
    struct nx_err err = {0};

    *s = (struct server_url){.arena = arena_new(0)};
    while (!scheme && *url == '/')
        url++;
    s->base = s->arena ? arena_printf(s->arena, "%s%s", scheme ? "" : "http://", url) : NULL;
    if (!s->base)
        return fatal("out of memory", "");
    for (size_t n = strlen(s->base); n && s->base[n - 1] == '/';)
        s->base[--n] = '\0';
    scheme = strstr(s->base, "://");
    s->host_part = scheme ? scheme + 3 : s->base;
    if (has_flag(f, "header") && !take_headers(s, f))
        return fatal("out of memory", "");
    if (!has_flag(f, "http.config.file"))
        return true;
    end = s->host_part + strcspn(s->host_part, "/?#");
    if (memchr(s->host_part, '@', (size_t)(end - s->host_part)))
        return fatal(
            "Cannot set base auth in the server URL and use a http.config.file at the same time",
            "");
    if (config_load_http(&s->http, flags_str(f, "http.config.file"), s->arena, &err))
        return fatal("Failed to load HTTP config file: ", err.text);
    s->has_http = true;
    return true;
}

void server_url_done(struct server_url *s)
{
    arena_free(s->arena);
}

nx_status server_url_ask(const struct server_url *s, const char *path, const char *form,
                         int64_t timeout_ms, int *code, struct buf *body, struct nx_err *err)
{
    char *url = arena_printf(s->arena, "%s%s", s->base, path);
    const struct scrape_request r = {.http = s->has_http ? &s->http : NULL,
                                     .url = url,
                                     .user_agent = "promtool/" NX_VERSION,
                                     .form = form,
                                     .headers = s->headers,
                                     .n_headers = s->n_headers,
                                     .timeout_ms = timeout_ms};

    return url ? scrape_request(&r, code, body, err) : arena_failed(s->arena, err);
}

void url_param(struct buf *b, const char *name, struct nx_slice value)
{
    buf_str(b, b->len ? "&" : "");
    text_url_query(b, nx_slice_str(name));
    buf_char(b, '=');
    text_url_query(b, value);
}
