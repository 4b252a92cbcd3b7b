/* fs_overlay.h - a file system that takes changes into memory and leaves the one below as it is.
 *
 * What reads a folder by opening it as its owner would (cutting torn tails, removing what is
 * unfinished, beginning a file) does so over this one when the folder is somebody else's: not a byte,
 * not a name and no lock changes below.
 *
 * Owner    fs_overlay_new() and fs_overlay_free(); files must be closed before. `below` outlives it.
 * Threads  any. A file that is only read costs nothing but the call below.
 * Units    all changed bytes together are bounded: NX_NOSPACE, as on a full disk. */
#pragma once

#include "src/base/fs.h"

NX_NODISCARD nx_status fs_overlay_new(struct fs **out, struct fs *below, size_t limit_bytes,
                                      struct nx_err *err);
void fs_overlay_free(struct fs *fs); /* accepts NULL */
