/* number.h - sample values, the common ones without a general parser. Private to src/expo. */
#pragma once

#include "src/base/status.h"

/* Reads a plain decimal at p, which must be followed somewhere by a byte that is no part of a number.
 * Returns the first byte after it, or NULL when the text is anything but a decimal that is exact by
 * one multiplication or division (then a general parser must look). */
const char *number_scan(const char *p, double *v);
/* The same, faster; so many bytes from p on must be there to be looked at. */
#define NUMBER_AHEAD 64
const char *number_scan_ahead(const char *p, double *v);

/* All of `s` as a sample value. On failure *why is Go's wording, up to and without " while parsing". */
NX_NODISCARD nx_status number_parse(struct nx_slice s, double *v, struct nx_err *err);
