#include "src/cli/tsdb.h"

/* tsdb_table.c - blocks as promtool lists them: Go's tabwriter with cells of 13 characters at least. */

#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"

enum { COLUMNS = 8, COLUMN_MIN = 13 };

/* 1MiB387KiB599B, as promtool writes sizes. */
static void human_bytes(char to[40], uint64_t v)
{
    static const char units[] = "KMGTPE";
    size_t n = 0;

    for (int u = 6; u > 0; u--) {
        uint64_t part = v >> (10 * u);
        v -= part << (10 * u);
        if (part)
            n += (size_t)snprintf(to + n, 40 - n, "%llu%ciB", (unsigned long long)part,
                                  units[u - 1]);
    }
    if (v || !n)
        snprintf(to + n, 40 - n, "%lluB", (unsigned long long)v);
}

/* Whole seconds, as promtool cuts them. */
static void human_time(char to[40], int64_t ms)
{
    char text[40];

    clock_format_rfc3339(text, (ms / 1000 - (ms % 1000 < 0)) * 1000000000);
    snprintf(to, 40, "%.10s %.8s +0000 UTC", text, text + 11);
}

void tsdb_go_duration(char *to, size_t size, int64_t ns)
{
    const char *unit = ns < 1000 ? "ns" : ns < 1000000 ? "\xc2\xb5s" : ns < 1000000000 ? "ms" : "s";
    int decimals = ns < 1000 ? 0 : ns < 1000000 ? 3 : ns < 1000000000 ? 6 : 9;
    int64_t minutes = ns / 60000000000, scale = 1;
    char part[24] = "";
    size_t n = 0;

    for (int i = 0; i < decimals; i++)
        scale *= 10;
    if (minutes >= 60)
        n = (size_t)snprintf(to, size, "%lldh%lldm", (long long)(minutes / 60),
                             (long long)(minutes % 60));
    else if (minutes)
        n = (size_t)snprintf(to, size, "%lldm", (long long)minutes);
    if (decimals) {
        snprintf(part, sizeof part, ".%0*lld", decimals, (long long)(ns % scale));
        for (size_t at = strlen(part); part[at - 1] == '0' || part[at - 1] == '.';) {
            bool dot = part[--at] == '.';
            part[at] = 0;
            if (dot)
                break;
        }
    }
    snprintf(to + n, size - n, "%lld%s%s", (long long)(ns / scale % (decimals == 9 ? 60 : 1000)),
             part, ns ? unit : "s");
}

void tsdb_table_add(struct tsdb_table *t, const struct storage_block_info *b)
{
    void *grown = realloc(t->rows, (t->n + 1) * sizeof *t->rows);
    char(*row)[40];

    t->nomem = t->nomem || !grown;
    if (!grown)
        return;
    t->rows = grown;
    row = t->rows[t->n++];
    snprintf(row[0], 40, "%s", b->ulid);
    if (t->human) {
        human_time(row[1], b->min_ms);
        human_time(row[2], b->max_ms);
        human_bytes(row[7], b->bytes);
    } else {
        snprintf(row[1], 40, "%lld", (long long)b->min_ms);
        snprintf(row[2], 40, "%lld", (long long)b->max_ms);
        snprintf(row[7], 40, "%llu", (unsigned long long)b->bytes);
    }
    tsdb_go_duration(row[3], sizeof row[3], tsdb_ms_to_ns(b->max_ms - b->min_ms));
    snprintf(row[4], 40, "%llu", (unsigned long long)b->samples);
    snprintf(row[5], 40, "%llu", (unsigned long long)b->chunks);
    snprintf(row[6], 40, "%llu", (unsigned long long)b->series);
}

/* With two blanks between cells. */
void tsdb_table_print(struct tsdb_table *t, bool header)
{
    static const char *const head[COLUMNS] = {"BLOCK ULID",  "MIN TIME",   "MAX TIME",   "DURATION",
                                              "NUM SAMPLES", "NUM CHUNKS", "NUM SERIES", "SIZE"};
    size_t width[COLUMNS];

    for (size_t c = 0; c < COLUMNS; c++) {
        width[c] = COLUMN_MIN;
        if (header && strlen(head[c]) + 2 > width[c])
            width[c] = strlen(head[c]) + 2;
        for (size_t r = 0; r < t->n; r++)
            if (strlen(t->rows[r][c]) + 2 > width[c])
                width[c] = strlen(t->rows[r][c]) + 2;
    }
    for (size_t c = 0; c < COLUMNS && header; c++)
        printf("%-*s%s", c + 1 < COLUMNS ? (int)width[c] : 0, head[c], c + 1 < COLUMNS ? "" : "\n");
    for (size_t r = 0; r < t->n; r++)
        for (size_t c = 0; c < COLUMNS; c++)
            printf("%-*s%s", c + 1 < COLUMNS ? (int)width[c] : 0, t->rows[r][c],
                   c + 1 < COLUMNS ? "" : "\n");
    t->n = 0;
}

void tsdb_table_written(struct tsdb_table *t, const struct storage_import_block *b)
{
    struct storage_block_info info = {.min_ms = b->min_ms,
                                      .max_ms = b->max_ms,
                                      .samples = b->samples,
                                      .chunks = b->chunks,
                                      .series = b->series,
                                      .bytes = b->bytes};

    memcpy(info.ulid, b->ulid, sizeof info.ulid);
    tsdb_table_add(t, &info);
    tsdb_table_print(t, !t->headed);
    fflush(stdout);
    t->headed = true;
}

void tsdb_table_done(struct tsdb_table *t)
{
    free(t->rows);
    *t = (struct tsdb_table){0};
}
