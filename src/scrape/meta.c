/* meta.c - metric families of a target.
 *
 * RULES   M1  An entry keeps its index as long as it lives: layouts refer to it.
 *         M2  Only a TYPE, HELP or UNIT line that says something else than before takes the lock. */
#include "src/scrape/meta.h"

#include <stdlib.h>
#include <string.h>

static bool same_text(const struct intern *pool, uint32_t id, struct nx_slice s)
{
    return id ? nx_slice_eq(intern_str(pool, id), s) : false;
}

static uint32_t find(struct meta *m, const struct intern *pool, struct nx_slice name)
{
    for (uint32_t i = 0, at = m->next; i < m->n; i++, at++) {
        if (at >= m->n)
            at = 0;
        if (m->v[at].name && same_text(pool, m->v[at].name, name)) {
            m->next = at;
            return at;
        }
    }
    return UINT32_MAX;
}

bool meta_knows(struct meta *m, const struct intern *pool, struct nx_slice name)
{
    return find(m, pool, name) != UINT32_MAX;
}

/* A free place, with the lock held. */
static uint32_t place_locked(struct meta *m)
{
    if (m->aging || m->n == m->cap)
        for (uint32_t i = 0; i < m->n; i++)
            if (!m->v[i].name)
                return i;
    if (m->n == m->cap) {
        uint32_t cap = m->cap ? m->cap + m->cap / 2 : 16;
        struct meta_entry *v = reallocarray(m->v, cap, sizeof *v);
        if (!v)
            return UINT32_MAX;
        m->v = v;
        m->cap = cap;
    }
    return m->n++;
}

static bool replace(struct intern *pool, uint32_t *id, struct nx_slice s)
{
    uint32_t got = intern_get(pool, s);

    if (!got)
        return false;
    if (*id)
        intern_unref(pool, *id);
    *id = got;
    return true;
}

static uint32_t add_locked(struct meta *m, struct intern *pool, struct nx_slice name)
{
    uint32_t at = place_locked(m), id = intern_get(pool, name);

    if (at == UINT32_MAX || !id) {
        if (id)
            intern_unref(pool, id);
        if (at != UINT32_MAX)
            m->v[at] = (struct meta_entry){0};
        return UINT32_MAX;
    }
    m->v[at] = (struct meta_entry){.name = id};
    m->next = at;
    return at;
}

/* Does `e` say what the entry says already? */
static bool said(const struct meta_entry *me, const struct intern *pool, enum expo_format f,
                 const struct expo_entry *e)
{
    switch (e->kind) {
    case EXPO_TYPE:
        return me->type == e->type;
    case EXPO_HELP:
        return same_text(pool, me->help, e->text) && me->openmetrics == (f == EXPO_OPENMETRICS);
    default:
        return same_text(pool, me->unit, e->text);
    }
}

nx_status meta_set(struct meta *m, struct intern *pool, struct nx_mutex *lock, enum expo_format f,
                   const struct expo_entry *e, uint32_t iter, uint32_t *index, struct nx_err *err)
{
    uint32_t at = find(m, pool, e->name);
    bool ok = true;

    if (at == UINT32_MAX || !said(&m->v[at], pool, f, e)) { /* M2 */
        nx_lock(lock);
        if (at == UINT32_MAX)
            at = add_locked(m, pool, e->name);
        if (at == UINT32_MAX) {
            ok = false;
        } else if (e->kind == EXPO_TYPE) {
            m->v[at].type = (uint8_t)e->type;
        } else if (e->kind == EXPO_HELP) {
            ok = replace(pool, &m->v[at].help, e->text);
            m->v[at].openmetrics = f == EXPO_OPENMETRICS;
        } else {
            ok = replace(pool, &m->v[at].unit, e->text);
        }
        nx_unlock(lock);
    }
    if (!ok)
        return nx_fail(err, NX_NOMEM, "out of memory");
    m->v[at].last_iter = iter;
    *index = at;
    return NX_OK;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static bool eat(const char **p, const char *end, const char *bytes, size_t len)
{
    if ((size_t)(end - *p) < len || memcmp(*p, bytes, len) != 0)
        return false;
    *p += len;
    return true;
}

static bool eat_slice(const char **p, const char *end, struct nx_slice s)
{
    return eat(p, end, s.ptr, s.len);
}

static struct nx_slice text_of(const struct meta_entry *me, const struct intern *pool,
                               enum meta_which which, enum expo_format f)
{
    uint32_t id = which == META_HELP ? me->help : me->unit;

    if (which == META_TYPE)
        return nx_slice_str(f == EXPO_TEXT && me->type == EXPO_UNKNOWN ? "untyped"
                                                                       : expo_type_text(me->type));
    return id ? intern_str(pool, id) : nx_slice_of("", 0);
}

/* The end of the line that begins at p, or NULL if it is another. */
static const char *match(const struct meta *m, const struct intern *pool, uint32_t index,
                         enum meta_which which, enum expo_format f, const char *p, const char *end)
{
    static const char heads[][8] = {"# HELP ", "# TYPE ", "# UNIT "};
    const struct meta_entry *me;

    if (index >= m->n || !m->v[index].name)
        return NULL;
    me = &m->v[index];
    if (!eat(&p, end, heads[which], 7) || !eat_slice(&p, end, intern_str(pool, me->name)) ||
        !eat(&p, end, " ", 1) || !eat_slice(&p, end, text_of(me, pool, which, f)) ||
        !eat(&p, end, "\n", 1))
        return NULL;
    return p;
}

bool meta_try_line(const struct meta *m, const struct intern *pool, uint32_t index,
                   enum meta_which which, struct expo *x)
{
    const char *to = match(m, pool, index, which, x->format, x->at, x->end);

    if (!to)
        return false;
    x->at = to;
    if (which == META_TYPE)
        x->type = (enum expo_type)m->v[index].type;
    return true;
}

bool meta_is_plain(const struct meta *m, const struct intern *pool, uint32_t index,
                   enum meta_which which, enum expo_format f, struct nx_slice line)
{
    return match(m, pool, index, which, f, line.ptr, line.ptr + line.len) == line.ptr + line.len;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void forget(struct meta_entry *me, struct intern *pool)
{
    if (me->name)
        intern_unref(pool, me->name);
    if (me->help)
        intern_unref(pool, me->help);
    if (me->unit)
        intern_unref(pool, me->unit);
    *me = (struct meta_entry){0};
}

void meta_age(struct meta *m, struct intern *pool, struct nx_mutex *lock, uint32_t iter)
{
    bool aging = false;

    nx_lock(lock);
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->v[i].name && iter - m->v[i].last_iter > META_LIVES_SCRAPES)
            forget(&m->v[i], pool);
        aging |= !m->v[i].name || m->v[i].last_iter != iter;
    }
    m->aging = aging;
    nx_unlock(lock);
}

void meta_done(struct meta *m, struct intern *pool)
{
    for (uint32_t i = 0; i < m->n; i++)
        forget(&m->v[i], pool);
    free(m->v);
    *m = (struct meta){0};
}

size_t meta_text_bytes(const struct meta *m, const struct intern *pool, size_t *n_entries)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < m->n; i++) {
        const struct meta_entry *me = &m->v[i];
        if (!me->name)
            continue;
        ++*n_entries;
        bytes += (me->help ? intern_str(pool, me->help).len : 0) +
                 (me->unit ? intern_str(pool, me->unit).len : 0) + strlen(expo_type_text(me->type));
    }
    return bytes;
}
