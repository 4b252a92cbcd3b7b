/* cgroup.c - how much memory and how many processors this process can have: its control groups' limits, or the
 * machine's.
 *
 * SHAPE   /proc/self/mountinfo says where the hierarchy with a controller's limits is mounted and which group
 *         stands at that place; /proc/self/cgroup says which group is ours. Between the two lie our
 *         folder and its parents, and the lowest limit of them holds. Version 2 keeps them in memory.max and
 *         cpu.max, version 1 in files of the hierarchies "memory" and "cpu".
 * RULES   F1  A group that is not below the mounted one (a container without a cgroup namespace of its own)
 *             is read at the mounted one.
 *         F2  What can't be read or is no number ("max") sets no limit. */
#include "src/base/cgroup.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096

struct hierarchy {
    char mount[PATH_BYTES]; /* "": not found */
    char at[PATH_BYTES];    /* the group that is mounted there */
    char own[PATH_BYTES];   /* ours */
};

/* A limit of a group, whose folder is `dir`; 0: none. */
typedef uint64_t limit_fn(const char *root, const char *dir);
struct controller {
    const char *name;
    limit_fn *v1, *v2;
};

static FILE *open_under(const char *root, const char *path)
{
    char full[PATH_BYTES * 2];

    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full)
        return NULL;
    return fopen(full, "re");
}

/* "max" is no number; 0 stands for none. */
static uint64_t read_number(const char *root, const char *dir, const char *file)
{
    char path[PATH_BYTES * 2];
    unsigned long long v = 0;
    FILE *f;

    if (snprintf(path, sizeof path, "%s/%s", dir, file) >= (int)sizeof path)
        return 0;
    f = open_under(root, path);
    if (!f)
        return 0;
    if (fscanf(f, "%llu", &v) != 1)
        v = 0;
    fclose(f);
    return v;
}

/* ---- limits of one group ----------------------------------------------------------------------- */

static uint64_t memory_v1(const char *root, const char *dir)
{
    return read_number(root, dir, "memory.limit_in_bytes");
}

static uint64_t memory_v2(const char *root, const char *dir)
{
    return read_number(root, dir, "memory.max");
}

/* Thousandths of a processor. */
static uint64_t share_of(unsigned long long quota, unsigned long long period)
{
    uint64_t n = period && quota < UINT64_MAX / 1000 ? quota * 1000 / period : 0;

    return quota && period && !n ? 1 : n;
}

static uint64_t cpu_v1(const char *root, const char *dir)
{
    const uint64_t quota = read_number(root, dir, "cpu.cfs_quota_us"); /* -1 is a large number */

    return quota > INT64_MAX ? 0 : share_of(quota, read_number(root, dir, "cpu.cfs_period_us"));
}

static uint64_t cpu_v2(const char *root, const char *dir)
{
    char path[PATH_BYTES * 2];
    unsigned long long quota = 0, period = 0;
    FILE *f;

    if (snprintf(path, sizeof path, "%s/cpu.max", dir) >= (int)sizeof path)
        return 0;
    f = open_under(root, path);
    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &quota, &period) != 2)
        period = 0;
    fclose(f);
    return share_of(quota, period);
}

static const struct controller memory = {"memory", memory_v1, memory_v2};
static const struct controller cpu = {"cpu", cpu_v1, cpu_v2};

/* ---- which groups are ours ---------------------------------------------------------------------- */

/* A field of mountinfo writes blanks and backslashes as \040 and the like. */
static void unescape(char *s)
{
    char *to = s;

    for (; *s; s++) {
        if (s[0] == '\\' && s[1] && s[2] && s[3]) {
            *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = 0;
}

static bool has_option(const char *options, const char *name)
{
    size_t len = strlen(name);

    for (const char *o = options; *o;) {
        size_t n = strcspn(o, ",\n");
        if (n == len && memcmp(o, name, n) == 0)
            return true;
        o += n + (o[n] != 0);
    }
    return false;
}

static void find_mounts(const char *root, const char *controller, struct hierarchy *v1,
                        struct hierarchy *v2)
{
    FILE *f = open_under(root, "/proc/self/mountinfo");
    char *line = NULL;
    size_t cap = 0;

    while (f && getline(&line, &cap, f) > 0) {
        char at[PATH_BYTES], mount[PATH_BYTES], type[64], options[PATH_BYTES];
        char *dash = strstr(line, " - ");
        struct hierarchy *h;
        if (!dash || sscanf(line, "%*s %*s %*s %4095s %4095s", at, mount) != 2 ||
            sscanf(dash + 3, "%63s %*s %4095s", type, options) != 2)
            continue;
        if (strcmp(type, "cgroup2") == 0)
            h = v2;
        else if (strcmp(type, "cgroup") == 0 && has_option(options, controller))
            h = v1;
        else
            continue;
        unescape(at);
        unescape(mount);
        if (h->mount[0])
            continue;
        strcpy(h->at, at);
        strcpy(h->mount, mount);
    }
    free(line);
    if (f)
        fclose(f);
}

/* Lines are "ID:CONTROLLERS:PATH"; version 2 has ID 0 and no controllers. */
static void find_own(const char *root, const char *controller, struct hierarchy *v1,
                     struct hierarchy *v2)
{
    FILE *f = open_under(root, "/proc/self/cgroup");
    char *line = NULL;
    size_t cap = 0;

    while (f && getline(&line, &cap, f) > 0) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        struct hierarchy *h = v1;
        if (!path)
            continue;
        *path++ = 0;
        path[strcspn(path, "\n")] = 0;
        if (controllers[1] == 0)
            h = v2;
        else if (!has_option(controllers + 1, controller))
            continue;
        snprintf(h->own, sizeof h->own, "%s", path);
    }
    free(line);
    if (f)
        fclose(f);
}

/* The lowest limit from our group up to the mounted one; 0: none. */
static uint64_t lowest(const char *root, const struct hierarchy *h, limit_fn *limit)
{
    char dir[PATH_BYTES * 2];
    size_t at = strcmp(h->at, "/") == 0 ? 0 : strlen(h->at), base = strlen(h->mount);
    const char *below = "";
    uint64_t low = 0;

    if (!h->mount[0])
        return 0;
    if (strncmp(h->own, h->at, at) == 0 && (h->own[at] == '/' || h->own[at] == 0))
        below = h->own + at;
    snprintf(dir, sizeof dir, "%s%s", h->mount, strstr(below, "/..") ? "" : below); /* F1 */
    for (;;) {
        uint64_t v = limit(root, dir); /* F2 */
        if (v && (!low || v < low))
            low = v;
        if (strlen(dir) <= base)
            return low;
        *strrchr(dir, '/') = 0;
    }
}

static uint64_t machine(const char *root)
{
    FILE *f = open_under(root, "/proc/meminfo");
    char line[256];
    unsigned long long kib = 0;

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemTotal: %llu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

/* The lowest limit in either version; 0: none. */
static uint64_t limit_of(const char *root, const struct controller *c)
{
    struct hierarchy *h = calloc(2, sizeof *h);
    uint64_t v1, v2;

    if (!h)
        return 0;
    find_mounts(root, c->name, &h[0], &h[1]);
    find_own(root, c->name, &h[0], &h[1]);
    v1 = lowest(root, &h[0], c->v1);
    v2 = lowest(root, &h[1], c->v2);
    free(h);
    return !v1 || (v2 && v2 < v1) ? v2 : v1;
}

uint64_t memory_available(const char *root, const char **from)
{
    const uint64_t all = machine(root), low = limit_of(root, &memory);

    *from = "machine";
    if (!low || (all && low >= all)) /* version 1 writes no limit as a huge number */
        return all;
    *from = "cgroup";
    return low;
}

unsigned cpus_available(const char *root)
{
    const uint64_t low = limit_of(root, &cpu);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0) /* else there are more than it has room for */
        n = CPU_COUNT(&set);
    if (low && n > 0 && low / 1000 < (uint64_t)n)
        n = (long)(low / 1000);
    return n > 0 ? (unsigned)n : 1;
}
