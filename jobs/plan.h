/* What the two halves of `aqlm-mpi plan` share: the command line's (plan.c) and the printer's
 * (plan_print.c).
 */
#ifndef AQ_JOBS_PLAN_H
#define AQ_JOBS_PLAN_H

#include "run/plan.h"

typedef struct aq_plan_subject {
    aq_config config;
    aq_model_shape shape;
    aq_plan_machine machine;
    const char *rates_from; /* "built-in rates", or the path of a file */
    char missing[256];      /* what of the job's input is not there, or "" */
} aq_plan_subject;

/* To stdout. */
void aq_plan_print(const aq_plan_subject *subject, const aq_plan *plan);
void aq_plan_print_json(const aq_plan_subject *subject, const aq_plan *plan);

#endif
