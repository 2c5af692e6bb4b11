#include "store/h5.h"

#include "base/digest.h"
#include "base/file.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 20 };

/* ---- files ---- */

/* HDF5 prints its own error stack to stderr unless told, and crashes when the process exits after a
 * file that the full disk kept it from closing. */
static void silence(void) {
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

aq_status aq_h5_open_verified(const char *path, const aq_watch *watch, aq_h5 *file) {
    bool known;
    *file = (aq_h5){0};
    AQ_TRY(aq_digest_verify(path, watch, &known));
    return aq_h5_open(path, file);
}

const char *aq_h5_reason(void) {
    return errno ? strerror(errno) : "HDF5 refused";
}

aq_status aq_h5_open(const char *path, aq_h5 *file) {
    *file = (aq_h5){0};
    silence();
    AQ_REQUIRE(access(path, F_OK) == 0, AQ_MISSING, "%s: %s", path, strerror(errno));
    AQ_REQUIRE(access(path, R_OK) == 0, AQ_IO, "%s: %s", path, strerror(errno));
    AQ_REQUIRE(H5Fis_hdf5(path) > 0, AQ_FORMAT, "%s: not an HDF5 file", path);
    char *copy = strdup(path);
    AQ_REQUIRE(copy, AQ_MEMORY, "out of memory");
    hid_t id = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (id < 0) {
        free(copy);
        return AQ_FAIL(AQ_FORMAT, "%s: damaged or truncated HDF5 file", path);
    }
    *file = (aq_h5){.id = id, .path = copy};
    return AQ_OK;
}

static hid_t create_without_times(const char *path) {
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(creation, false);
    hid_t id = H5Fcreate(path, H5F_ACC_TRUNC, creation, H5P_DEFAULT);
    H5Pclose(creation);
    return id;
}

aq_status aq_h5_create(const char *path, aq_h5 *file) {
    *file = (aq_h5){.path = strdup(path)};
    silence();
    aq_status status;
    AQ_NEED(file->path, AQ_MEMORY, "out of memory");
    AQ_STEP(aq_file_temporary(path, &file->temporary));
    errno = 0;
    file->id = create_without_times(file->temporary);
    AQ_NEED(file->id > 0, AQ_IO, "%s: cannot be created: %s", path, aq_h5_reason());
done:
    if (status != AQ_OK) aq_h5_close(file);
    return status;
}

static void forget(aq_h5 *file) {
    free(file->path);
    free(file->temporary);
    *file = (aq_h5){0};
}

void aq_h5_close(aq_h5 *file) {
    if (file->id > 0) H5Fclose(file->id);
    if (file->temporary) unlink(file->temporary);
    forget(file);
}

aq_status aq_h5_commit(aq_h5 *file) {
    errno = 0;
    bool flushed = H5Fflush(file->id, H5F_SCOPE_GLOBAL) >= 0;
    flushed = H5Fclose(file->id) >= 0 && flushed;
    file->id = 0;
    aq_status status;
    AQ_NEED(flushed, AQ_IO, "%s: cannot be written: %s", file->path, aq_h5_reason());
    AQ_STEP(aq_digest_commit(file->temporary, file->path, file->watch));
    forget(file);
done:
    aq_h5_close(file);
    return status;
}

/* ---- types ---- */

/* IEEE binary16; the fields must fit before the size may shrink. */
static hid_t new_half(void) {
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

/* The type of a dataset's elements in the file and in memory (both little-endian). */
static hid_t new_type(aq_dtype dtype) {
    switch (dtype) {
    case AQ_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case AQ_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case AQ_F16:
        return new_half();
    case AQ_BF16:
    case AQ_U16:
        return H5Tcopy(H5T_STD_U16LE);
    case AQ_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case AQ_U32:
        return H5Tcopy(H5T_STD_U32LE);
    case AQ_I32:
        return H5Tcopy(H5T_STD_I32LE);
    }
    return H5I_INVALID_HID;
}

static bool is_type(hid_t stored, aq_dtype dtype) {
    hid_t type = new_type(dtype);
    bool same = H5Tequal(stored, type) > 0;
    H5Tclose(type);
    return same;
}

static bool find_dtype(hid_t dataset, aq_dtype *dtype) {
    static const aq_dtype known[] = {AQ_F32, AQ_F64, AQ_F16, AQ_U8, AQ_U16, AQ_U32, AQ_I32};
    hid_t stored = H5Dget_type(dataset);
    bool found = false;
    for (size_t i = 0; !found && i < sizeof known / sizeof *known; i++) {
        found = is_type(stored, known[i]);
        if (found) *dtype = known[i];
    }
    H5Tclose(stored);
    return found;
}

/* ---- datasets ---- */

/* False for external links, external and virtual storage: a file from elsewhere must not make the
 * program read others. */
static bool lies_inside(const aq_h5 *file, hid_t dataset) {
    char own[PATH_MAX], home[PATH_MAX];
    bool inside = H5Fget_name(file->id, own, sizeof own) > 0 &&
                  H5Fget_name(dataset, home, sizeof home) > 0 && strcmp(own, home) == 0;
    hid_t creation = H5Dget_create_plist(dataset);
    inside =
        inside && H5Pget_layout(creation) != H5D_VIRTUAL && H5Pget_external_count(creation) == 0;
    H5Pclose(creation);
    return inside;
}

static aq_status open_dataset(const aq_h5 *file, const char *name, hid_t *dataset) {
    *dataset = H5Dopen2(file->id, name, H5P_DEFAULT);
    AQ_REQUIRE(*dataset >= 0, AQ_MISSING, "%s: no dataset %s", file->path, name);
    if (lies_inside(file, *dataset)) return AQ_OK;
    H5Dclose(*dataset);
    return AQ_FAIL(AQ_FORMAT, "%s: dataset %s has its data outside this file", file->path, name);
}

static bool get_shape(hid_t dataset, aq_shape *shape) {
    hid_t space = H5Dget_space(dataset);
    hsize_t dims[H5S_MAX_RANK];
    int ndim = H5Sget_simple_extent_dims(space, dims, NULL);
    H5Sclose(space);
    if (ndim < 1 || ndim > AQ_MAX_DIMS) return false;
    *shape = (aq_shape){.ndim = ndim};
    for (int i = 0; i < ndim; i++) {
        if (dims[i] == 0 || dims[i] > SIZE_MAX) return false;
        shape->dims[i] = (size_t)dims[i];
    }
    return true;
}

/* The one type that HDF5 lacks is told by the attribute. */
static void apply_bfloat_mark(const aq_h5 *file, const char *name, aq_dtype *dtype) {
    char *mark = NULL;
    if (*dtype == AQ_U16 && aq_h5_read_text(file, name, "dtype", &mark) == AQ_OK &&
        strcmp(mark, "BF16") == 0)
        *dtype = AQ_BF16;
    free(mark);
}

static aq_status look(const aq_h5 *file, const char *name, hid_t dataset, aq_dtype *dtype,
                      aq_shape *shape) {
    AQ_REQUIRE(find_dtype(dataset, dtype), AQ_FORMAT, "%s: dataset %s is of an unknown type",
               file->path, name);
    AQ_REQUIRE(get_shape(dataset, shape), AQ_FORMAT,
               "%s: dataset %s is empty or has not 1 to %d dimensions", file->path, name,
               AQ_MAX_DIMS);
    apply_bfloat_mark(file, name, dtype);
    return AQ_OK;
}

aq_status aq_h5_look(const aq_h5 *file, const char *name, aq_dtype *dtype, aq_shape *shape) {
    hid_t dataset;
    AQ_TRY(open_dataset(file, name, &dataset));
    aq_status status = look(file, name, dataset, dtype, shape);
    H5Dclose(dataset);
    return status;
}

static aq_status expect(const aq_h5 *file, const char *name, hid_t dataset, aq_dtype dtype,
                        aq_shape shape) {
    aq_dtype stored_dtype;
    aq_shape stored;
    AQ_TRY(look(file, name, dataset, &stored_dtype, &stored));
    char found[AQ_SHAPE_TEXT_SIZE], wanted[AQ_SHAPE_TEXT_SIZE];
    AQ_REQUIRE(stored_dtype == dtype && aq_shape_same(stored, shape), AQ_SHAPE,
               "%s: dataset %s is %s %s, expected %s %s", file->path, name,
               aq_dtype_name(stored_dtype), aq_shape_text(stored, found), aq_dtype_name(dtype),
               aq_shape_text(shape, wanted));
    return AQ_OK;
}

aq_status aq_h5_check(const aq_h5 *file, const char *name, aq_dtype dtype, aq_shape shape) {
    hid_t dataset;
    AQ_TRY(open_dataset(file, name, &dataset));
    aq_status status = expect(file, name, dataset, dtype, shape);
    H5Dclose(dataset);
    return status;
}

aq_status aq_h5_read(const aq_h5 *file, const char *name, aq_dtype dtype, aq_shape shape,
                     void *data) {
    hid_t dataset;
    AQ_TRY(open_dataset(file, name, &dataset));
    aq_status status = expect(file, name, dataset, dtype, shape);
    hid_t type = new_type(dtype);
    if (status == AQ_OK && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = AQ_FAIL(AQ_IO, "%s: dataset %s cannot be read (damaged data?)", file->path, name);
    H5Tclose(type);
    H5Dclose(dataset);
    return status;
}

/* Creates the groups on the way to `name` that are not there yet. */
static aq_status make_groups(const aq_h5 *file, const char *name) {
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(creation, false);
    aq_status status = AQ_OK;
    for (const char *end = strchr(name, '/'); end && status == AQ_OK; end = strchr(end + 1, '/')) {
        char *group = strndup(name, (size_t)(end - name));
        if (group && H5Lexists(file->id, group, H5P_DEFAULT) <= 0) {
            hid_t id = H5Gcreate2(file->id, group, H5P_DEFAULT, creation, H5P_DEFAULT);
            if (id < 0)
                status = AQ_FAIL(AQ_IO, "%s: cannot write group %s: %s", file->path, group,
                                 aq_h5_reason());
            else
                H5Gclose(id);
        }
        free(group);
    }
    H5Pclose(creation);
    return status;
}

/* Whole trailing dimensions, as many as fit into a chunk. */
static hid_t chunked_layout(aq_dtype dtype, aq_shape shape) {
    hsize_t chunk[AQ_MAX_DIMS], room = CHUNK_BYTES / aq_dtype_size(dtype);
    for (int i = shape.ndim - 1; i >= 0; i--) {
        chunk[i] = shape.dims[i] < room ? shape.dims[i] : room;
        room /= chunk[i];
    }
    hid_t layout = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(layout, false);
    H5Pset_chunk(layout, shape.ndim, chunk);
    H5Pset_fletcher32(layout);
    return layout;
}

static hid_t create_dataset(const aq_h5 *file, const char *name, hid_t type, aq_dtype dtype,
                            aq_shape shape) {
    hsize_t dims[AQ_MAX_DIMS];
    for (int i = 0; i < shape.ndim; i++) dims[i] = shape.dims[i];
    hid_t space = H5Screate_simple(shape.ndim, dims, NULL);
    hid_t layout = chunked_layout(dtype, shape);
    hid_t dataset = H5Dcreate2(file->id, name, type, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    H5Pclose(layout);
    H5Sclose(space);
    return dataset;
}

aq_status aq_h5_write(const aq_h5 *file, const char *name, aq_dtype dtype, aq_shape shape,
                      const void *data) {
    errno = 0;
    AQ_TRY(make_groups(file, name));
    hid_t type = new_type(dtype);
    hid_t dataset = create_dataset(file, name, type, dtype, shape);
    bool written =
        dataset >= 0 && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    if (dataset >= 0) written = H5Dclose(dataset) >= 0 && written;
    H5Tclose(type);
    AQ_REQUIRE(written, AQ_IO, "%s: cannot write dataset %s: %s", file->path, name, aq_h5_reason());
    return aq_h5_write_text(file, name, "dtype", aq_dtype_name(dtype));
}
