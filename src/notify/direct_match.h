/* direct_match.h - matchers as Alertmanager writes them: severity=~"page|warn". Private to src/notify. */
#pragma once

#include "src/base/arena.h"
#include "src/base/labels.h"
#include "src/base/regex.h"

struct match {
    struct nx_slice name, value;
    bool negative;
    struct regex *re; /* NULL: equal, or not */
};
struct match_list {
    struct match *v;
    size_t n, cap;
};
/* Appends the matchers of a text: one, or several with commas between, in braces or not. Values may stand without
 * quotes. Strings go to the arena, `list` to malloc. On failure the text says what is wrong and where; what was
 * before stays. */
NX_NODISCARD nx_status match_parse(struct match_list *list, struct arena *a, struct nx_slice text,
                                   struct nx_err *err);
void match_list_done(struct match_list *list);
/* All of them; a label that is missing is empty. */
bool match_all(const struct match_list *list, const struct labels *ls);
void match_print(struct buf *b, const struct match_list *list); /* {a="b",c=~"d"} */
