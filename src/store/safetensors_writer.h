/* Writes one safetensors file: all tensors are announced, then their bytes follow in that order.
 * Private to src/store. Format: model/safetensors.h.
 */
#ifndef AQ_STORE_SAFETENSORS_WRITER_H
#define AQ_STORE_SAFETENSORS_WRITER_H

#include "tensor/tensor.h"

#include <jansson.h>
#include <stdio.h>

typedef struct aq_safetensors_writer {
    char *path;     /* owned */
    json_t *header; /* owned; in the order of the tensors */
    size_t size;    /* bytes of the data announced so far */
    size_t written; /* bytes of the data that follow the header so far */
    FILE *file;     /* open from the start of the data on */
} aq_safetensors_writer;

/* Freed with aq_safetensors_writer_close, which leaves an unfinished file as it is. */
aq_status aq_safetensors_writer_new(const char *path, aq_safetensors_writer *writer);
void aq_safetensors_writer_close(aq_safetensors_writer *writer);

/* Announces a tensor; dtype as safetensors spells it ("I8"), `bytes` its size. */
aq_status aq_safetensors_announce(aq_safetensors_writer *writer, const char *name,
                                  const char *dtype, aq_shape shape, size_t bytes);

/* Creates the file and writes the header, metadata {"format": "pt"} included. IO with path and
 * reason, here and below. */
aq_status aq_safetensors_begin(aq_safetensors_writer *writer);

/* Appends the next tensor's bytes. */
aq_status aq_safetensors_append(aq_safetensors_writer *writer, const void *bytes, size_t size);

/* Writes everything through to the disk; INVALID if fewer bytes came than were announced. */
aq_status aq_safetensors_finish(aq_safetensors_writer *writer);

#endif
