/* test_log.c - log lines as slog writes them, and a standard error that fails. */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/base/thread.h"

static struct buf seen;

static void see(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    buf_append(&seen, line, len);
}

static int begin(void **state)
{
    (void)state;
    buf_init(&seen, 1 << 20);
    log_capture(see, NULL);
    log_setup(LOG_INFO_LEVEL, LOG_FORMAT_LOGFMT);
    clock_fake_set(1767323045678);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    clock_fake_off();
    log_capture(NULL, NULL);
    log_setup(LOG_INFO_LEVEL, LOG_FORMAT_LOGFMT);
    buf_done(&seen);
    return 0;
}

static void logfmt_lines_look_like_slogs(void **state)
{
    (void)state;
    log_write(LOG_INFO_LEVEL, "storage/wal.c", 42, "WAL replayed", "segments", "3", "dir", "a b",
              (char *)0);
    assert_buf(&seen,
               "time=2026-01-02T03:04:05.678Z level=INFO source=wal.c:42 msg=\"WAL replayed\" "
               "segments=3 dir=\"a b\"\n",
               "logfmt");
}

static void json_lines_have_the_same_keys(void **state)
{
    (void)state;
    log_setup(LOG_INFO_LEVEL, LOG_FORMAT_JSON);
    log_write(LOG_WARN_LEVEL, "wal.c", 42, "say \"hi\"\n", "a\tb", "\xff<&>", "none", NULL,
              (char *)0);
    assert_buf(&seen,
               "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"WARN\",\"source\":\"wal.c:42\","
               "\"msg\":\"say \\\"hi\\\"\\n\",\"a\\tb\":\"\\ufffd<&>\",\"none\":null}\n",
               "json");
}

static void values_are_quoted_where_logfmt_needs_it(void **state)
{
    // clang-format off
    static const struct { const char *value, *want; } cases[] = {
        { "plain",        "v=plain" },
        { "",             "v=\"\"" },
        { "a b",          "v=\"a b\"" },
        { "a=b",          "v=\"a=b\"" },
        { "a\"b",         "v=\"a\\\"b\"" },
        { "a\\b",         "v=a\\b" },            /* a backslash alone needs none */
        { "a\\ b",        "v=\"a\\\\ b\"" },
        { "a\nb",         "v=\"a\\nb\"" },
        { "a\x01\x7f",    "v=\"a\\x01\\x7f\"" },
        { "\xc3\xa9",     "v=\xc3\xa9" },
        { "\xff",         "v=\"\\xff\"" },
        { "\xe2\x80\xa8", "v=\"\\u2028\"" },
        { "\xc2\xa0",     "v=\"\\u00a0\"" },
        { "{job=x}",      "v=\"{job=x}\"" },
        { "http://a/b?c", "v=http://a/b?c" },
        { NULL,           "v=<nil>" },
    };
    // clang-format on

    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        const char *at;
        size_t len = strlen(cases[i].want);

        buf_clear(&seen);
        log_info("m", "v", cases[i].value);
        at = strstr(buf_cstr(&seen), " msg=m ");
        assert_non_null(at);
        at += strlen(" msg=m ");
        assert_text(nx_slice_of(at, strlen(at) - 1), cases[i].want, "value");
        assert_int_equal(at[len], '\n');
    }
}

static void lines_below_the_level_are_not_written(void **state)
{
    (void)state;
    log_debug("no");
    assert_int_equal(seen.len, 0);
    log_setup(LOG_ERROR_LEVEL, LOG_FORMAT_LOGFMT);
    log_warn("no");
    assert_int_equal(seen.len, 0);
    log_error("yes", "n", log_fmt("%d/%d", 1, 2));
    assert_non_null(strstr(buf_cstr(&seen), "level=ERROR source=test_log.c:"));
    assert_non_null(strstr(buf_cstr(&seen), "msg=yes n=1/2\n"));
    log_setup(LOG_DEBUG_LEVEL, LOG_FORMAT_LOGFMT);
    log_debug("now");
    assert_non_null(strstr(buf_cstr(&seen), "level=DEBUG"));
}

static void a_line_that_is_too_long_is_cut_and_still_well_formed(void **state)
{
    char *huge = malloc(100001);

    (void)state;
    for (int json = 0; json < 2; json++) {
        const char *end = json ? "...\"}\n" : "...\"\n";

        memset(huge, '"', 100000);
        huge[100000] = '\0';
        buf_clear(&seen);
        log_setup(LOG_INFO_LEVEL, json ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT);
        log_info("m", "v", huge, "after", "x");
        assert_in_range(seen.len, 8000, 8192);
        assert_memory_equal(seen.ptr + seen.len - strlen(end), end, strlen(end));
        /* no escape was cut in half: before the mark there is an even run of \" pairs */
        assert_memory_equal(seen.ptr + seen.len - strlen(end) - 2, "\\\"", 2);
    }
    free(huge);
}

static void wherever_a_line_is_cut_its_quotes_are_closed(void **state)
{
    char value[8200];

    (void)state;
    log_setup(LOG_INFO_LEVEL, LOG_FORMAT_JSON);
    for (size_t len = 7900; len < sizeof value; len++) {
        const char *line;
        size_t quotes = 0;

        memset(value, 'x', len);
        value[len] = '\0';
        buf_clear(&seen);
        log_info("m", "first", value, "second", "\xe2\x82\xac\xff", "third", NULL);
        line = buf_cstr(&seen);
        assert_in_range(seen.len, 7900, 8192);
        for (const char *p = line; *p; p++)
            quotes += *p == '"';
        assert_int_equal(quotes % 2, 0);
        assert_string_equal(line + seen.len - 2, "}\n");
    }
}

static void errno_survives_logging(void **state)
{
    (void)state;
    errno = 77;
    log_info("m");
    assert_int_equal(errno, 77);
}

/* Runs `fn` with standard error on `fd`. */
static void with_stderr(int fd, void (*fn)(void))
{
    int saved = dup(STDERR_FILENO);

    log_capture(NULL, NULL);
    dup2(fd, STDERR_FILENO);
    fn();
    dup2(saved, STDERR_FILENO);
    close(saved);
}

static void log_a_lot(void)
{
    for (int i = 0; i < 5000; i++)
        log_info("a line of some length, so that the pipe is full soon", "i", log_fmt("%d", i));
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void nobody_reading_blocks_nobody(int make_pair(int fds[2]))
{
    int fds[2];
    int64_t began = now_ms();
    char text[65536];
    ssize_t n;
    bool told = false;

    assert_int_equal(make_pair(fds), 0);
    with_stderr(fds[1], log_a_lot);
    assert_true(now_ms() - began < 5000); /* one wait of 100 ms; the bound allows slow machines */
    /* A reader that comes back learns what it missed. */
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    while (read(fds[0], text, sizeof text) > 0)
        continue;
    with_stderr(fds[1], log_a_lot);
    while ((n = read(fds[0], text, sizeof text - 1)) > 0) {
        text[n] = '\0';
        told = told || strstr(text, "Log lines were dropped");
    }
    assert_true(told);
    close(fds[0]);
    close(fds[1]);
}

static int make_socketpair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
}

static void a_full_pipe_does_not_block(void **state)
{
    (void)state;
    nobody_reading_blocks_nobody(pipe);
}

static void a_full_socket_does_not_block(void **state)
{
    (void)state;
    nobody_reading_blocks_nobody(make_socketpair);
}

static void a_reader_that_went_away_kills_nobody(void **state)
{
    int fds[2];

    (void)state;
    signal(SIGPIPE, SIG_DFL);
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    with_stderr(fds[1], log_a_lot);
    close(fds[1]);
    assert_int_equal(make_socketpair(fds), 0);
    close(fds[0]);
    with_stderr(fds[1], log_a_lot);
    close(fds[1]);
}

static void log_to_closed(void)
{
    close(STDERR_FILENO);
    log_a_lot();
}

static void a_closed_standard_error_is_no_failure(void **state)
{
    int fd = open("/dev/null", O_WRONLY);

    (void)state;
    with_stderr(fd, log_to_closed);
    close(fd);
}

static void log_from_thread(void *arg)
{
    (void)arg;
    for (int i = 0; i < 500; i++)
        log_info("from a thread", "i", log_fmt("%d", i));
}

static void lines_of_many_threads_come_out_whole(void **state)
{
    struct nx_thread t[4];
    struct nx_err err;
    size_t lines = 0;
    const char *p, *end;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(t); i++)
        assert_ok(nx_thread_start(&t[i], "logger", log_from_thread, NULL, &err), &err);
    for (size_t i = 0; i < NX_COUNT(t); i++)
        nx_thread_join(&t[i]);
    for (p = buf_cstr(&seen); *p; p = end + 1, lines++) {
        end = strchr(p, '\n');
        assert_non_null(end);
        assert_memory_equal(p, "time=2026", 9);
    }
    assert_int_equal(lines, 2000);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, finish)
    const struct CMUnitTest tests[] = {
        TEST(logfmt_lines_look_like_slogs),
        TEST(json_lines_have_the_same_keys),
        TEST(values_are_quoted_where_logfmt_needs_it),
        TEST(lines_below_the_level_are_not_written),
        TEST(a_line_that_is_too_long_is_cut_and_still_well_formed),
        TEST(wherever_a_line_is_cut_its_quotes_are_closed),
        TEST(errno_survives_logging),
        TEST(a_full_pipe_does_not_block),
        TEST(a_full_socket_does_not_block),
        TEST(a_reader_that_went_away_kills_nobody),
        TEST(a_closed_standard_error_is_no_failure),
        TEST(lines_of_many_threads_come_out_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
