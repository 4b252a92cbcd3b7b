/* Any bodies, one after the other, through one target: each must append what parsing it afresh says,
 * whatever the layout of the one before made cheap. Bodies are separated by a byte of 0xff; the first
 * byte chooses format and rules. */
#include "../scrape/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const uint8_t *data, size_t size)
{
    struct label job = {nx_slice_of("job", 3), nx_slice_of("j", 1)};
    struct labels labels = {&job, 1};
    struct sample_rules rules = {0};
    struct ingest_target t = {&rules, &labels};
    struct nx_mutex lock;
    struct ingest_env env = {.pool = intern_new(), .status_lock = &lock};
    struct ingest in = {0};
    struct ingest_scratch s;
    struct model m = {0};
    int64_t now = 1700000000000;
    int bodies = 0;

    rules.honor_timestamps = data[0] & 2;
    rules.honor_labels = data[0] & 4;
    nx_mutex_init(&lock, NX_RANK_TARGET);
    NX_ASSERT_ALWAYS(ingest_scratch_init(&s, NULL) == NX_OK);
    for (const uint8_t *p = data + 1, *end = data + size; p < end && bodies < 6; bodies++) {
        const uint8_t *to = memchr(p, 0xff, (size_t)(end - p));
        size_t len = (size_t)((to ? to : end) - p);
        char *body = malloc(len + 1);
        memcpy(body, p, len);
        body[len] = '\n';
        now += 15000;
        (void)model_check(&m, &in, &env, &t, &s, data[0] & 1 ? EXPO_OPENMETRICS : EXPO_TEXT, body,
                          len, now);
        model_check_columns(&in);
        free(body);
        p += len + 1;
    }
    model_free(m.prev, m.n_prev);
    ingest_done(&in, env.pool);
    ingest_scratch_done(&s);
    intern_free(env.pool);
    nx_mutex_done(&lock);
    fake_forget();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0)
        run(data, size);
    return 0;
}
