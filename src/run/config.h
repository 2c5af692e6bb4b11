/* The settings of a quantize job: one table drives the YAML reader, --set, --help, the resolved
 * dump, the checks and the fingerprint.
 */
#ifndef AQ_RUN_CONFIG_H
#define AQ_RUN_CONFIG_H

#include "base/status.h"
#include "quant/fit_layer.h"

#include <stdio.h>

typedef enum aq_inputs { AQ_INPUTS_DENSE, AQ_INPUTS_QUANTIZED } aq_inputs;

typedef enum aq_tuning_precision { AQ_TUNING_HALF, AQ_TUNING_FAST } aq_tuning_precision;

enum { AQ_SEARCH_AUTO = AQ_SEARCH_PAIRS + 1 }; /* quantizer.search besides aq_search_kind */

typedef struct aq_config {
    char *model;  /* owned; the Hugging Face folder */
    char *output; /* owned; the run directory */
    struct {
        char *tokens; /* owned; .npy */
        long sequences, length, validation;
    } calibration;
    struct {
        aq_scheme scheme; /* quantizer.scheme, .group, .out_group */
        long beam, rounds, kmeans_iterations, kmeans_starts, adam_steps;
        double tolerance, noise, learning_rate;
        unsigned search; /* aq_search_kind, or AQ_SEARCH_AUTO: see aq_config_search */
        unsigned solver; /* aq_solver_kind */
    } quantizer;
    struct {
        long epochs, batch, patience;
        double learning_rate;
        aq_tuning_precision precision;
    } tuning;
    struct {
        char *backend; /* owned; auto, cpu, cuda */
        aq_inputs inputs;
        long seed;
        long team_size;       /* ranks that share a block */
        unsigned share_gpus;  /* 1: several ranks may have the same GPU */
        long silence_seconds; /* without a sign of life after which a rank is lost */
        long hang_seconds;    /* without a step of its main thread */
        long snapshot_every;  /* blocks; 0: no snapshots */
        long threads;         /* CPU threads a rank; 0: cores / local ranks */
        long lanes;           /* linears of a block fitted at a time (run/needs.h); 0: chosen */
        long
            device_memory; /* MB of the device that activations may take; 0: half of what is free */
    } run;
} aq_config;

/* Everything at its default; paths NULL. Freed with aq_config_free. */
aq_status aq_config_new(aq_config *config);
void aq_config_free(aq_config *config);

/* Reads a YAML file over what is there. INVALID or FORMAT with path, line, key, what was expected
 * and found; an unknown key names its nearest neighbour. */
aq_status aq_config_read(const char *path, aq_config *config);

/* The same from a text in memory (`size` bytes, hostile); the error lacks the path. */
aq_status aq_config_parse(const char *text, size_t size, aq_config *config);

/* Sets one key from "key=value" (--set). */
aq_status aq_config_set(const char *assignment, aq_config *config);

/* What no single row can see: required keys, scheme limits, validation < sequences ... */
aq_status aq_config_check(const aq_config *config);

/* Of codes: what is asked for; of itself pairs where they fit and groups have one row. */
aq_search_kind aq_config_search(const aq_config *config);

/* The settings of a layer's fit; seed and watch are the caller's to set. */
aq_fit_settings aq_config_fit(const aq_config *config);

/* Writes all settings as YAML that aq_config_read reads back to the same values. */
aq_status aq_config_write(const aq_config *config, FILE *file);

/* One line a setting for --help, at most 78 columns: key, default, help and choices. */
void aq_config_help(FILE *file);

/* The settings that change the result as JSON text without paths (caller frees with free): part of
 * the gathered file. */
aq_status aq_config_settings(const aq_config *config, char **json);

/* Compares the settings that change the result; INVALID naming the first key that differs, old and
 * new value. */
aq_status aq_config_same_result(const aq_config *old_config, const aq_config *new_config);

#endif
