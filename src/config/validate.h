/* validate.h - what can only be checked when the whole file has been read. Only for src/config. */
#pragma once

#include "src/config/decode.h"

extern const struct record scrape_record, alertmanager_record;
extern const struct config_otlp otlp_defaults;

/* The check of the whole file: obj is its struct config. */
nx_status validate_config(struct decoder *d, const struct yaml_node *map, void *obj);
/* One job: takes over what it does not say from `global`, checks what remains. map is its
 * section. */
nx_status validate_scrape(struct decoder *d, const struct yaml_node *map,
                          const struct config_global *global, struct config_scrape *s);
/* Names to numbers; `where` ends the message: "scrape_protocols cannot be empty for " WHERE. */
nx_status validate_protocols(struct decoder *d, const struct yaml_node *map,
                             struct config_protocols *p, const char *where);
/* Two strings of OTLP against the validation scheme; runs after everything else. */
nx_status validate_otlp(struct decoder *d, const struct yaml_node *root, const struct config *cfg);
/* The configuration of an empty file. */
void validate_defaults(struct config *cfg);
