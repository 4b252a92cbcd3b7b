/* simdisk.h - what a simulated disk holds: what a program sees, and what would survive a power cut.
 *
 * The lower half of simfs; tests include simfs.h. No locking here, and running out of memory ends
 * the test program. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/test.h"

struct sim_bytes {
    char *v;
    size_t len, cap;
};

/* A change of a file's bytes that no sync has made durable yet. */
struct sim_change {
    struct sim_change *next;
    uint64_t off; /* a truncation: the new length */
    char *bytes;  /* NULL: a truncation */
    size_t len;
    bool doomed; /* a failed sync lost it: seen until the power goes, never durable */
};

struct sim_name {
    char *name;
    struct sim_node *node;
};

struct sim_names {
    struct sim_name *v;
    size_t n;
};

struct sim_node { /* a file or a folder */
    struct sim_node *next;
    bool is_dir, locked, marked;
    unsigned links, opens;
    int64_t mtime_ms;
    struct sim_bytes seen, durable;
    struct sim_change *changes, *last_change;
    struct sim_names seen_names, durable_names; /* sorted */
};

/* A change of names that no sync of the folder has made durable yet. */
struct sim_dirop {
    struct sim_dirop *next;
    struct sim_node *from_dir, *to_dir; /* either may be NULL */
    char *from, *to;
    struct sim_node *node;
};

struct sim_disk {
    struct sim_node *root, *all;
    struct sim_dirop *dirops, *last_dirop;
    struct test_random random;
};

void sim_disk_init(struct sim_disk *d, uint64_t seed);
void sim_disk_done(struct sim_disk *d);

struct sim_node *sim_node_new(struct sim_disk *d, bool is_dir);
struct sim_node *sim_find(const struct sim_node *dir, struct nx_slice name); /* as seen */

/* Changes what is seen, and remembers that it is not durable. */
void sim_write(struct sim_node *file, uint64_t off, const void *from, size_t len);
void sim_truncate(struct sim_node *file, uint64_t bytes);
/* Takes `from` out of from_dir (unless NULL) and puts `node` into to_dir as `to` (unless NULL),
 * replacing what has that name. */
void sim_move(struct sim_disk *d, struct sim_node *from_dir, struct nx_slice from,
              struct sim_node *to_dir, struct nx_slice to, struct sim_node *node);

void sim_sync(struct sim_node *file);
void sim_sync_failed(struct sim_disk *d,
                     struct sim_node *file); /* loses some, chosen by the seed */
void sim_sync_dir(struct sim_disk *d, struct sim_node *dir);

/* The power goes: of what is not durable the seed says what is kept, lost or torn. */
void sim_disk_lose(struct sim_disk *d);

uint64_t sim_disk_used(const struct sim_disk *d); /* bytes of files that are linked or open */
