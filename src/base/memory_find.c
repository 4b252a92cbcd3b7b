/* memory_find.c - how much memory this process can have: its control groups' limits, or the machine's.
 *
 * SHAPE   /proc/self/mountinfo says where the hierarchy with memory limits is mounted and which group
 *         stands at that place; /proc/self/cgroup says which group is ours. Between the two lie our
 *         folder and its parents, and the lowest limit of them holds. Version 2 keeps it in memory.max,
 *         version 1 in memory.limit_in_bytes of the "memory" hierarchy.
 * RULES   F1  A group that is not below the mounted one (a container without a cgroup namespace of its own)
 *             is read at the mounted one.
 *         F2  What can't be read or is no number ("max") sets no limit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"

#define PATH_BYTES 4096

struct hierarchy {
    char mount[PATH_BYTES]; /* "": not found */
    char at[PATH_BYTES];    /* the group that is mounted there */
    char own[PATH_BYTES];   /* ours */
    const char *file;
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

static void find_mounts(const char *root, struct hierarchy *v1, struct hierarchy *v2)
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
        else if (strcmp(type, "cgroup") == 0 && has_option(options, "memory"))
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
static void find_own(const char *root, struct hierarchy *v1, struct hierarchy *v2)
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
        else if (!has_option(controllers + 1, "memory"))
            continue;
        snprintf(h->own, sizeof h->own, "%s", path);
    }
    free(line);
    if (f)
        fclose(f);
}

/* The lowest limit from our group up to the mounted one; 0: none. */
static uint64_t lowest(const char *root, const struct hierarchy *h)
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
        uint64_t v = read_number(root, dir, h->file); /* F2 */
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

uint64_t memory_available(const char *root, const char **from)
{
    struct hierarchy *h = calloc(2, sizeof *h);
    uint64_t all = machine(root), low = 0;

    *from = "machine";
    if (!h)
        return all;
    h[0].file = "memory.limit_in_bytes";
    h[1].file = "memory.max";
    find_mounts(root, &h[0], &h[1]);
    find_own(root, &h[0], &h[1]);
    for (int i = 0; i < 2; i++) {
        uint64_t v = lowest(root, &h[i]);
        if (v && (!low || v < low))
            low = v;
    }
    free(h);
    if (low && (!all || low < all)) { /* version 1 writes no limit as a huge number */
        *from = "cgroup";
        return low;
    }
    return all;
}
