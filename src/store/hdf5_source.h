/* The gathered file as a source: what its readers inside this folder need besides aq_source.
 */
#ifndef AQ_STORE_HDF5_SOURCE_H
#define AQ_STORE_HDF5_SOURCE_H

#include "store/layout.h"
#include "store/model_file.h"

/* Reads a linear's coded weight from a source of kind "aqlm-hdf5" into host memory and checks its
 * values; the caller frees it. */
aq_status aq_hdf5_source_data(aq_source *source, const char *linear, aq_coded_data *data);

#endif
