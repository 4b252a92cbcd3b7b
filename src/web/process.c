#include "src/web/process.h"

/* process.c - reads /proc/self. What can't be read stays 0. */

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "src/base/clock.h"

/* Fields of /proc/self/stat after the command's name, which may hold blanks and parentheses. */
static void read_stat(struct process_info *p)
{
    char line[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
    unsigned long long start = 0, threads = 0, vsize = 0;
    long rss = 0;
    char *at;

    if (f)
        fclose(f);
    line[n] = 0;
    at = strrchr(line, ')');
    if (!at || sscanf(at + 2,
                      "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %llu "
                      "%*d %llu %llu %ld",
                      &threads, &start, &vsize, &rss) != 4)
        return;
    p->threads = threads;
    p->virtual_bytes = vsize;
    p->resident = (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE);
    p->start_s = (double)start / (double)sysconf(_SC_CLK_TCK);
}

/* Start is counted from boot. */
static double boot_time_s(void)
{
    char line[256];
    unsigned long long s = 0;
    FILE *f = fopen("/proc/stat", "re");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "btime %llu", &s) == 1)
            break;
    if (f)
        fclose(f);
    return (double)s;
}

static uint64_t count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    uint64_t n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n > 3 ? n - 3 : 0; /* ".", ".." and the folder itself */
}

static void read_net(struct process_info *p)
{
    char names[2048], values[2048];
    FILE *f = fopen("/proc/self/net/netstat", "re");

    while (f && fgets(names, sizeof names, f) && fgets(values, sizeof values, f)) {
        char *n_at = NULL, *v_at = NULL;
        if (strncmp(names, "IpExt:", 6) != 0)
            continue;
        char *name = strtok_r(names, " \n", &n_at), *value = strtok_r(values, " \n", &v_at);
        for (; name && value;
             name = strtok_r(NULL, " \n", &n_at), value = strtok_r(NULL, " \n", &v_at)) {
            unsigned long long v = 0;
            if (sscanf(value, "%llu", &v) != 1)
                continue;
            if (strcmp(name, "InOctets") == 0)
                p->net_in = v;
            else if (strcmp(name, "OutOctets") == 0)
                p->net_out = v;
        }
    }
    if (f)
        fclose(f);
}

void process_info_get(struct process_info *out)
{
    struct process_info p = {0};
    struct rlimit rl;
    struct mallinfo2 m = mallinfo2();

    read_stat(&p);
    p.start_s += boot_time_s();
    p.cpu_s = (double)clock_process_cpu_ns() / 1e9;
    p.open_fds = count_fds();
    p.max_fds = getrlimit(RLIMIT_NOFILE, &rl) ? 0 : rl.rlim_cur;
    p.virtual_max = getrlimit(RLIMIT_AS, &rl) ? 0 : rl.rlim_cur;
    read_net(&p);
    p.heap_used = m.uordblks + m.hblkhd;
    p.heap_free = m.fordblks;
    p.heap_total = m.arena + m.hblkhd;
    *out = p;
}
