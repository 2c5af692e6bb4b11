/* Better codes for fixed codebooks and scales: one pass over all column groups (METHOD section
 * 2.3).
 *
 * Every row keeps its `beam` best hypotheses, each with its own residual R = D H, which is computed
 * once a pass and then only updated: within the columns of a run of groups at once, in all columns
 * when the run is over (GPTQ's lazy batches, arXiv 2210.17323). Rows never interact, so they are
 * worked in chunks whose size depends on shapes alone, and a team shares them out.
 */
#ifndef AQ_QUANT_CODE_SEARCH_H
#define AQ_QUANT_CODE_SEARCH_H

#include "base/watch.h"
#include "quant/coded_weight.h"
#include "tensor/team.h"

/* Elements that the residuals of one chunk have at most (but a chunk has at least one row group).
 */
#define AQ_SEARCH_ELEMENTS ((size_t)1 << 27)

/* Elements of an entry times groups of a run: past it, a run's own updates cost more than they
 * save.
 */
enum { AQ_SEARCH_SPAN = 128 };

/* Groups of a run, the last one of a pass apart. */
static inline size_t aq_search_run_groups(const aq_scheme *scheme, size_t groups) {
    size_t fit = AQ_SEARCH_SPAN / ((size_t)scheme->in_group * (size_t)scheme->out_group);
    size_t most = groups < AQ_MAX_RUN ? groups : AQ_MAX_RUN;
    return fit < 1 ? 1 : fit > most ? most : fit;
}

/* What a pass weighs in a group: one codebook after the other, with the row's `beam` best
 * hypotheses; or all pairs of entries of two codebooks at once, exactly (METHOD, "Beyond the
 * published rounds": 10 to 15% less error at twice to four times the work). */
typedef enum aq_search_kind { AQ_SEARCH_BEAM, AQ_SEARCH_PAIRS } aq_search_kind;

/* Whether pairs can be searched: two codebooks of at most AQ_MAX_PAIR_ENTRIES, a beam of 1. */
bool aq_search_pairs_fit(const aq_scheme *scheme, int beam);

/* INVALID if they are to be searched and do not fit. */
aq_status aq_search_kind_check(aq_search_kind kind, const aq_scheme *scheme, int beam);

/* Buffers of one layer's passes. For `rows` row groups, at most a chunk's. */
typedef struct aq_code_search {
    const aq_tensor *weight, *gram; /* borrowed: [out, in], [in, in] */
    size_t rows;                    /* of a chunk */
    size_t beam;
    bool exact;             /* all losses in float32: false, unless the caller sets it */
    aq_search_kind kind;    /* AQ_SEARCH_BEAM, unless the caller sets another one that fits */
    aq_tensor difference;   /* [rows * o, in] */
    aq_tensor residuals[2]; /* [rows, beam, o, in]; the second is empty for a beam of 1 */
    aq_tensor first_losses; /* [rows, beam]: 0 for hypothesis 0, infinity for the others */
    aq_tensor losses;       /* [rows, beam] */
    aq_tensor delta;        /* [rows, beam, o, a run's columns] */
    aq_tensor origins;      /* U8 [rows, beam] */
    aq_tensor ancestors;    /* U8 [groups, rows, beam] */
    aq_tensor choices;      /* U16 [groups, rows, beam, M] */
    uint32_t *group_order;  /* host, `groups` entries */
} aq_code_search;

/* `coded` gives the shapes only: it may be a view of the rows that this member of a team works on;
 * weight is whole. beam is 1 .. AQ_MAX_BEAM. Freed with aq_code_search_free ({0} is
 * fine). */
aq_status aq_code_search_new(const aq_coded *coded, const aq_tensor *weight, const aq_tensor *gram,
                             int beam, aq_code_search *search);
void aq_code_search_free(aq_code_search *search);

typedef struct aq_code_pass {
    uint64_t seed;         /* of this pass: orders of groups and of codebooks inside them */
    const aq_team *team;   /* its members work different rows */
    const aq_watch *watch; /* borrowed, phase "codes"; NULL: nobody watches */
} aq_code_pass;

/* Replaces coded->codes; no row's loss rises (past rounding). Collective over the team. */
aq_status aq_code_search_run(aq_code_search *search, const aq_code_pass *pass, aq_coded *coded);

#endif
