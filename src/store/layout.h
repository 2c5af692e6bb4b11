/* What block files and the gathered file have in common: names, attributes, coded weights.
 *
 * Described for readers of the files in docs/file-formats.md. Private to src/store.
 */
#ifndef AQ_STORE_LAYOUT_H
#define AQ_STORE_LAYOUT_H

#include "model/shape.h"
#include "store/coded_data.h"
#include "store/h5.h"

#define AQ_BLOCK_FORMAT "aqlm-mpi block"
#define AQ_MODEL_FORMAT "aqlm-mpi model"
#define AQ_REPORT_NAME "aqlm_mpi.json" /* settings and errors, as a file of the model */

enum { AQ_FORMAT_VERSION = 1, AQ_DATASET_NAME_SIZE = AQ_NAME_SIZE + 32 };

/* Files that travel with a model besides config.json, where it has them; ends with NULL. */
extern const char *const aq_model_files[];

/* The shape of the linear of that full name ("model.layers.0.mlp.up_proj"), borrowed; NULL if the
 * model has none. */
const aq_linear_shape *aq_layout_find_linear(const aq_model_shape *shape, const char *name);

/* "tensors/NAME" and "files/NAME" into `path`. */
void aq_tensor_path(const char *name, char path[static AQ_DATASET_NAME_SIZE]);
void aq_file_path(const char *name, char path[static AQ_DATASET_NAME_SIZE]);

/* The file's own attributes: which format and version it has, which scheme its weights. Reading
 * gives FORMAT for another format, a newer version or a scheme out of bounds. */
aq_status aq_layout_write_head(const aq_h5 *file, const char *format, const aq_scheme *scheme);
aq_status aq_layout_read_head(const aq_h5 *file, const char *format, aq_scheme *scheme);

/* codes, codebooks and scales of a linear. */
aq_status aq_layout_write_coded(const aq_h5 *file, const char *linear, const aq_coded_data *data);

/* Reads them into `data`, which it makes, and checks their values. */
aq_status aq_layout_read_coded(const aq_h5 *file, const char *linear, const aq_scheme *scheme,
                               const aq_linear_shape *shape, aq_coded_data *data);

/* Checks types and shapes of the three datasets without reading them. */
aq_status aq_layout_look_coded(const aq_h5 *file, const char *linear, const aq_scheme *scheme,
                               const aq_linear_shape *shape);

/* The tensors of a block that tuning changes besides its coded weights, float16 in files: number
 * 0 .. AQ_NORM_COUNT - 1 are the norms, then comes one bias a linear. Gives the full name and the
 * length; false for a linear without bias. */
enum { AQ_VECTOR_COUNT = AQ_NORM_COUNT + AQ_LINEAR_COUNT };
bool aq_layout_vector(const aq_model_shape *shape, size_t block, int vector,
                      char name[static AQ_NAME_SIZE], size_t *length);

/* Reads or writes such a vector; values read are checked to be finite. */
aq_status aq_layout_write_vector(const aq_h5 *file, const char *name, size_t length,
                                 const uint16_t *halves);
aq_status aq_layout_read_vector(const aq_h5 *file, const char *name, size_t length,
                                uint16_t *halves);

#endif
