/* process.h - what the system says of this process, for process_* and go_* metrics. Private to src/web. */
#pragma once

#include "src/base/status.h"

struct process_info {
    double cpu_s, start_s;
    uint64_t resident, virtual_bytes, virtual_max, open_fds, max_fds, threads;
    uint64_t net_in, net_out;
    uint64_t heap_used, heap_free, heap_total; /* of the allocator */
};
void process_info_get(struct process_info *out);
