#include "src/cli/cli.h"

/* main.c - the program; all of it is in the library, where tests find it. */

int main(int argc, char **argv)
{
    return cli_main(argc, argv);
}
