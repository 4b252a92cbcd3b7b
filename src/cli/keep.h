/* keep.h - rules of retention, from their file to what the store takes. Private to src/cli. */
#pragma once

#include "src/config/config.h"
#include "storage/storage.h"

struct keep_file {
    struct arena *arena;
    struct storage_rules rules; /* matchers and all in the arena */
};

/* Reads the file; path "": no rules. Whole or not at all; the text names file, line and field. */
NX_NODISCARD nx_status keep_file_load(struct keep_file *out, const char *path, struct nx_err *err);
void keep_file_done(struct keep_file *k); /* accepts all zero */
