/* The options of a command that takes a job's configuration: CONFIG.yaml, --set, --backend.
 */
#ifndef AQ_JOBS_CONFIG_OPTIONS_H
#define AQ_JOBS_CONFIG_OPTIONS_H

#include "run/config.h"

#include <argp.h>

enum { AQ_OPTION_SET = 0x1f01, AQ_MOST_SETS = 256 };

typedef struct aq_config_options {
    const char *path, *backend; /* borrowed, as all here; NULL: not given */
    const char *sets[AQ_MOST_SETS];
    int set_count;
} aq_config_options;

/* Their rows in a table of options. */
#define AQ_SET_ROW                                                                                 \
    { "set", AQ_OPTION_SET, "KEY=VALUE", 0, "Set one key of the configuration (repeatable)", 0 }
#define AQ_BACKEND_ROW                                                                             \
    { "backend", 'b', "NAME", 0, "auto, cpu or cuda (run.backend)", 0 }

/* A parser's answer to a key that is none of its own: as an argp parser answers. */
error_t aq_config_options_take(int key, char *argument, aq_config_options *options);

/* The file, over it every --set in its order, over these --backend. INVALID naming `command` if no
 * file was given. Does not check the whole (aq_config_check). */
aq_status aq_config_options_read(const aq_config_options *options, const char *command,
                                 aq_config *config);

#endif
