/* server.h - the server's flags and its life. Private to src/cli. */
#pragma once

#include "src/cli/flags.h"

extern const struct flag server_flags[]; /* sorted by name */
extern const size_t server_n_flags;

/* argv without the program's name. Returns the exit code. */
int server_main(int argc, char **argv);
void cli_print_version(const char *program);
