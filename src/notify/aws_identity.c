/* aws_identity.c - whose keys sign: a sigv4 section, the environment, AWS's own files.
 *
 * RULES   I1  Keys are those of the section; else, unless it names a profile, AWS_ACCESS_KEY_ID and
 *             AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN), else AWS_WEB_IDENTITY_TOKEN_FILE (AWS_ROLE_ARN); else those of
 *             the profile: its pair, or its web identity.
 *         I2  The profile is the section's, AWS_PROFILE's, or "default", which need not exist. It is in
 *             ~/.aws/config (AWS_CONFIG_FILE) and ~/.aws/credentials (AWS_SHARED_CREDENTIALS_FILE), which wins.
 *         I3  The region is the section's, AWS_REGION, AWS_DEFAULT_REGION, the profile's.
 *             After these come those of the container, if its environment has AWS_CONTAINER_CREDENTIALS_*, and of the machine.
 *         I4  Whatever else a profile may name for its keys is told to be not there, and never passed over.
 * NOT     SSO, and programs that print keys. */
#include "src/notify/aws.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/fs.h"

#define FILE_BYTES (1u << 20)
#define SERVICE    "aps" /* Amazon Managed Service for Prometheus */

static const char *env(const char *name)
{
    const char *v = getenv(name);

    return v && *v ? v : NULL;
}

static const char *env_or(const char *name, const char *other)
{
    const char *v = env(name);

    return v ? v : env(other);
}

struct resolving {
    struct aws_identity *id;
    const struct config_sigv4 *cfg;
    struct aws_profile profile;
    struct arena *arena; /* the identity's */
    struct nx_err *err;
};

/* ---- files ---------------------------------------------------------------------------------------------- */

static nx_status no_session(struct resolving *r)
{
    return nx_context(r->err, "could not create new AWS session");
}

/* A file that is missing is none. */
static nx_status read_file(struct resolving *r, const char *env_name, const char *in_home,
                           const char *profile, bool prefixed)
{
    const char *path = env(env_name), *home = env("HOME");
    struct buf text;
    nx_status st;

    if (!path && !home)
        return NX_OK;
    if (!path && !(path = arena_printf(r->arena, "%s/%s", home, in_home)))
        return arena_failed(r->arena, r->err);
    buf_init(&text, FILE_BYTES);
    st = fs_read_file(fs_real(), path, &text, r->err);
    if (!st)
        st = aws_profile_read(&r->profile, buf_view(&text), profile, prefixed, r->arena, r->err);
    buf_done(&text);
    return st == NX_NOTFOUND ? NX_OK : st;
}

/* I2 */
static nx_status read_profile(struct resolving *r)
{
    const char *given =
        r->cfg->profile.len ? r->cfg->profile.ptr : env_or("AWS_PROFILE", "AWS_DEFAULT_PROFILE");
    const char *name = given ? given : "default";
    nx_status st = read_file(r, "AWS_CONFIG_FILE", ".aws/config", name, true);

    if (!st)
        st = read_file(r, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", name, false);
    if (!st && given && !r->profile.found)
        st = nx_fail(r->err, NX_BADINPUT, "failed to get shared config profile, %s", name);
    return st ? no_session(r) : NX_OK;
}

/* ---- keys ----------------------------------------------------------------------------------------------- */

static nx_status copy(struct resolving *r, struct nx_slice *to, struct nx_slice from)
{
    *to = nx_slice_of(arena_strndup(r->arena, from.len ? from.ptr : "", from.len), from.len);
    return to->ptr ? NX_OK : arena_failed(r->arena, r->err);
}

bool aws_is_word(struct nx_slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] >= 127)
            return false;
    return true;
}

/* A part of a scope, which is between slashes. */
static nx_status copy_word(struct resolving *r, struct nx_slice *to, struct nx_slice from,
                           const char *what)
{
    if (!aws_is_word(from) || memchr(from.ptr, '/', from.len))
        return nx_fail(r->err, NX_BADINPUT, "the %s of sigv4 is none", what);
    return copy(r, to, from);
}

static nx_status no_keys(struct resolving *r, const char *why)
{
    return nx_fail(r->err, NX_BADINPUT, "could not get SigV4 credentials: %s", why);
}

static nx_status set_keys(struct resolving *r, struct nx_slice access, struct nx_slice secret,
                          struct nx_slice token)
{
    struct sigv4_keys *k = &r->id->keys;
    nx_status st = copy(r, &k->access, access);

    if (!st)
        st = copy(r, &k->secret, secret);
    if (!st)
        st = copy(r, &k->token, token);
    if (!st && (!aws_is_word(k->access) || !aws_is_word(k->secret) || !aws_is_word(k->token)))
        st = no_keys(r, "a key or a token holds a blank or a control character");
    return st;
}

static nx_status set_web(struct resolving *r, const char *file, const char *role,
                         const char *session)
{
    struct aws_web_identity *w = &r->id->web;
    nx_status st = copy(r, &w->token_file, nx_slice_str(file));

    r->id->source = AWS_WEB;
    if (!role)
        return no_keys(r, "role ARN is not set");
    if (!st)
        st = copy(r, &w->role_arn, nx_slice_str(role));
    return st ? st : copy(r, &w->session_name, nx_slice_str(session));
}

/* Keys in the clear go to nobody who is not beside us. */
static bool is_beside(const char *url)
{
    static const char *const hosts[] = {"localhost", "[::1]", "169.254.170.2", "169.254.170.23",
                                        "[fd00:ec2::23]"};
    const char *host = url + 7;
    size_t n;

    if (!strncmp(url, "https://", 8))
        return true;
    if (strncmp(url, "http://", 7) != 0)
        return false;
    n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#");
    if (!strncmp(host, "127.", 4) && strspn(host, "0123456789.") == n)
        return true;
    for (size_t i = 0; i < NX_COUNT(hosts); i++)
        if (strlen(hosts[i]) == n && !memcmp(host, hosts[i], n))
            return true;
    return false;
}

static nx_status set_container(struct resolving *r, const char *url)
{
    struct aws_container *c = &r->id->container;
    nx_status st = copy(r, &c->url, nx_slice_str(url));

    r->id->source = AWS_CONTAINER;
    if (!is_beside(url) || strchr(url, '@'))
        return no_keys(r, "invalid endpoint host, only loopback/ecs/eks hosts are allowed");
    if (!st)
        st = copy(r, &c->token, nx_slice_str(env("AWS_CONTAINER_AUTHORIZATION_TOKEN")));
    return st ? st
              : copy(r, &c->token_file,
                     nx_slice_str(env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")));
}

/* Of the container, or of the machine. */
static nx_status keys_around(struct resolving *r)
{
    const char *path = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
               *full = env("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
               *off = env("AWS_EC2_METADATA_DISABLED"),
               *machine = env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    nx_status st;

    if (path) {
        char *url = arena_printf(r->arena, "http://169.254.170.2%s", path);
        return url ? set_container(r, url) : arena_failed(r->arena, r->err);
    }
    if (full)
        return set_container(r, full);
    if (off && !strcasecmp(off, "true"))
        return no_keys(r, "there are none in the sigv4 section, the environment or the profile, "
                          "and AWS_EC2_METADATA_DISABLED is set");
    r->id->source = AWS_MACHINE;
    st = copy(r, &r->id->machine_url, nx_slice_str(machine ? machine : "http://169.254.169.254"));
    while (r->id->machine_url.len && r->id->machine_url.ptr[r->id->machine_url.len - 1] == '/')
        r->id->machine_url.len--;
    return st;
}

/* I4 */
static nx_status keys_of_profile(struct resolving *r)
{
    const struct aws_profile *p = &r->profile;

    if (p->access_key.len && !p->role_arn.len)
        return set_keys(r, p->access_key, p->secret_key, p->session_token);
    if (p->web_identity_token_file.len)
        return set_web(r, p->web_identity_token_file.ptr, p->role_arn.ptr,
                       p->role_session_name.ptr);
    if (p->role_arn.len)
        return no_keys(r, "role_arn of a profile is not supported; sigv4 has a role_arn");
    if (p->source_profile.len || p->credential_source.len)
        return no_keys(r, "source_profile and credential_source are not supported");
    if (p->sso_session.len || p->sso_start_url.len || p->login_session.len)
        return no_keys(r, "profiles that log in (SSO) are not supported");
    if (p->credential_process.len)
        return no_keys(r, "credential_process is not supported");
    return keys_around(r);
}

/* I1 */
static nx_status find_keys(struct resolving *r)
{
    const struct config_sigv4 *c = r->cfg;
    const char *access = env_or("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"),
               *secret = env_or("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"),
               *web = env("AWS_WEB_IDENTITY_TOKEN_FILE");

    if (c->access_key.len && c->secret_key.value.len)
        return set_keys(r, c->access_key, c->secret_key.value, nx_slice_of("", 0));
    if (c->profile.len)
        return keys_of_profile(r);
    if (access && secret)
        return set_keys(r, nx_slice_str(access), nx_slice_str(secret),
                        nx_slice_str(env("AWS_SESSION_TOKEN")));
    if (web)
        return set_web(r, web, env("AWS_ROLE_ARN"), env("AWS_ROLE_SESSION_NAME"));
    return keys_of_profile(r);
}

/* ---- where ---------------------------------------------------------------------------------------------- */

/* I3 */
static nx_status find_region(struct resolving *r)
{
    const char *given = env_or("AWS_REGION", "AWS_DEFAULT_REGION");
    struct nx_slice region = r->cfg->region;

    if (!region.len)
        region = given ? nx_slice_str(given) : r->profile.region;
    if (!region.len)
        return nx_fail(r->err, NX_BADINPUT,
                       "region not configured in sigv4 or in default credentials chain");
    return copy_word(r, &r->id->region, region, "region");
}

/* The end of AWS's names, which not all parts of it share. */
static const char *domain(struct nx_slice region)
{
    static const struct {
        const char *begin, *domain;
    } v[] = {
        {"cn-", "amazonaws.com.cn"},    {"us-iso-", "c2s.ic.gov"},
        {"us-isob-", "sc2s.sgov.gov"},  {"us-isof-", "csp.hci.ic.gov"},
        {"eu-isoe-", "cloud.adc-e.uk"}, {"eusc-", "amazonaws.eu"},
    };

    for (size_t i = 0; i < NX_COUNT(v); i++)
        if (!strncmp(region.ptr, v[i].begin, strlen(v[i].begin)))
            return v[i].domain;
    return "amazonaws.com";
}

static nx_status find_sts(struct resolving *r)
{
    const char *ignore = env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    const char *given = env_or("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL");
    const char *region = r->id->region.ptr;
    bool fips = r->cfg->use_fips_sts_endpoint;

    given = given ? given : r->profile.endpoint_url.ptr;
    if (given && *given && !(ignore && !strcasecmp(ignore, "true"))) {
        if (fips)
            return nx_fail(r->err, NX_BADINPUT,
                           "use_fips_sts_endpoint is set, but so is another address of STS");
        r->id->sts_url = arena_strdup(r->arena, given);
    } else {
        fips = fips && strncmp(region, "us-gov-", 7) != 0; /* there, all are */
        r->id->sts_url = arena_printf(r->arena, "https://sts%s.%s.%s/", fips ? "-fips" : "", region,
                                      domain(r->id->region));
    }
    return r->id->sts_url ? NX_OK : arena_failed(r->arena, r->err);
}

nx_status aws_identity_new(struct aws_identity **out, const struct config_sigv4 *cfg,
                           struct nx_err *err)
{
    struct arena *a = arena_new(0);
    struct aws_identity *id = a ? arena_zalloc(a, sizeof *id) : NULL;
    struct resolving r = {.id = id, .cfg = cfg, .arena = a, .err = err};
    struct nx_slice service = cfg->service_name.len ? cfg->service_name : nx_slice_str(SERVICE);
    nx_status st;

    if (!id) {
        arena_free(a);
        return nx_fail(err, NX_NOMEM, "out of memory");
    }
    id->arena = a;
    st = read_profile(&r);
    if (!st)
        st = find_keys(&r);
    if (!st)
        st = find_region(&r);
    if (!st)
        st = copy_word(&r, &id->service, service, "service");
    if (!st)
        st = copy(&r, &id->role_arn, cfg->role_arn);
    if (!st)
        st = copy(&r, &id->external_id, cfg->external_id);
    if (!st)
        st = find_sts(&r);
    if (st) {
        arena_free(a);
        return st;
    }
    *out = id;
    return NX_OK;
}

void aws_identity_free(struct aws_identity *id)
{
    if (id)
        arena_free(id->arena);
}
