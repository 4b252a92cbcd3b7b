/* test_sigv4.c - signatures of requests to AWS, and the files and answers that keys come from. */
#include "tests/support/test.h"

#include <stdlib.h>

#include "src/notify/aws.h"
#include "tests/support/oom.h"

#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

static struct nx_err err;

static const char *line(struct sigv4_signed *s, size_t i)
{
    return buf_cstr(&s->lines[i]);
}

/* A vector that AWS publishes, "post-x-www-form-urlencoded". */
static void a_request_is_signed_as_aws_has_it(void **state)
{
    const struct sigv4_request r = {
        .url = STR("https://example.amazonaws.com/"),
        .content_type = STR("application/x-www-form-urlencoded"),
        .body = STR("Param1=value1"),
        .region = STR("us-east-1"),
        .service = STR("service"),
        .now_ms = 1440938160000,
    };
    const struct sigv4_keys keys = {.access = STR("AKIDEXAMPLE"), .secret = STR(SECRET)};
    struct sigv4_signed s;

    (void)state;
    sigv4_init(&s);
    assert_ok(sigv4_sign(&r, &keys, &s, &err), &err);
    assert_string_equal(buf_cstr(&s.url), "https://example.amazonaws.com/");
    assert_string_equal(line(&s, SIGV4_HOST), "Host: example.amazonaws.com");
    assert_string_equal(line(&s, SIGV4_DATE), "X-Amz-Date: 20150830T123600Z");
    assert_string_equal(
        line(&s, SIGV4_AUTHORIZATION),
        "Authorization: AWS4-HMAC-SHA256 "
        "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a");
    assert_int_equal(s.lines[SIGV4_TOKEN].len, 0);
    sigv4_done(&s);
}

/* Paths are escaped once more, tokens are signed, and what is sent is what was signed. */
static void paths_ports_and_tokens(void **state)
{
    static const struct {
        const char *url, *sent, *host;
    } v[] = {
        {"http://h:80", "http://h:80/", "h"},
        {"https://h:443/x/", "https://h:443/x", "h"},
        {"https://h:80//a/./b/../c//", "https://h:80/a/c", "h:80"},
        {"http://u:p@h:/../..", "http://u:p@h:/", "h"},
        {"http://[::1]:9093/a", "http://[::1]:9093/a", "[::1]:9093"},
    };
    struct sigv4_request r = {
        .url = STR("http://aps.example:8080/workspaces//ws-1/a%20b%3F/+c/alerts/"),
        .content_type = STR("application/json"),
        .body = STR("[{\"labels\":{}}]"),
        .region = STR("eu-central-1"),
        .service = STR("aps"),
        .now_ms = 1772323262999,
    };
    const struct sigv4_keys keys = {STR("id"), STR("se/cret"), STR("FwoGZ/tok+en==")};
    struct sigv4_signed s;
    char host[100];

    (void)state;
    sigv4_init(&s);
    assert_ok(sigv4_sign(&r, &keys, &s, &err), &err);
    assert_string_equal(buf_cstr(&s.url),
                        "http://aps.example:8080/workspaces/ws-1/a%20b%3F/+c/alerts");
    assert_string_equal(line(&s, SIGV4_TOKEN), "X-Amz-Security-Token: FwoGZ/tok+en==");
    assert_non_null(
        strstr(line(&s, SIGV4_AUTHORIZATION),
               "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, "
               "Signature=1ff1953fdee821072f85bd84d0999b37265ea9897842111b7de72a89526c6d1d"));
    for (size_t i = 0; i < NX_COUNT(v); i++) {
        r.url = STR(v[i].url);
        assert_ok(sigv4_sign(&r, &keys, &s, &err), &err);
        assert_string_equal(buf_cstr(&s.url), v[i].sent);
        snprintf(host, sizeof host, "Host: %s", v[i].host);
        assert_string_equal(line(&s, SIGV4_HOST), host);
    }
    r.url = STR("nowhere");
    assert_int_equal(sigv4_sign(&r, &keys, &s, &err), NX_BADINPUT);
    r.url = STR("http:///x");
    assert_int_equal(sigv4_sign(&r, &keys, &s, &err), NX_BADINPUT);
    sigv4_done(&s);
}

static void without_memory_nothing_is_signed(void **state)
{
    const struct sigv4_request r = {.url = STR("http://h/x"),
                                    .content_type = STR("t"),
                                    .body = STR("b"),
                                    .region = STR("r"),
                                    .service = STR("s")};
    const struct sigv4_keys keys = {STR("id"), STR("secret"), STR("token")};
    struct sigv4_signed s;

    (void)state;
    for (unsigned i = 1;; i++) {
        nx_status st;
        sigv4_init(&s);
        oom_fail_at(i);
        st = sigv4_sign(&r, &keys, &s, &err);
        if (!oom_off()) {
            assert_ok(st, &err);
            sigv4_done(&s);
            break;
        }
        assert_true(st == NX_NOMEM || st == NX_OK); /* libraries' own may do without */
        sigv4_done(&s);
    }
}

/* ---- profiles --------------------------------------------------------------------------------------------- */

static void profiles_are_read_as_the_sdk_reads_them(void **state)
{
    static const char config[] = "region = nowhere\n"
                                 "[default]\nregion=r0\n[ profile  a ] ; of a\r\n"
                                 "# a comment\nREGION : 'r1' # behind\n"
                                 "s3 =\n  region = inner\n  aws_access_key_id = inner\n"
                                 "aws_access_key_id = K#1\n  aws_secret_access_key = \"S;1\"\n"
                                 "nonsense\n[a]\nregion=wrong\n[profile a]\naws_session_token=T=1";
    static const char credentials[] = "[b]\naws_access_key_id=x\n[profile a]\nregion=wrong\n"
                                      "[a]\naws_access_key_id=K2\naws_secret_access_key=S2\n";
    struct arena *a = arena_new(0);
    struct aws_profile p = {0};

    (void)state;
    assert_ok(aws_profile_read(&p, STR(config), "a", true, a, &err), &err);
    assert_true(p.found);
    assert_string_equal(p.region.ptr, "r1");
    assert_string_equal(p.access_key.ptr, "K#1");
    assert_string_equal(p.secret_key.ptr, "S;1");
    assert_string_equal(p.session_token.ptr, "T=1");
    assert_ok(aws_profile_read(&p, STR(credentials), "a", false, a, &err), &err);
    assert_string_equal(p.access_key.ptr, "K2"); /* a pair, which has no token */
    assert_int_equal(p.session_token.len, 0);
    assert_string_equal(p.region.ptr, "r1");
    assert_int_equal(aws_profile_read(&p, STR(credentials), "b", false, a, &err), NX_BADINPUT);
    assert_string_equal(err.text, "partial credentials found for profile b");
    p = (struct aws_profile){0};
    assert_ok(aws_profile_read(&p, STR(config), "default", true, a, &err), &err);
    assert_string_equal(p.region.ptr, "r0");
    p = (struct aws_profile){0};
    assert_ok(aws_profile_read(&p, STR(config), "none", true, a, &err), &err);
    assert_false(p.found);
    arena_free(a);
}

/* ---- identities ------------------------------------------------------------------------------------------- */

static const char *const variables[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_ACCESS_KEY",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SECRET_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_PROFILE",
                                        "AWS_DEFAULT_PROFILE",
                                        "AWS_REGION",
                                        "AWS_DEFAULT_REGION",
                                        "AWS_CONFIG_FILE",
                                        "AWS_SHARED_CREDENTIALS_FILE",
                                        "AWS_WEB_IDENTITY_TOKEN_FILE",
                                        "AWS_ROLE_ARN",
                                        "AWS_ROLE_SESSION_NAME",
                                        "AWS_ENDPOINT_URL",
                                        "AWS_ENDPOINT_URL_STS",
                                        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT"};

static struct test_tmpdir home;

static int make_home(void **state)
{
    (void)state;
    test_tmpdir_new(&home);
    return 0;
}

static int remove_home(void **state)
{
    (void)state;
    test_tmpdir_done(&home);
    return 0;
}

static int no_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(variables); i++)
        unsetenv(variables[i]);
    setenv("HOME", home.path, 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    return 0;
}

static void put_file(const char *name, const char *text)
{
    char path[300];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", home.path, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    setenv(strcmp(name, "config") ? "AWS_SHARED_CREDENTIALS_FILE" : "AWS_CONFIG_FILE", path, 1);
}

/* "ACCESS/SECRET/TOKEN REGION", or why not. */
static const char *identity(const struct config_sigv4 *cfg)
{
    static char text[NX_ERR_TEXT_BYTES + 100];
    struct aws_identity *id = NULL;

    if (aws_identity_new(&id, cfg, &err))
        return err.text;
    snprintf(text, sizeof text, "%s/%s/%s %s", id->keys.access.ptr ? id->keys.access.ptr : "",
             id->keys.secret.ptr ? id->keys.secret.ptr : "",
             id->keys.token.ptr ? id->keys.token.ptr : "", id->region.ptr);
    aws_identity_free(id);
    return text;
}

static void keys_and_regions_are_looked_for_in_order(void **state)
{
    const struct config_sigv4 none = {0}, profile = {.profile = STR("p")},
                              keys = {.region = STR("r"),
                                      .access_key = STR("a"),
                                      .secret_key = {.value = STR("s")}};

    (void)state;
    assert_string_equal(identity(&none),
                        "could not get SigV4 credentials: there are none in the sigv4 section, the "
                        "environment or the profile, and AWS_EC2_METADATA_DISABLED is set");
    assert_string_equal(identity(&keys), "a/s/ r");
    assert_string_equal(identity(&profile),
                        "could not create new AWS session: failed to get shared "
                        "config profile, p");
    setenv("AWS_ACCESS_KEY_ID", "ea", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "es", 1);
    setenv("AWS_SESSION_TOKEN", "et", 1);
    assert_string_equal(identity(&none),
                        "region not configured in sigv4 or in default credentials chain");
    put_file("config", "[default]\nregion=dr\n[profile p]\nregion=pr\n");
    assert_string_equal(identity(&none), "ea/es/et dr");
    setenv("AWS_PROFILE", "p", 1);
    assert_string_equal(identity(&none), "ea/es/et pr");
    setenv("AWS_DEFAULT_REGION", "er", 1);
    assert_string_equal(identity(&none), "ea/es/et er");
    assert_string_equal(identity(&keys), "a/s/ r");
    put_file("credentials", "[p]\naws_access_key_id=pa\naws_secret_access_key=ps\n");
    assert_string_equal(identity(&none), "ea/es/et er");
    assert_string_equal(identity(&profile), "pa/ps/ er");
    unsetenv("AWS_ACCESS_KEY_ID");
    assert_string_equal(identity(&none), "pa/ps/ er");
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/t", 1);
    assert_string_equal(identity(&none), "could not get SigV4 credentials: role ARN is not set");
    setenv("AWS_ROLE_ARN", "arn", 1);
    assert_string_equal(identity(&none), "// er");
    setenv("AWS_ACCESS_KEY", "x\ny", 1);
    assert_string_equal(identity(&none),
                        "could not get SigV4 credentials: a key or a token holds a "
                        "blank or a control character");
}

/* Where keys around us are asked for, and the token that is sent; or why not. */
static const char *around(void)
{
    static char text[NX_ERR_TEXT_BYTES];
    const struct config_sigv4 cfg = {.region = STR("r")};
    struct aws_identity *id = NULL;

    if (aws_identity_new(&id, &cfg, &err))
        return err.text;
    snprintf(text, sizeof text, "%d %.*s%s %s%s", id->source, (int)id->machine_url.len,
             id->machine_url.ptr ? id->machine_url.ptr : "",
             id->container.url.ptr ? id->container.url.ptr : "",
             id->container.token.ptr ? id->container.token.ptr : "",
             id->container.token_file.ptr ? id->container.token_file.ptr : "");
    aws_identity_free(id);
    return text;
}

static void keys_around_us_come_last(void **state)
{
    static const char *const fine[] = {"http://127.0.0.1:80/x",
                                       "http://localhost/",
                                       "http://[::1]/",
                                       "http://169.254.170.23/v1/credentials",
                                       "http://[fd00:ec2::23]/v1",
                                       "https://anywhere.example/"},
                             *const bad[] = {"http://example.com/",
                                             "http://127.0.0.1.evil/",
                                             "http://127.0.0.1@evil.com/",
                                             "http://localhost.evil/",
                                             "http://[::2]/",
                                             "ftp://127.0.0.1/",
                                             "https://u@evil.com/"};

    (void)state;
    unsetenv("AWS_EC2_METADATA_DISABLED");
    assert_string_equal(around(), "3 http://169.254.169.254 ");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1//", 1);
    assert_string_equal(around(), "3 http://127.0.0.1:1 ");
    for (size_t i = 0; i < NX_COUNT(fine); i++) {
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", fine[i], 1);
        assert_memory_equal(around(), "2 http", 6);
    }
    for (size_t i = 0; i < NX_COUNT(bad); i++) {
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", bad[i], 1);
        assert_non_null(strstr(around(), "only loopback/ecs/eks hosts are allowed"));
    }
    setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x", 1);
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "tok", 1);
    assert_string_equal(around(), "2 http://169.254.170.2/v2/x tok");
    setenv("AWS_ACCESS_KEY_ID", "a", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "s", 1);
    assert_string_equal(around(), "0  ");
}

static void answers_with_keys_are_whole_or_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Token\":\"t\"}",
        "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"soon\"}",
        "{\"AccessKeyId\":\"a\\r\\nX: y\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":"
        "\"2026-01-01T00:00:00Z\"}",
        "{\"AccessKeyId\":\"\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":"
        "\"2026-01-01T00:00:00Z\"}",
        "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Token\":5}",
        "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Expiration\":\"soon\"}",
    };
    static const char *const for_good[] = {
        "{\"AccessKeyId\":\"b\",\"SecretAccessKey\":\"s\"}",
        "{\"AccessKeyId\":\"b\",\"SecretAccessKey\":\"s\",\"Token\":\"\",\"Expiration\":null}",
    };
    struct aws_temporary t;

    (void)state;
    aws_temporary_init(&t);
    assert_ok(aws_meta_keys(LIT("{\"Code\":\"Success\",\"AccessKeyId\":\"a\",\"SecretAccessKey\":"
                                "\"s\",\"Token\":\"t\",\"Expiration\":\"2026-01-01T00:00:00Z\"}"),
                            &t, &err),
              &err);
    for (size_t i = 0; i < NX_COUNT(bad); i++)
        assert_status(aws_meta_keys(STR(bad[i]), &t, &err), NX_CORRUPT);
    assert_buf(&t.access, "a", "as before");
    assert_int_equal(t.ends_ms, 1767225600000);
    for (size_t i = 0; i < NX_COUNT(for_good); i++) {
        assert_ok(aws_meta_keys(STR(for_good[i]), &t, &err), &err);
        assert_buf(&t.access, "b", for_good[i]);
        assert_int_equal(t.token.len, 0);
        assert_true(t.ends_ms == INT64_MAX);
    }
    aws_temporary_done(&t);
}

static void what_a_profile_has_and_we_have_not_is_told(void **state)
{
    static const struct {
        const char *text, *why;
    } v[] = {
        {"[default]\nrole_arn=x\nsource_profile=y\n",
         "role_arn of a profile is not supported; sigv4 has a role_arn"},
        {"[default]\ncredential_source=Ec2InstanceMetadata\n",
         "source_profile and credential_source are not supported"},
        {"[default]\nsso_session=x\n", "profiles that log in (SSO) are not supported"},
        {"[default]\ncredential_process=x\n", "credential_process is not supported"},
    };
    const struct config_sigv4 cfg = {.region = STR("r")};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(v); i++) {
        put_file("config", v[i].text);
        assert_string_equal(strrchr(identity(&cfg), ':') + 2, v[i].why);
    }
}

static const char *sts(const char *region, bool fips)
{
    static char text[NX_ERR_TEXT_BYTES];
    const struct config_sigv4 cfg = {.region = STR(region),
                                     .access_key = STR("a"),
                                     .secret_key = {.value = STR("s")},
                                     .use_fips_sts_endpoint = fips};
    struct aws_identity *id = NULL;

    if (aws_identity_new(&id, &cfg, &err))
        return err.text;
    snprintf(text, sizeof text, "%s", id->sts_url);
    aws_identity_free(id);
    return text;
}

static void roles_are_asked_for_in_the_region(void **state)
{
    (void)state;
    assert_string_equal(sts("eu-west-1", false), "https://sts.eu-west-1.amazonaws.com/");
    assert_string_equal(sts("us-east-2", true), "https://sts-fips.us-east-2.amazonaws.com/");
    assert_string_equal(sts("us-gov-west-1", true), "https://sts.us-gov-west-1.amazonaws.com/");
    assert_string_equal(sts("cn-north-1", false), "https://sts.cn-north-1.amazonaws.com.cn/");
    assert_string_equal(sts("a/b", false), "the region of sigv4 is none");
    put_file("config", "[default]\nendpoint_url=http://p\n");
    assert_string_equal(sts("r", false), "http://p");
    setenv("AWS_ENDPOINT_URL", "http://e", 1);
    assert_string_equal(sts("r", false), "http://e");
    setenv("AWS_ENDPOINT_URL_STS", "http://s", 1);
    assert_string_equal(sts("r", false), "http://s");
    assert_string_equal(sts("r", true),
                        "use_fips_sts_endpoint is set, but so is another address of STS");
    setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE", 1);
    assert_string_equal(sts("r", true), "https://sts-fips.r.amazonaws.com/");
}

/* ---- answers ---------------------------------------------------------------------------------------------- */

static void elements_are_found_or_refused(void **state)
{
    static const struct {
        const char *xml, *want; /* NULL: refused */
    } v[] = {
        {"<a><Key>x/+=</Key></a>", "x/+="},
        {"<KeyId>1</KeyId><Key  b='c'>2</Key>", "2"},
        {"<Key>&lt;&amp;&gt;&quot;&apos;&#65;&#x42;&#233;</Key>", "<&>\"'AB\xc3\xa9"},
        {"<Key/>", ""},
        {"<Key></Key>", ""},
        {"", NULL},
        {"<", NULL},
        {"<Key", NULL},
        {"<Key>", NULL},
        {"<Key>x", NULL},
        {"<Key>x</Key", NULL},
        {"<Key>x</Kez>", NULL},
        {"<Key>a<b/></Key>", NULL},
        {"<Key>&</Key>", NULL},
        {"<Key>&nope;</Key>", NULL},
        {"<Key>&#;</Key>", NULL},
        {"<Key>&#x;</Key>", NULL},
        {"<Key>&#-1;</Key>", NULL},
        {"<Key>&#0;</Key>", NULL},
        {"<Key>&#xd800;</Key>", NULL},
        {"<Key>&#99999999999;</Key>", NULL},
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(v); i++) {
        struct buf b;
        nx_status st;
        buf_init(&b, 100);
        st = aws_element(STR(v[i].xml), "Key", &b, &err);
        if (v[i].want)
            assert_string_equal(buf_cstr(&b), v[i].want);
        assert_int_equal(!st, v[i].want != NULL);
        buf_done(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_signed_as_aws_has_it),
        cmocka_unit_test(paths_ports_and_tokens),
        cmocka_unit_test(without_memory_nothing_is_signed),
        cmocka_unit_test(profiles_are_read_as_the_sdk_reads_them),
        cmocka_unit_test_setup(keys_and_regions_are_looked_for_in_order, no_environment),
        cmocka_unit_test_setup(keys_around_us_come_last, no_environment),
        cmocka_unit_test(answers_with_keys_are_whole_or_refused),
        cmocka_unit_test_setup(what_a_profile_has_and_we_have_not_is_told, no_environment),
        cmocka_unit_test_setup(roles_are_asked_for_in_the_region, no_environment),
        cmocka_unit_test(elements_are_found_or_refused),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
