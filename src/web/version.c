#include "src/web/version.h"

/* version.c - the one file that the build's date and revision go into. */

const char web_revision[] = NX_REVISION;
const char web_build_date[] = NX_BUILD_DATE;
#if defined(__x86_64__)
const char web_arch[] = "amd64";
#elif defined(__aarch64__)
const char web_arch[] = "arm64";
#elif defined(__arm__)
const char web_arch[] = "arm";
#elif defined(__i386__)
const char web_arch[] = "386";
#else
const char web_arch[] = "unknown";
#endif
