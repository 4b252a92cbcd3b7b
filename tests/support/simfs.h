/* simfs.h - a file system in memory that fails when a test says so.
 *
 * Everything is decided by the seed and by the order of operations: the same test does the same
 * twice. Operations are all calls of struct fs but close and unlock; each counts one.
 *
 * Power loss   simfs_cut_power_at(n): the n-th operation from now, n counted from 1, fails with NX_IO,
 *              and so does everything after it. It may have been done, or in part. Then
 *              simfs_restore_power(): what was synced is there. Of all else the seed says what is kept,
 *              lost or torn: bytes without sync, and names (create, rename, link, unlink, mkdir) without
 *              sync_dir. Open files are stale then: closing them is all that works.
 * Kill         simfs_kill_at(n): the same, but nothing is lost. The n-th operation was not done, or,
 *              if it writes, in part.
 * Errors       simfs_fail_at(n): the n-th operation fails with NX_IO, later ones work. A write may
 *              have written a part; a sync loses some of the bytes for good, although they stay
 *              readable (as Linux does); all other operations have done nothing.
 * Full disk    simfs_set_space(bytes): files together hold no more. A write takes what fits and fails
 *              with NX_NOSPACE.
 *
 * Threads: any; the order of operations is then the caller's affair. */
#pragma once

#include "src/base/fs.h"

struct simfs;

/* There is always an answer: out of memory ends the program. */
struct simfs *simfs_new(uint64_t seed);
void simfs_free(struct simfs *sim); /* accepts NULL; files must be closed */
struct fs *simfs_fs(struct simfs *sim);

uint64_t simfs_ops(const struct simfs *sim); /* operations so far */

void simfs_cut_power_at(struct simfs *sim, uint64_t n);
void simfs_cut_power_now(struct simfs *sim);       /* between two operations */
bool simfs_power_was_cut(const struct simfs *sim); /* or killed; until restored */
void simfs_restore_power(
    struct simfs *sim); /* also ends all faults; if there was no cut, cuts first */

void simfs_kill_at(struct simfs *sim, uint64_t n);
void simfs_restart(
    struct simfs *sim); /* after a kill, or as one: stale files, locks free, all kept */

enum simfs_kind { /* for simfs_fail_kind_at, to be combined */
                  SIMFS_OPEN = 1,
                  SIMFS_READ = 2,
                  SIMFS_WRITE = 4, /* write and pwrite */
                  SIMFS_SYNC = 8,
                  SIMFS_SYNC_DIR = 16,
                  SIMFS_NAME = 32,  /* rename, link, unlink, mkdir, rmdir */
                  SIMFS_OTHER = 64, /* truncate, size, list, stat, lock */
                  SIMFS_ANY = 127
};
void simfs_fail_at(struct simfs *sim, uint64_t n);
void simfs_fail_kind_at(struct simfs *sim, unsigned kinds,
                        uint64_t n); /* the n-th of these kinds */
void simfs_fail_kind_from(struct simfs *sim, unsigned kinds, uint64_t n); /* and all later ones */
bool simfs_failed(
    const struct simfs *sim);       /* an operation was made to fail since it was asked for */
void simfs_heal(struct simfs *sim); /* ends errors; space and power stay as they are */

void simfs_set_space(struct simfs *sim, uint64_t bytes); /* UINT64_MAX: no bound */
uint64_t simfs_used(const struct simfs *sim);

/* Damages a file, synced or not: xors one byte. False if there is no such byte. Not an operation. */
bool simfs_flip(struct simfs *sim, const char *path, uint64_t off, uint8_t mask);
