#include "src/cli/cli.h"

/* cli.c - which of two programs this is.
 *
 * RULES   C1  By its name, a link to it, promtool is the tool and prometheus the server.
 *         C2  By any other name it is the tool if its first word is neither a flag nor a file of arguments: an unknown
 *             command is the tool's to refuse. */

#include <stdio.h>
#include <string.h>

#include "src/cli/server.h"
#include "src/cli/tool.h"
#include "src/web/web.h"

void cli_print_version(const char *program)
{
    struct buf b;

    buf_init(&b, 0);
    web_version_text(&b, program);
    fputs(buf_cstr(&b), stdout);
    buf_done(&b);
}

int cli_main(int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "narthex";

    if (argc > 0) {
        argc--;
        argv++;
    }
    if (strcmp(name, "promtool") == 0)
        return tool_main(argc, argv);
    if (strcmp(name, "prometheus") != 0 && argc && argv[0][0] != '-' && argv[0][0] != '@')
        return tool_main(argc, argv);
    return server_main(argc, argv);
}
