#include "src/cli/tool.h"

/* tsdb_import.c - `tsdb import`: says on standard output which blocks were made, on standard error all else.
 *
 * EXIT     0 everything that can be stored is in; 1 the import failed, and may be run again; 2 what was damaged
 *          (or changed meanwhile) is missing, the rest is in. */

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/cli/tsdb.h"
#include "src/promdata/promdata.h"

#define MAX_TOLD 200u /* places of damage that are printed */

struct telling {
    struct tsdb_table table;
    bool quiet, live; /* live: progress on a terminal */
    bool changed;     /* the folder, while it was read */
    uint64_t damaged;
};

static void end_line(struct telling *t)
{
    if (t->live)
        fputs("\r\033[K", stderr);
}

static void on_damage(void *ctx, const char *path, uint64_t offset, const char *what)
{
    struct telling *t = ctx;

    end_line(t);
    if (t->damaged++ < MAX_TOLD)
        fprintf(stderr, "damaged: %s, at %" PRIu64 ": %s\n", path, offset, what);
}

static void on_note(void *ctx, const char *text)
{
    end_line(ctx);
    fprintf(stderr, "note: %s\n", text);
}

static void on_block(void *ctx, const struct storage_import_block *b)
{
    struct telling *t = ctx;

    if (t->quiet)
        return;
    end_line(t);
    tsdb_table_written(&t->table, b);
}

static void on_progress(void *ctx, const char *what, size_t done, size_t of)
{
    struct telling *t = ctx;

    if (!t->live)
        return;
    fprintf(stderr, "\r\033[K%zu of %zu: %s", done + 1, of, what);
    fflush(stderr);
}

static void count_line(uint64_t n, const char *text)
{
    if (n)
        fprintf(stderr, "%14" PRIu64 "  %s\n", n, text);
}

static void print_counts(const struct promdata_result *r, bool dry)
{
    fprintf(stderr, "%14" PRIu64 "  blocks of Prometheus read\n", r->blocks - r->blocks_refused);
    count_line(r->blocks_refused, "blocks of Prometheus that can't be read, left out");
    if (!dry)
        fprintf(stderr, "%14" PRIu64 "  blocks written\n", r->written);
    count_line(r->present, "blocks that an earlier import wrote, left as they are");
    fprintf(stderr, "%14" PRIu64 "  samples %s\n", r->samples,
            dry ? "to be written, at most" : "written");
    count_line(r->equal, "samples that were there twice, with the same value");
    count_line(r->conflicting,
               "samples that were there twice, with two values: the first was kept");
    count_line(r->covered, "samples of the log that blocks hold already");
    count_line(r->uncovered, "samples of the log before the end of the newest block, and in none: "
                             "Prometheus does not serve them either, left out");
    count_line(r->late, "samples of the log that Prometheus had refused as too late");
    count_line(r->deleted, "samples of the log that had been deleted");
    count_line(r->unknown_samples, "samples of the log whose series it does not name, left out");
    count_line(r->unknown_records, "records of the log of an unknown kind, left out");
    count_line(r->exemplar_records,
               "records of exemplars, which are kept in memory only, left out");
    count_line(r->torn, "unfinished ends of the log, as a crash leaves them");
    count_line(r->damaged, "places that are damaged, left out");
}

static void print_warnings(const struct promdata_result *r, const struct promdata_opts *o)
{
    if (r->histogram_samples)
        fprintf(stderr,
                "warning: native histograms can't be stored yet: %" PRIu64 " samples of %" PRIu64
                " series were left out\n",
                r->histogram_samples, r->histogram_series);
    if (r->changed)
        fprintf(stderr,
                "warning: %s changed while it was read: something still writes to it. Stop that, "
                "and run the import again\n",
                o->dir);
    if (r->damaged > MAX_TOLD)
        fprintf(stderr, "warning: %" PRIu64 " more places are damaged\n", r->damaged - MAX_TOLD);
    if (r->served)
        fprintf(stderr,
                "note: a Narthex is running on %s; it takes up the blocks within a minute\n",
                o->out);
}

/* ---- a Prometheus without a lock file, which is how Debian runs it -------------------------------- */

static bool is_written(const char *pid, const char *fd)
{
    char path[NAME_MAX * 2 + 32], line[128];
    unsigned flags = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%s/fdinfo/%s", pid, fd);
    f = fopen(path, "re");
    if (!f)
        return false;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "flags: %o", &flags) == 1)
            break;
    fclose(f);
    return (flags & O_ACCMODE) != O_RDONLY;
}

/* Whether the process has a file of the head open for writing; false also when we may not look. */
static bool writes_head(const char *pid, const char *dir)
{
    static const char *const heads[] = {"/wal/", "/wbl/", "/chunks_head/"};
    const size_t n = strlen(dir);
    char path[NAME_MAX + 32];
    struct dirent *e;
    bool found = false;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    d = opendir(path);
    while (d && !found && (e = readdir(d)) != NULL) {
        char to[PATH_MAX];
        const ssize_t len = readlinkat(dirfd(d), e->d_name, to, sizeof to - 1);
        to[len > 0 ? len : 0] = 0;
        if (strncmp(to, dir, n) != 0)
            continue;
        for (size_t i = 0; i < sizeof heads / sizeof *heads && !found; i++)
            found = strncmp(to + n, heads[i], strlen(heads[i])) == 0 && is_written(pid, e->d_name);
    }
    if (d)
        closedir(d);
    return found;
}

/* The process that writes to the head of `dir`, as far as can be seen from here; 0: none is seen. */
static int writer_of(const char *dir)
{
    char *real = realpath(dir, NULL);
    DIR *d = real ? opendir("/proc") : NULL;
    struct dirent *e;
    int pid = 0;

    while (d && !pid && (e = readdir(d)) != NULL)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && writes_head(e->d_name, real))
            pid = atoi(e->d_name);
    if (d)
        closedir(d);
    free(real);
    return pid;
}

static int say(nx_status st, const struct nx_err *err)
{
    if (st)
        fprintf(stderr, "error: %s\n", err->text);
    return st ? 1 : 0;
}

/* After the import; or, when that was interrupted, at once. */
static int swap(const char *dir, bool quiet)
{
    struct nx_err err = {0};
    const nx_status st = promdata_swap(fs_real(), dir, &err);

    if (!st && !quiet)
        fprintf(stderr,
                "%s is Narthex's now; Prometheus's files are in %s/prometheus, for you to delete\n",
                dir, dir);
    return say(st, &err);
}

static int import(const struct promdata_opts *o, struct telling *t)
{
    struct promdata_result r;
    struct nx_err err = {0};
    const nx_status st = promdata_import(o, &r, &err);

    end_line(t);
    if (st) {
        if (r.written)
            fprintf(stderr, "%" PRIu64 " blocks were written; run the command again to go on\n",
                    r.written);
        return say(st, &err);
    }
    if (!t->quiet)
        print_counts(&r, o->dry_run);
    print_warnings(&r, o);
    t->changed = r.changed;
    return r.damaged || r.changed ? 2 : 0;
}

int tool_tsdb_import(const struct flags *f)
{
    struct telling t = {.quiet = flags_bool(f, "quiet"),
                        .table.human = flags_bool(f, "human-readable")};
    struct promdata_opts o = {.fs = fs_real(),
                              .dir = f->args[0],
                              .out = flags_str(f, "output"),
                              .dry_run = flags_bool(f, "dry-run"),
                              .ctx = &t,
                              .damage = on_damage,
                              .note = on_note,
                              .block = on_block,
                              .progress = on_progress};
    const bool in_place = flags_bool(f, "in-place");
    const int writer = writer_of(o.dir);
    char *own = NULL;
    int code;

    if (writer) {
        fprintf(stderr,
                "error: a Prometheus is running on %s (process %d writes to its head): stop it "
                "first, or import a snapshot\n",
                o.dir, writer);
        return 1;
    }
    if (in_place && (*o.out || o.dry_run)) {
        fputs("error: --in-place goes neither with --output nor with --dry-run\n", stderr);
        return 1;
    }
    if (in_place && promdata_is_moving(o.fs, o.dir))
        return swap(o.dir, t.quiet);
    if (!*o.out && asprintf(&own, "%s/" PROMDATA_FOLDER, o.dir) < 0) {
        fputs("error: out of memory\n", stderr);
        return 1;
    }
    o.out = own ? own : o.out;
    t.live = !t.quiet && isatty(STDERR_FILENO);
    code = import(&o, &t);
    if (in_place && code != 1 && !t.changed)
        code = swap(o.dir, t.quiet) ? 1 : code;
    else if (code != 1 && !in_place && !t.quiet && !o.dry_run)
        fprintf(stderr, "Now start Narthex with --storage.tsdb.path=%s\n", o.out);
    tsdb_table_done(&t.table);
    free(own);
    return code;
}
