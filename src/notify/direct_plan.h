/* direct_plan.h - the file of direct notification, ready for use: matchers and templates parsed. Private to
 * src/notify.
 *
 * Owner    shared by reference; nothing of it changes.
 * Threads  any. */
#pragma once

#include "src/config/config.h"
#include "src/notify/direct.h"
#include "src/notify/direct_match.h"
#include "src/template/template.h"

/* The fields of a receiver that are templates. */
enum direct_text {
    TEXT_TITLE,
    TEXT_TEXT,
    TEXT_HTML,
    TEXT_FALLBACK,
    TEXT_PRETEXT,
    TEXT_FOOTER,
    TEXT_TITLE_LINK,
    TEXT_COLOR,
    TEXT_CHANNEL,
    TEXT_USERNAME,
    TEXT_ICON_EMOJI,
    TEXT_ICON_URL,
    TEXT_CONTENT,
    TEXT_AVATAR_URL,
    TEXT_CLIENT,
    TEXT_CLIENT_URL,
    TEXT_SEVERITY,
    TEXT_SOURCE,
    TEXT_CLASS,
    TEXT_COMPONENT,
    TEXT_GROUP,
    TEXT_PRIORITY,
    TEXT_TAGS,
    TEXT_CLICK,
    TEXT_TO,
    TEXT_FROM,
    TEXT_COUNT
};

struct direct_receiver {
    const struct config_notify_receiver *cfg;
    const struct config_notify_via *via;
    struct match_list match;   /* none: everything */
    struct nx_slice *group_by; /* sorted */
    size_t n_group_by;
    bool by_all;                              /* "..." */
    struct nx_slice matchers_text;            /* {a="b"}: a part of the group's key */
    const struct template *texts[TEXT_COUNT]; /* NULL: nothing is said, and there is no default */
    const struct template **details, **links,
        **headers; /* as in `via`; links: href, text, href, ... */
};
struct direct_silence {
    const struct config_notify_silence *cfg;
    struct match_list match;
};
struct direct_plan {
    struct arena *arena;
    struct config_notify cfg;
    struct template_library *library;
    size_t n_template_files;
    struct direct_receiver *receivers;
    struct direct_silence *silences;
    unsigned refs; /* atomic */
};

/* direct_plan_load(), and more: direct.h. This one opens no files of templates. */
NX_NODISCARD nx_status direct_plan_parse(struct direct_plan **out, struct nx_slice text,
                                         const char *path, struct nx_err *err);
struct direct_plan *direct_plan_ref(struct direct_plan *p);

bool direct_plan_silenced(const struct direct_plan *p, const struct labels *ls, int64_t now_ms);
