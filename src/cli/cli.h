/* cli.h - the program: the server and promtool's commands behind one entry.
 *
 * Started as `prometheus` or `promtool` (a symlink) it is that program; as `narthex` it is the server,
 * unless its first argument is one of promtool's commands. Only this folder knows all others. */
#pragma once

/* Runs and returns the exit code. */
int cli_main(int argc, char **argv);
