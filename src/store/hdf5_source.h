/* The gathered file as a source: what its readers inside this folder need besides aq_source.
 */
#ifndef AQ_STORE_HDF5_SOURCE_H
#define AQ_STORE_HDF5_SOURCE_H

#include "store/layout.h"
#include "store/model_file.h"

/* For a source of kind "aqlm-hdf5": the scheme of its weights (borrowed), and a linear's coded
 * weight in host memory, checked (the caller frees it). */
const aq_scheme *aq_hdf5_source_scheme(const aq_source *source);
aq_status aq_hdf5_source_data(aq_source *source, const char *linear, aq_coded_data *data);

#endif
