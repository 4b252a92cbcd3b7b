/* quiet.c - a log that nobody reads. */
#include "tests/support/quiet.h"

#include "src/base/clock.h"
#include "src/base/log.h"
#include "tests/support/oom.h"

static void drop(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    (void)line;
    (void)len;
}

void quiet_log(void)
{
    log_capture(drop, NULL);
}

int quiet_setup(void **state)
{
    (void)state;
    clock_fake_off();
    oom_off();
    quiet_log();
    return 0;
}
