/* simdisk.c - the two states of a simulated disk, and the way from one to the other.
 *
 * SHAPE   A node keeps its bytes twice: as seen, and as of its last sync, with the changes between in
 *         order. Folders keep their names likewise, but the changes of names are one list for the
 *         whole disk, since a rename touches two folders.
 * RULES   K1  Syncing a file makes its bytes durable, not its name; syncing a folder makes its names
 *             durable, not what they name.
 *         K2  A change of names is atomic: kept or lost, never half.
 *         K3  In one folder the changes of names become durable in order; different folders are
 *             independent, but for renames between them.
 *         K4  Unsynced bytes of a file meet one of four fates: all kept, all lost, kept up to a torn
 *             one, or each by itself kept, lost or torn. A lost write below a kept one reads as
 *             zeros.
 *         K5  After a failed sync some changes are lost although they stay visible: a later sync that
 *             succeeds does not bring them back. */
#include "tests/support/simdisk.h"

#include "src/base/clock.h"

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "simdisk: out of memory\n");
        abort();
    }
    return p;
}

static void bytes_resize(struct sim_bytes *b, size_t len)
{
    if (len > b->cap) {
        b->cap = len > b->cap * 2 ? len : b->cap * 2;
        b->v = must(realloc(b->v, b->cap));
    }
    if (len > b->len)
        memset(b->v + b->len, 0, len - b->len);
    b->len = len;
}

static void bytes_write(struct sim_bytes *b, uint64_t off, const char *from, size_t len)
{
    if (len == 0)
        return;
    if (off + len > b->len)
        bytes_resize(b, (size_t)(off + len));
    memcpy(b->v + off, from, len);
}

static void bytes_copy(struct sim_bytes *to, const struct sim_bytes *from)
{
    to->len = 0;
    bytes_write(to, 0, from->v, from->len);
}

void sim_disk_init(struct sim_disk *d, uint64_t seed)
{
    *d = (struct sim_disk){.random = {seed}};
    d->root = sim_node_new(d, true);
    d->root->links = 1;
}

static void drop_changes(struct sim_node *n)
{
    while (n->changes) {
        struct sim_change *c = n->changes;

        n->changes = c->next;
        free(c->bytes);
        free(c);
    }
    n->last_change = NULL;
}

static void names_clear(struct sim_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->v[i].name);
    free(names->v);
    *names = (struct sim_names){0};
}

static void free_dirop(struct sim_dirop *op)
{
    free(op->from);
    free(op->to);
    free(op);
}

void sim_disk_done(struct sim_disk *d)
{
    while (d->dirops) {
        struct sim_dirop *op = d->dirops;

        d->dirops = op->next;
        free_dirop(op);
    }
    while (d->all) {
        struct sim_node *n = d->all;

        d->all = n->next;
        drop_changes(n);
        names_clear(&n->seen_names);
        names_clear(&n->durable_names);
        free(n->seen.v);
        free(n->durable.v);
        free(n);
    }
}

struct sim_node *sim_node_new(struct sim_disk *d, bool is_dir)
{
    struct sim_node *n = must(calloc(1, sizeof *n));

    n->is_dir = is_dir;
    n->mtime_ms = clock_now_ms();
    n->next = d->all;
    d->all = n;
    return n;
}

static size_t names_find(const struct sim_names *names, struct nx_slice name, bool *there)
{
    size_t i = 0;
    int c = 1;

    while (i < names->n && (c = nx_slice_cmp(STR(names->v[i].name), name)) < 0)
        i++;
    *there = i < names->n && c == 0;
    return i;
}

struct sim_node *sim_find(const struct sim_node *dir, struct nx_slice name)
{
    bool there;
    size_t i = names_find(&dir->seen_names, name, &there);

    return there ? dir->seen_names.v[i].node : NULL;
}

static void names_remove(struct sim_names *names, struct nx_slice name)
{
    bool there;
    size_t i = names_find(names, name, &there);

    if (!there)
        return;
    free(names->v[i].name);
    names->n--;
    memmove(names->v + i, names->v + i + 1, (names->n - i) * sizeof *names->v);
}

static void names_set(struct sim_names *names, struct nx_slice name, struct sim_node *node)
{
    bool there;
    size_t i = names_find(names, name, &there);

    if (!there) {
        names->v = must(realloc(names->v, (names->n + 1) * sizeof *names->v));
        memmove(names->v + i + 1, names->v + i, (names->n - i) * sizeof *names->v);
        names->v[i].name = must(strndup(name.ptr, name.len));
        names->n++;
    }
    names->v[i].node = node;
}

static void names_copy(struct sim_names *to, const struct sim_names *from)
{
    names_clear(to);
    for (size_t i = 0; i < from->n; i++)
        names_set(to, STR(from->v[i].name), from->v[i].node);
}

static struct sim_change *add_change(struct sim_node *file, uint64_t off, size_t len)
{
    struct sim_change *c = must(calloc(1, sizeof *c));

    c->off = off;
    c->len = len;
    if (file->last_change)
        file->last_change->next = c;
    else
        file->changes = c;
    file->last_change = c;
    file->mtime_ms = clock_now_ms();
    return c;
}

void sim_write(struct sim_node *file, uint64_t off, const void *from, size_t len)
{
    struct sim_change *c;

    if (len == 0)
        return;
    c = add_change(file, off, len);
    c->bytes = must(malloc(len));
    memcpy(c->bytes, from, len);
    bytes_write(&file->seen, off, from, len);
}

void sim_truncate(struct sim_node *file, uint64_t bytes)
{
    add_change(file, bytes, 0);
    bytes_resize(&file->seen, (size_t)bytes);
}

static void apply_dirop(const struct sim_dirop *op, bool durable)
{
    if (op->from_dir)
        names_remove(durable ? &op->from_dir->durable_names : &op->from_dir->seen_names,
                     STR(op->from));
    if (op->to_dir)
        names_set(durable ? &op->to_dir->durable_names : &op->to_dir->seen_names, STR(op->to),
                  op->node);
}

void sim_move(struct sim_disk *d, struct sim_node *from_dir, struct nx_slice from,
              struct sim_node *to_dir, struct nx_slice to, struct sim_node *node)
{
    struct sim_dirop *op = must(calloc(1, sizeof *op));
    struct sim_node *replaced = to_dir ? sim_find(to_dir, to) : NULL;

    op->from_dir = from_dir;
    op->to_dir = to_dir;
    op->from = from_dir ? must(strndup(from.ptr, from.len)) : NULL;
    op->to = to_dir ? must(strndup(to.ptr, to.len)) : NULL;
    op->node = node;
    if (d->last_dirop)
        d->last_dirop->next = op;
    else
        d->dirops = op;
    d->last_dirop = op;
    apply_dirop(op, false);
    if (replaced)
        replaced->links--;
    if (from_dir)
        node->links--;
    if (to_dir)
        node->links++;
}

/* `len` bytes of a write, or the truncation, become durable. */
static void settle(struct sim_node *file, const struct sim_change *c, size_t len)
{
    if (c->bytes)
        bytes_write(&file->durable, c->off, c->bytes, len);
    else
        bytes_resize(&file->durable, (size_t)c->off);
}

void sim_sync(struct sim_node *file)
{
    for (const struct sim_change *c = file->changes; c; c = c->next) {
        if (!c->doomed)
            settle(file, c, c->len);
    }
    drop_changes(file);
}

void sim_sync_failed(struct sim_disk *d, struct sim_node *file)
{
    for (struct sim_change *c = file->changes; c; c = c->next) {
        if (test_random_below(&d->random, 2))
            c->doomed = true; /* K5 */
    }
}

/* Marks `dir` and the folders whose earlier changes those of `dir` build on. */
static void mark_needed(struct sim_disk *d, struct sim_node *dir)
{
    bool more = true;

    for (struct sim_node *n = d->all; n; n = n->next)
        n->marked = n == dir;
    while (more) { /* renames between folders are few: once or twice round */
        more = false;
        for (struct sim_dirop *op = d->dirops; op; op = op->next) {
            struct sim_node *a = op->from_dir, *b = op->to_dir;

            if (a && b && a->marked != b->marked)
                a->marked = b->marked = more = true;
        }
    }
}

void sim_sync_dir(struct sim_disk *d, struct sim_node *dir)
{
    struct sim_dirop **at = &d->dirops;

    mark_needed(d, dir);
    d->last_dirop = NULL;
    while (*at) {
        struct sim_dirop *op = *at;

        if ((op->from_dir && op->from_dir->marked) || (op->to_dir && op->to_dir->marked)) {
            apply_dirop(op, true);
            *at = op->next;
            free_dirop(op);
        } else {
            d->last_dirop = op;
            at = &op->next;
        }
    }
}

/* How many bytes of a torn write arrive: whole sectors, or any number. */
static size_t torn_len(struct sim_disk *d, size_t len)
{
    size_t n = (size_t)test_random_below(&d->random, len + 1);

    return test_random_below(&d->random, 2) ? n : n & ~(size_t)511;
}

static void lose_bytes(struct sim_disk *d, struct sim_node *file)
{
    enum { KEPT, LOST, CUT, SCATTERED } fate = (int)test_random_below(&d->random, 4); /* K4 */
    size_t n = 0, at = 0, cut;

    for (const struct sim_change *c = file->changes; c; c = c->next)
        n++;
    cut = (size_t)test_random_below(&d->random, n + 1);
    for (const struct sim_change *c = file->changes; c; c = c->next, at++) {
        uint64_t dice = test_random_below(&d->random, 3);
        bool whole = fate == KEPT || (fate == CUT && at < cut) || (fate == SCATTERED && dice == 0);
        bool torn = (fate == CUT && at == cut) || (fate == SCATTERED && dice == 1);

        if (c->doomed)
            continue;
        if (whole)
            settle(file, c, c->len);
        else if (torn && c->bytes)
            settle(file, c, torn_len(d, c->len));
    }
    drop_changes(file);
    bytes_copy(&file->seen, &file->durable);
}

static void lose_names(struct sim_disk *d)
{
    uint64_t keep_in_ten = test_random_below(&d->random, 11); /* 0: none, 10: all */

    for (struct sim_node *n = d->all; n; n = n->next)
        n->marked = false; /* true: the changes of this folder have ended (K3) */
    while (d->dirops) {
        struct sim_dirop *op = d->dirops;
        bool ended = (op->from_dir && op->from_dir->marked) || (op->to_dir && op->to_dir->marked) ||
                     test_random_below(&d->random, 10) >= keep_in_ten;

        if (!ended)
            apply_dirop(op, true);
        if (ended && op->from_dir)
            op->from_dir->marked = true;
        if (ended && op->to_dir)
            op->to_dir->marked = true;
        d->dirops = op->next;
        free_dirop(op);
    }
    d->last_dirop = NULL;
}

void sim_disk_lose(struct sim_disk *d)
{
    lose_names(d);
    for (struct sim_node *n = d->all; n; n = n->next) {
        n->links = n == d->root;
        n->opens = 0;
        n->locked = false;
        if (!n->is_dir)
            lose_bytes(d, n);
        names_copy(&n->seen_names, &n->durable_names);
    }
    for (struct sim_node *n = d->all; n; n = n->next) {
        for (size_t i = 0; i < n->seen_names.n; i++)
            n->seen_names.v[i].node->links++;
    }
}

uint64_t sim_disk_used(const struct sim_disk *d)
{
    uint64_t used = 0;

    for (const struct sim_node *n = d->all; n; n = n->next) {
        if (n->links || n->opens)
            used += n->seen.len;
    }
    return used;
}
