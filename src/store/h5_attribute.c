/* The attributes' half of h5.h. */
#include "store/h5.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_LIMIT = 60000 };

static hid_t new_text_type(void) {
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static aq_status open_attribute(const aq_h5 *file, const char *object, const char *key,
                                hid_t *attribute) {
    *attribute = H5Aopen_by_name(file->id, object, key, H5P_DEFAULT, H5P_DEFAULT);
    AQ_REQUIRE(*attribute >= 0, AQ_MISSING, "%s: no attribute %s of %s", file->path, key, object);
    return AQ_OK;
}

/* Reads one scalar of a class; HDF5 converts between widths of numbers. */
static bool read_scalar(hid_t attribute, H5T_class_t class, hid_t memory, void *value) {
    hid_t stored = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool fits = H5Tget_class(stored) == class && H5Sget_simple_extent_npoints(space) == 1 &&
                (class != H5T_STRING || H5Tis_variable_str(stored) > 0) &&
                H5Aread(attribute, memory, value) >= 0;
    H5Sclose(space);
    H5Tclose(stored);
    return fits;
}

static aq_status read_value(const aq_h5 *file, const char *object, const char *key,
                            H5T_class_t class, void *value) {
    hid_t attribute;
    AQ_TRY(open_attribute(file, object, key, &attribute));
    hid_t memory = class == H5T_STRING
                       ? new_text_type()
                       : H5Tcopy(class == H5T_FLOAT ? H5T_NATIVE_DOUBLE : H5T_NATIVE_LONG);
    bool read = read_scalar(attribute, class, memory, value);
    H5Tclose(memory);
    H5Aclose(attribute);
    AQ_REQUIRE(read, AQ_FORMAT, "%s: attribute %s of %s is not a single %s", file->path, key,
               object,
               class == H5T_STRING  ? "text"
               : class == H5T_FLOAT ? "float"
                                    : "integer");
    return AQ_OK;
}

aq_status aq_h5_read_text(const aq_h5 *file, const char *object, const char *key, char **text) {
    char *stored = NULL;
    *text = NULL;
    AQ_TRY(read_value(file, object, key, H5T_STRING, &stored));
    *text = stored ? strdup(stored) : NULL;
    H5free_memory(stored);
    AQ_REQUIRE(*text, AQ_FORMAT, "%s: attribute %s of %s has no text", file->path, key, object);
    return AQ_OK;
}

aq_status aq_h5_read_long(const aq_h5 *file, const char *object, const char *key, long *value) {
    return read_value(file, object, key, H5T_INTEGER, value);
}

aq_status aq_h5_read_double(const aq_h5 *file, const char *object, const char *key, double *value) {
    return read_value(file, object, key, H5T_FLOAT, value);
}

/* An attribute [1 scalar] of the stored type from a value of the memory type. */
static aq_status write_value(const aq_h5 *file, const char *object, const char *key, hid_t type,
                             const void *value) {
    errno = 0;
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate_by_name(file->id, object, key, type, space, H5P_DEFAULT,
                                        H5P_DEFAULT, H5P_DEFAULT);
    bool written = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    AQ_REQUIRE(written, AQ_IO, "%s: cannot write attribute %s of %s: %s", file->path, key, object,
               aq_h5_reason());
    return AQ_OK;
}

aq_status aq_h5_write_text(const aq_h5 *file, const char *object, const char *key,
                           const char *text) {
    AQ_REQUIRE(strlen(text) < TEXT_LIMIT, AQ_INVALID,
               "%s: attribute %s has %zu bytes, the limit is %d", file->path, key, strlen(text),
               TEXT_LIMIT);
    hid_t type = new_text_type();
    aq_status status = write_value(file, object, key, type, &text);
    H5Tclose(type);
    return status;
}

aq_status aq_h5_write_long(const aq_h5 *file, const char *object, const char *key, long value) {
    return write_value(file, object, key, H5T_STD_I64LE, &value);
}

aq_status aq_h5_write_double(const aq_h5 *file, const char *object, const char *key, double value) {
    return write_value(file, object, key, H5T_IEEE_F64LE, &value);
}
