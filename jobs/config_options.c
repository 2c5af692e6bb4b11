#include "config_options.h"

#include "run/config_table.h"

static aq_status add_set(aq_config_options *options, const char *assignment) {
    AQ_REQUIRE(options->set_count < AQ_MOST_SETS, AQ_INVALID, "more than %d --set", AQ_MOST_SETS);
    options->sets[options->set_count++] = assignment;
    return AQ_OK;
}

error_t aq_config_options_take(int key, char *argument, aq_config_options *options) {
    switch (key) {
    case AQ_OPTION_SET:
        return (error_t)add_set(options, argument);
    case 'b':
        options->backend = argument;
        return 0;
    case ARGP_KEY_ARG:
        if (options->path) return ARGP_ERR_UNKNOWN;
        options->path = argument;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

aq_status aq_config_options_read(const aq_config_options *options, const char *command,
                                 aq_config *config) {
    AQ_REQUIRE(options->path, AQ_INVALID, "%s: which CONFIG.yaml? --help shows the usage", command);
    AQ_TRY(aq_config_read(options->path, config));
    for (int i = 0; i < options->set_count; i++) AQ_TRY(aq_config_set(options->sets[i], config));
    if (!options->backend) return AQ_OK;
    return aq_setting_set(aq_setting_find("run.backend"), options->backend, config);
}
