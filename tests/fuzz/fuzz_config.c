/* fuzz_config.c - arbitrary bytes as prometheus.yml and as a file of target groups.
 *
 * OPINION  Nothing crashes or leaks; a failure has a text. What is accepted prints; what is printed,
 *          read and printed again, soon prints the same ever after. Not at once: the first reading may
 *          bring back defaults in place of zeros that are not printed (src/config/print.c, P2), and
 *          every reading expands the $ of external labels once more. */
#include <stdlib.h>
#include <string.h>

#include "src/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void warn_nobody(void *ctx, const char *text)
{
    (void)ctx;
    if (!*text)
        abort();
}

/* Loads and prints; false if it is refused. */
static bool round_trip(struct nx_slice text, struct buf *printed)
{
    struct config *cfg = NULL;
    struct nx_err err = {0};
    struct config_opts opts = {.only_main_file = true};
    nx_status st = config_parse(&cfg, text, "fuzz.yml", "/nonexistent", &opts, &err);

    buf_init(printed, 0);
    if (st) {
        if (cfg || !*err.text)
            abort();
        return false;
    }
    config_yaml(cfg, printed);
    config_warnings(cfg, warn_nobody, NULL);
    if (printed->failed)
        abort();
    config_unref(cfg);
    return true;
}

static void read_groups(struct nx_slice text)
{
    struct arena *a = arena_new(64u << 20);
    struct config_static_sd groups = {0};
    struct nx_err err = {0};

    if (a && !config_parse_target_groups(a, text, &groups, &err)) {
        for (size_t i = 0; i < groups.n; i++) {
            for (uint32_t k = 0; k < groups.v[i].labels.n; k++) {
                if (!label_name_valid(groups.v[i].labels.v[k].name))
                    abort();
            }
        }
    }
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nx_slice text = {(const char *)data, size};
    struct buf last, next;
    bool same = false;

    unsetenv("GOGC");
    read_groups(text);
    if (round_trip(text, &last)) {
        for (int i = 0; i < 40 && !same && round_trip(buf_view(&last), &next); i++) {
            same = nx_slice_eq(buf_view(&last), buf_view(&next));
            buf_done(&last);
            last = next;
            if (i == 39)
                abort();
        }
    }
    buf_done(&last);
    return 0;
}
