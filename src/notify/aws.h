/* aws.h - in whose name requests to AWS are made: from a sigv4 section to keys that sign. Private to src/notify.
 *
 * Owner    an identity belongs to a section's settings and never changes; a session to the thread that sends.
 * Threads  an identity: any. A session: one at a time.
 * Secrets  are in no error text. */
#pragma once

#include "src/base/arena.h"
#include "src/config/config.h"
#include "src/notify/sigv4.h"

/* ---- a profile of AWS's own files (aws_profile.c) ------------------------------------------------------- */

struct aws_profile {
    bool found;
    struct nx_slice access_key, secret_key, session_token, region, endpoint_url, role_arn,
        role_session_name, web_identity_token_file, source_profile, credential_source,
        credential_process, sso_start_url, sso_session, login_session;
};
/* Puts what a file says of a profile over what is there; strings go to the arena. `prefixed`: of a config file, whose
 * sections are [profile NAME], but [default]. */
NX_NODISCARD nx_status aws_profile_read(struct aws_profile *p, struct nx_slice text,
                                        const char *name, bool prefixed, struct arena *a,
                                        struct nx_err *err);

/* ---- who we are (aws_identity.c) ------------------------------------------------------------------------ */

enum aws_source { AWS_KEYS, AWS_WEB, AWS_CONTAINER, AWS_MACHINE };
struct aws_identity {
    struct arena *arena;
    struct nx_slice region, service;
    const char *sts_url; /* where roles are asked for */
    enum aws_source source;
    struct sigv4_keys keys; /* AWS_KEYS */
    struct aws_container {  /* AWS_CONTAINER */
        struct nx_slice url, token, token_file;
    } container;
    struct nx_slice machine_url; /* AWS_MACHINE */
    struct aws_web_identity {    /* a token of somebody else's that stands for a role */
        struct nx_slice token_file, role_arn, session_name;
    } web;
    struct nx_slice role_arn, external_id; /* a role to take on with these; empty: none */
};
/* What the section says, then the environment, then AWS's files: in the order of AWS's own tools. Asks nobody over
 * the network. NX_BADINPUT: there are no keys, or no region, in Prometheus's words. */
NX_NODISCARD nx_status aws_identity_new(struct aws_identity **out, const struct config_sigv4 *cfg,
                                        struct nx_err *err);
void aws_identity_free(struct aws_identity *id); /* accepts NULL */

/* Letters, digits and signs of ASCII, and no blank. */
bool aws_is_word(struct nx_slice s);

/* ---- keys in use (aws_session.c) ------------------------------------------------------------------------ */

struct aws_temporary {
    struct buf access, secret, token;
    int64_t ends_ms; /* 0: there are none */
};
void aws_temporary_init(struct aws_temporary *t);
void aws_temporary_done(struct aws_temporary *t);

struct aws_session;
/* Both are borrowed. NULL out of memory. */
struct aws_session *aws_session_new(const struct aws_identity *id, const char *user_agent);
void aws_session_free(struct aws_session *s); /* accepts NULL */
/* Signs a POST with keys that are good for a while. Where a role is to be taken on, that may ask AWS first: it
 * blocks for `timeout_ms` at most for each role, or until *cancel (atomic; may be NULL) is not 0. */
NX_NODISCARD nx_status aws_session_sign(struct aws_session *s, const char *url,
                                        struct nx_slice content_type, struct nx_slice body,
                                        int64_t timeout_ms, const int *cancel,
                                        struct sigv4_signed *out, struct nx_err *err);

/* Gets the keys of the machine, where these are what signs: whether there are any. Blocks as above. */
NX_NODISCARD nx_status aws_session_check(struct aws_session *s, int64_t timeout_ms,
                                         struct nx_err *err);

/* ---- of the container or the machine (aws_meta.c) -------------------------------------------------------- */

/* Blocks for `timeout_ms` at most for each request, of which there are three at most. */
NX_NODISCARD nx_status aws_meta_ask(const struct aws_identity *id, const char *user_agent,
                                    int64_t timeout_ms, const int *cancel, struct aws_temporary *to,
                                    struct nx_err *err);
/* Keys out of an answer; ends_ms is INT64_MAX for those that have no end. On failure `to` is as before. */
NX_NODISCARD nx_status aws_meta_keys(struct nx_slice json, struct aws_temporary *to,
                                     struct nx_err *err);

/* ---- AWS's answers (aws_answer.c) ----------------------------------------------------------------------- */

/* The text of the first element of that name, without its entities, into `to`. NX_NOTFOUND; NX_CORRUPT: it has no
 * end, or holds elements. */
NX_NODISCARD nx_status aws_element(struct nx_slice xml, const char *name, struct buf *to,
                                   struct nx_err *err);
