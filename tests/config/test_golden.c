/* test_golden.c - configurations in files: each *.bad.yml fails with the message on its first line, at the
 * line that says "# here"; each *.good.yml loads, and what is printed of it loads again and prints the same
 * (but for unprinted_*: they say what Prometheus does not print either, like false where true is the default). */
#include "tests/support/test.h"

#include <glob.h>

#include "src/base/fs.h"
#include "src/config/config.h"

static struct nx_err err;

static void read_file(const char *path, struct buf *to)
{
    buf_init(to, 0);
    assert_ok(fs_read_file(fs_real(), path, to, &err), &err);
}

/* "# text\n..." -> text, with \n for line ends. */
static void wanted_message(const struct buf *file, char *to, size_t cap)
{
    size_t n = 0;

    assert_true(file->len > 2 && file->ptr[0] == '#' && file->ptr[1] == ' ');
    for (size_t i = 2; i < file->len && file->ptr[i] != '\n'; i++) {
        bool newline = file->ptr[i] == '\\' && i + 1 < file->len && file->ptr[i + 1] == 'n';

        assert_true(n + 1 < cap);
        to[n++] = newline ? '\n' : file->ptr[i];
        i += newline;
    }
    to[n] = '\0';
}

/* The message names a line in one of two ways: "line 3: ..." of complaints, "(FILE:3" of everything else. */
static bool names_line(const char *text, unsigned line)
{
    static const char *const forms[] = {"line %u:", "line %u,", ".bad.yml:%u:", ".bad.yml:%u)"};
    char form[40];

    for (size_t i = 0; i < NX_COUNT(forms); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(form, sizeof form, forms[i], line);
#pragma GCC diagnostic pop
        if (strstr(text, form))
            return true;
    }
    return false;
}

static void check_bad(const char *path)
{
    struct config *cfg = NULL;
    struct buf file;
    char want[1000];
    unsigned line = 1;

    read_file(path, &file);
    wanted_message(&file, want, sizeof want);
    if (!config_load(&cfg, path, NULL, &err))
        fail_msg("%s: loaded, wanted: %s", path, want);
    assert_null(cfg);
    if (!strstr(err.text, want) || !strstr(err.text, path))
        fail_msg("%s: got: %s\nwanted: %s", path, err.text, want);
    for (size_t i = 0; i < file.len; i++) {
        if (file.len - i > 6 && !memcmp(file.ptr + i, "# here", 6) && !names_line(err.text, line))
            fail_msg("%s: got: %s\nwanted line %u", path, err.text, line);
        line += file.ptr[i] == '\n';
    }
    buf_done(&file);
}

static void each_file(const char *pattern, size_t at_least, void (*check)(const char *path))
{
    glob_t found;

    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++)
        check(found.gl_pathv[i]);
    print_message("%zu files of %s\n", found.gl_pathc, pattern);
    assert_true(found.gl_pathc >= at_least);
    globfree(&found);
}

static void every_bad_file_fails_with_its_message(void **state)
{
    (void)state;
    each_file("tests/config/*.bad.yml", 200, check_bad);
}

static void check_good(const char *path)
{
    struct config *cfg = NULL, *again = NULL;
    struct buf first, second;

    if (config_load(&cfg, path, NULL, &err))
        fail_msg("%s: %s", path, err.text);
    buf_init(&first, 0);
    buf_init(&second, 0);
    config_yaml(cfg, &first);
    assert_ok(buf_status(&first, &err), &err);
    if (strstr(buf_cstr(&first), "hush"))
        fail_msg("%s: shows a secret:\n%s", path, buf_cstr(&first));
    if (strstr(path, "/unprinted_"))
        goto done;
    if (config_parse(&again, buf_view(&first), "printed.yml", ".", NULL, &err))
        fail_msg("%s: printed, it does not load: %s\n%s", path, err.text, buf_cstr(&first));
    config_yaml(again, &second);
    if (!nx_slice_eq(buf_view(&first), buf_view(&second)))
        fail_msg("%s: printed twice, it differs:\n%s\n----\n%s", path, buf_cstr(&first),
                 buf_cstr(&second));
done:
    config_unref(cfg);
    config_unref(again);
    buf_done(&first);
    buf_done(&second);
}

static void every_good_file_loads_and_prints_the_same_twice(void **state)
{
    (void)state;
    each_file("tests/config/*.good.yml", 25, check_good);
}

static void the_configurations_we_ship_load(void **state)
{
    (void)state;
    check_good("config/narthex.yml");
    each_file("config/examples/*/prometheus.yml", 1, check_good);
}

/* X.good.yml prints as X.printed, where there is one. */
static void check_printed(const char *path)
{
    struct config *cfg = NULL;
    struct buf want, got;
    char source[300];

    snprintf(source, sizeof source, "%.*s.good.yml", (int)(strlen(path) - strlen(".printed")),
             path);
    read_file(path, &want);
    assert_ok(config_load(&cfg, source, NULL, &err), &err);
    buf_init(&got, 0);
    config_yaml(cfg, &got);
    assert_buf(&got, buf_cstr(&want), source);
    config_unref(cfg);
    buf_done(&want);
    buf_done(&got);
}

static void what_is_printed_is_what_the_page_has_to_show(void **state)
{
    (void)state;
    unsetenv("GOGC");
    each_file("tests/config/*.printed", 5, check_printed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bad_file_fails_with_its_message),
        cmocka_unit_test(every_good_file_loads_and_prints_the_same_twice),
        cmocka_unit_test(the_configurations_we_ship_load),
        cmocka_unit_test(what_is_printed_is_what_the_page_has_to_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
