#include "tests/support/faults.h"

#include "tests/support/test.h"

const char *fault_name(enum fault f)
{
    return f == FAULT_POWER ? "power cut" : f == FAULT_KILL ? "kill" : "error";
}

void fault_arm(struct simfs *sim, enum fault f, uint64_t step)
{
    if (f == FAULT_POWER)
        simfs_cut_power_at(sim, step);
    else if (f == FAULT_KILL)
        simfs_kill_at(sim, step);
    else
        simfs_fail_at(sim, step);
}

bool fault_came(const struct simfs *sim, enum fault f)
{
    return f == FAULT_ERROR ? simfs_failed(sim) : simfs_power_was_cut(sim);
}

void fault_end(struct simfs *sim, enum fault f)
{
    if (f == FAULT_POWER)
        simfs_restore_power(sim);
    else
        simfs_restart(sim);
    simfs_heal(sim);
}

uint64_t fault_sweep(fault_run_fn *one, void *ctx, enum fault f, uint64_t all, uint64_t nth)
{
    uint64_t step = 1;

    while (one(ctx, f, 1, step))
        step += (step < all ? 1 : nth) * TEST_STRIDE;
    return step;
}

void fault_seeds(fault_run_fn *one, void *ctx, enum fault f, uint64_t seeds, uint64_t end,
                 uint64_t nth)
{
    for (uint64_t seed = 2; seed <= seeds; seed++)
        for (uint64_t step = seed; step < end; step += nth * TEST_STRIDE)
            (void)one(ctx, f, seed, step);
}
