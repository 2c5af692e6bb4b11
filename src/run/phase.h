/* The phases of a run whose seconds are reported.
 */
#ifndef AQ_RUN_PHASE_H
#define AQ_RUN_PHASE_H

#define AQ_PHASE_LIST(X)                                                                           \
    X(FORWARD, "forward passes")                                                                   \
    X(KMEANS, "k-means")                                                                           \
    X(CODEBOOKS, "codebook steps")                                                                 \
    X(CODES, "code search")                                                                        \
    X(TUNING, "block tuning")                                                                      \
    X(FILES, "files")

typedef enum aq_phase {
#define AQ_PHASE_ENUM(name, text) AQ_PHASE_##name,
    AQ_PHASE_LIST(AQ_PHASE_ENUM)
#undef AQ_PHASE_ENUM
        AQ_PHASE_COUNT
} aq_phase;

/* Seconds by phase. */
typedef struct aq_phases {
    double seconds[AQ_PHASE_COUNT];
} aq_phases;

/* "k-means" */
const char *aq_phase_name(aq_phase phase);

void aq_phases_add(const aq_phases *more, aq_phases *sum);
double aq_phases_total(const aq_phases *phases);

#endif
