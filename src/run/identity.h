/* What a run's result depends on beside its settings: the model, the tokens, the backend; and the
 * machine, on which bits depend but no more.
 *
 * identity.txt:
 *
 *     model <SHA-256 over the lines of its files>
 *     calibration.tokens <hash>
 *     run.backend cpu
 *     machine.kernels OpenBLAS 0.3.21 (Zen)
 *     machine.gpu NVIDIA H100 80GB HBM3 (on CUDA, all ranks': several kinds stand apart by "; ";
 *         runs begun before it was recorded have none)
 *     machine.libraries glibc 2.36
 *     machine.program aqlm-mpi 0.1.0
 *     file <SHA-256 tree> <bytes> <time of change, ns> model.safetensors
 *
 * Contents decide; size and time of a file decide only whether it is read again. The model's path
 * is not in it.
 */
#ifndef AQ_RUN_IDENTITY_H
#define AQ_RUN_IDENTITY_H

#include "base/watch.h"
#include "tensor/ops.h"

enum { AQ_IDENTITY_KEY_SIZE = 192, AQ_IDENTITY_LIMIT = 1 << 20 };

typedef struct aq_identity_facts {
    const char *model;         /* the Hugging Face folder */
    uint64_t tokens;           /* aq_tokens_hash */
    const char *backend;       /* its name */
    const aq_backend *machine; /* NULL: unknown */
    const char *gpus;          /* of all ranks, "" or NULL: of `machine` */
    const aq_watch *watch;     /* borrowed or NULL: may stop while files are read */
} aq_identity_facts;

/* Makes the text (the caller frees it). All of the model's files are read, by several threads,
 * except those that `known`, an older text or NULL, lists with the same size and time. */
aq_status aq_identity_make(const aq_identity_facts *facts, const char *known, char **text);

/* The lines on which the result depends: model, tokens, backend. */
void aq_identity_key(const char *text, char key[static AQ_IDENTITY_KEY_SIZE]);

/* INVALID if two texts differ in those, naming what differs (of the model the first file that
 * does) and `where` the old one stands. */
aq_status aq_identity_same(const char *where, const char *old_text, const char *new_text);

/* The first machine.* line of a text that is not true of this process and `machine` (its GPU may be
 * any that the line names): the line into `was`, this process's into `is`; false if there is none.
 * A line that is missing says nothing. */
enum { AQ_IDENTITY_LINE = 160 };
bool aq_identity_moved(const char *text, const aq_backend *machine,
                       char was[static AQ_IDENTITY_LINE], char is[static AQ_IDENTITY_LINE]);

#endif
