/* faults.h - one fault at every step of what a test does: power goes, the process is killed, an operation fails.
 *
 * The test says what one run does, by fault_arm(), its work, fault_came(), fault_end() and its checks; a sweep
 * moves the fault through all of its steps. Threads: one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/support/simfs.h"

enum fault { FAULT_POWER, FAULT_KILL, FAULT_ERROR };

const char *fault_name(enum fault f); /* for messages */

void fault_arm(struct simfs *sim, enum fault f, uint64_t step);
bool fault_came(const struct simfs *sim, enum fault f);
/* After all was closed: power is back, or there is a new process; nothing fails any more. */
void fault_end(struct simfs *sim, enum fault f);

/* `one` makes a run with the fault at that step and returns fault_came(). */
typedef bool fault_run_fn(void *ctx, enum fault f, uint64_t seed, uint64_t step);

/* Runs with seed 1 at steps 1, 2, ... until the work ends before its fault: each step up to `all`, then each
 * `nth`-th, in strides of TEST_STRIDE. Returns the step that was not reached. */
uint64_t fault_sweep(fault_run_fn *one, void *ctx, enum fault f, uint64_t all, uint64_t nth);
/* With seeds 2 to `seeds`, each nth step below `end`. */
void fault_seeds(fault_run_fn *one, void *ctx, enum fault f, uint64_t seeds, uint64_t end,
                 uint64_t nth);
