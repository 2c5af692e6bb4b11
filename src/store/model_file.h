/* The gathered checkpoint model.aqlm.h5: whole model, self-contained, described in
 * docs/file-formats.md.
 */
#ifndef AQ_STORE_MODEL_FILE_H
#define AQ_STORE_MODEL_FILE_H

#include "base/watch.h"
#include "model/source.h"
#include "quant/coded_weight.h"

typedef struct aq_gather {
    const char *const *block_paths; /* one finished block file a block, in order */
    aq_source *source;              /* the dense model: ends of the model and files */
    aq_scheme scheme;
    const char *settings;    /* JSON text of the settings that made it: no paths, hosts, times */
    const char *fingerprint; /* that every block file must carry */
    const char *path;        /* of the result */
    const aq_watch *watch;   /* borrowed or NULL; may stop between two blocks */
} aq_gather;

/* Writes the gathered file; under its name only when complete. Equal blocks and settings give equal
 * bytes. */
aq_status aq_model_file_gather(const aq_gather *gather);

/* Opens a gathered file as a source (kind "aqlm-hdf5"); everything is checked first. */
aq_status aq_model_file_open(const char *path, aq_source **source);

/* Opens an exported Hugging Face AQLM folder as a source (kind "aqlm-folder"). */
aq_status aq_aqlm_folder_open(const char *folder, aq_source **source);

/* Opens whatever `path` is: a file is taken for a gathered file, a folder whose config.json has a
 * quantization_config for an AQLM folder, any other folder for a dense one. */
aq_status aq_model_open(const char *path, aq_source **source);

#endif
