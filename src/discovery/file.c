/* file.c - file_sd_configs: target groups in files that others write.
 *
 * WHY     Scripts and tools write these files while we run; a change must be noticed in a moment,
 *         and a file that is broken for a moment must not cost its targets.
 * RULES   F1  All files are read again when something happened in one of their folders, and every
 *             refresh_interval; a folder that cannot be watched is looked at every POLL_MS.
 *         F2  A file that cannot be read or understood keeps the groups it had; it is counted and
 *             logged. A file that is gone loses them.
 *         F3  Contents that are the same as before change nothing. */
#include "src/discovery/mechanism.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/fs.h"
#include "src/base/hash.h"
#include "src/base/limits.h"

#define POLL_MS 5000

struct sd_source_file {
    char *path;
    uint64_t hash;       /* of the contents that `groups` were read from */
    struct arena *arena; /* of groups; NULL: never understood */
    struct config_static_sd groups;
    int64_t mtime_ms;
    bool seen; /* in this scan */
};
struct files {
    char **patterns,
        **dirs; /* dirs[i] holds the files of patterns[i]; the last part may be a pattern */
    bool *watched;
    size_t n_patterns;
    int64_t refresh_ms, next_ms;
    struct sd_source_file *v; /* sorted by path */
    size_t n, cap;
};

static void file_done(struct sd_source_file *f)
{
    free(f->path);
    arena_free(f->arena);
}

static void files_close(void *state, struct sd_env *env)
{
    struct files *s = state;

    if (!s)
        return;
    for (size_t i = 0; i < s->n_patterns; i++) {
        if (s->watched && s->watched[i])
            watcher_drop(&env->watcher, s->dirs[i]);
        if (s->patterns)
            free(s->patterns[i]);
        if (s->dirs)
            free(s->dirs[i]);
    }
    for (size_t i = 0; i < s->n; i++)
        file_done(&s->v[i]);
    free(s->patterns);
    free(s->dirs);
    free(s->watched);
    free(s->v);
    free(s);
}

/* The entry of a path, made if there is none; NULL out of memory. */
static struct sd_source_file *find_file(struct files *s, const char *path)
{
    size_t at = 0;
    int c = 1;

    while (at < s->n && (c = strcmp(s->v[at].path, path)) < 0)
        at++;
    if (at < s->n && !c)
        return &s->v[at];
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        struct sd_source_file *v = realloc(s->v, cap * sizeof *v);

        if (!v)
            return NULL;
        s->v = v;
        s->cap = cap;
    }
    memmove(s->v + at + 1, s->v + at, (s->n - at) * sizeof *s->v);
    s->v[at] = (struct sd_source_file){.path = strdup(path)};
    if (!s->v[at].path) {
        memmove(s->v + at, s->v + at + 1, (s->n - at) * sizeof *s->v);
        return NULL;
    }
    s->n++;
    return &s->v[at];
}

/* True if its groups are new. */
static bool read_again(struct sd_source_file *f, struct sd_env *env)
{
    struct arena *arena = NULL;
    struct config_static_sd groups = {0};
    struct fs_stat stat = {0};
    struct nx_err err = {0};
    struct buf text;
    uint64_t hash;
    bool changed = false;

    buf_init(&text, NX_LIMIT_SD_FILE_BYTES);
    if (fs_read_file(fs_real(), f->path, &text, &err))
        goto failed;
    hash = hash_bytes(text.ptr, text.len);
    if (f->arena && f->hash == hash)
        goto done; /* F3 */
    if (!(arena = arena_new(0))) {
        nx_fail(&err, NX_NOMEM, "out of memory");
        goto failed;
    }
    if (discovery_parse(f->path, buf_view(&text), arena, &groups, &err))
        goto failed;
    arena_free(f->arena);
    f->arena = arena;
    f->groups = groups;
    f->hash = hash;
    arena = NULL;
    changed = true;
done:
    if (!fs_real()->stat(fs_real(), f->path, &stat, NULL))
        f->mtime_ms = stat.mtime_ms;
    buf_done(&text);
    return changed;
failed: /* F2 */
    env->stats.file_read_errors++;
    log_error("Error reading file", "component", "discovery manager scrape", "discovery", "file",
              "path", f->path, "err", err.text);
    arena_free(arena);
    buf_done(&text);
    return false;
}

/* Folders that did not exist or could not be watched may be there now. */
static void watch_folders(struct files *s, struct sd_env *env)
{
    for (size_t i = 0; i < s->n_patterns; i++) {
        if (s->watched[i] && !watcher_alive(&env->watcher, s->dirs[i])) {
            watcher_drop(&env->watcher, s->dirs[i]);
            s->watched[i] = false;
        }
        if (!s->watched[i])
            s->watched[i] = watcher_add(&env->watcher, s->dirs[i]);
    }
}

static bool all_watched(const struct files *s)
{
    for (size_t i = 0; i < s->n_patterns; i++) {
        if (!s->watched[i])
            return false;
    }
    return true;
}

/* Reads every file that the patterns name now. */
static bool scan(struct files *s, struct sd_env *env)
{
    struct arena *a = arena_new(0);
    bool changed = false;
    size_t kept = 0;

    if (!a)
        return false;
    for (size_t i = 0; i < s->n; i++)
        s->v[i].seen = false;
    for (size_t i = 0; i < s->n_patterns; i++) {
        struct config_strings found = {0};
        nx_status st = config_glob(s->patterns[i], a, &found, NULL);

        if (st == NX_BADINPUT)
            continue; /* no pattern: it names no file */
        if (st)
            goto done; /* out of memory: as if nothing had happened */
        for (size_t k = 0; k < found.n; k++) {
            struct sd_source_file *f = find_file(s, found.v[k].ptr);

            if (!f)
                goto done;
            if (!f->seen)
                changed |= read_again(f, env);
            f->seen = true;
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        if (s->v[i].seen) {
            s->v[kept++] = s->v[i];
            continue;
        }
        changed |= s->v[i].arena != NULL;
        file_done(&s->v[i]);
    }
    s->n = kept;

done:
    arena_free(a);
    return changed;
}

static bool scan_timed(struct files *s, struct sd_env *env, int64_t mono_ms)
{
    int64_t start = clock_mono_ns();
    bool changed;

    watch_folders(s, env);
    changed = scan(s, env);
    env->stats.file_scans++;
    env->stats.file_scan_seconds += (double)(clock_mono_ns() - start) / 1e9;
    s->next_ms =
        mono_ms + (all_watched(s) || s->refresh_ms < POLL_MS ? s->refresh_ms : POLL_MS); /* F1 */
    return changed;
}

static char *dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static nx_status files_open(void **out, const struct config_sd *sd, struct sd_env *env,
                            int64_t mono_ms, struct nx_err *err)
{
    const struct config_file_sd *cfg = sd->u.file;
    struct files *s = calloc(1, sizeof *s);
    nx_status st = NX_NOMEM;

    if (!s)
        goto done;
    s->refresh_ms = cfg->refresh_interval_ms > 0 ? cfg->refresh_interval_ms : 300000;
    s->n_patterns = cfg->files.n;
    s->patterns = calloc(cfg->files.n, sizeof *s->patterns);
    s->dirs = calloc(cfg->files.n, sizeof *s->dirs);
    s->watched = calloc(cfg->files.n, sizeof *s->watched);
    if (!s->patterns || !s->dirs || !s->watched)
        goto done;
    for (size_t i = 0; i < cfg->files.n; i++) {
        s->patterns[i] = strdup(cfg->files.v[i].ptr);
        s->dirs[i] = dir_of(cfg->files.v[i].ptr);
        if (!s->patterns[i] || !s->dirs[i])
            goto done;
    }
    scan_timed(s, env, mono_ms);
    *out = s;
    s = NULL;
    st = NX_OK;

done:
    files_close(s, env);
    return st ? nx_fail(err, st, "out of memory") : NX_OK;
}

static bool files_poll(void *state, struct sd_env *env, int64_t mono_ms)
{
    struct files *s = state;
    bool due = mono_ms >= s->next_ms;

    for (size_t i = 0; i < s->n_patterns && !due; i++)
        due = watcher_touched(&env->watcher, s->dirs[i]);
    return due && scan_timed(s, env, mono_ms);
}

static int64_t files_next_ms(const void *state)
{
    return ((const struct files *)state)->next_ms;
}

static nx_status files_groups(const void *state, struct arena *a, struct discovery_groups *to,
                              struct nx_err *err)
{
    const struct files *s = state;
    nx_status st = NX_OK;

    for (size_t i = 0; i < s->n; i++) {
        const struct sd_source_file *f = &s->v[i];
        struct label path = {nx_slice_str("__meta_filepath"), nx_slice_str(f->path)};

        for (size_t g = 0; g < f->groups.n && !st; g++) {
            struct discovery_group *group = groups_add(a, to);
            char *source = group ? arena_printf(a, "%s:%zu", f->path, g) : NULL;

            if (!source)
                return arena_failed(a, err);
            group->source = nx_slice_str(source);
            st = group_copy(a, &f->groups.v[g], path, group, err);
        }
    }
    return st;
}

static size_t files_count(const void *state)
{
    const struct files *s = state;
    size_t n = 0;

    for (size_t i = 0; i < s->n; i++) {
        for (size_t g = 0; g < s->v[i].groups.n; g++)
            n += s->v[i].groups.v[g].targets.n;
    }
    return n;
}

static nx_status files_files(const void *state, struct arena *a, struct discovery_stats *to,
                             struct nx_err *err)
{
    const struct files *s = state;
    struct discovery_file_stat *v =
        arena_grow(a, to->files, to->n_files * sizeof *v, (to->n_files + s->n) * sizeof *v);

    if (!v)
        return arena_failed(a, err);
    to->files = v;
    for (size_t i = 0; i < s->n; i++) {
        char *path = arena_strdup(a, s->v[i].path);

        if (!path)
            return arena_failed(a, err);
        v[to->n_files++] = (struct discovery_file_stat){nx_slice_str(path), s->v[i].mtime_ms};
    }
    return NX_OK;
}

const struct sd_mechanism sd_file = {
    .kind = CONFIG_SD_FILE,
    .open = files_open,
    .close = files_close,
    .poll = files_poll,
    .next_ms = files_next_ms,
    .groups = files_groups,
    .count = files_count,
    .files = files_files,
};
