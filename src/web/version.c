#include "src/web/version.h"

#include "src/web/web.h"

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

void web_version_text(struct buf *b, const char *name)
{
    buf_printf(b, "%s, version " NX_VERSION " (branch: " WEB_BRANCH ", revision: %s)\n", name,
               web_revision);
    buf_printf(b,
               "  build user:       " WEB_BUILD_USER "\n"
               "  build date:       %s\n"
               "  go version:       " WEB_GO_VERSION "\n"
               "  platform:         linux/%s\n"
               "  tags:             unknown\n"
               "  answers as:       Prometheus " WEB_PROMETHEUS_VERSION "\n",
               web_build_date, web_arch);
}
