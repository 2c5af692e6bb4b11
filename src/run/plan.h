/* A plan: what a quantize job will take, before anything is allocated.
 */
#ifndef AQ_RUN_PLAN_H
#define AQ_RUN_PLAN_H

#include "run/needs.h"
#include "run/phase.h"
#include "run/rates.h"

/* Where it is to run; bytes. */
typedef struct aq_plan_machine {
    aq_rates rates;
    size_t node_memory; /* host memory of a node that a job can have */
    size_t disk_room;   /* where the run directory is; SIZE_MAX: not known */
    size_t process;     /* host memory that a process takes before it works */
} aq_plan_machine;

typedef struct aq_plan {
    aq_layout layout;
    aq_memory_needs memory;
    aq_disk_needs disk;
    bool resident;        /* activations lie in the GPU's memory */
    size_t device;        /* of a GPU, by one rank; 0 on the CPU. Without the driver's own */
    size_t driver;        /* what CUDA's context and NCCL's buffers take of a GPU beside that */
    size_t rank_host;     /* of one process, as its peak_memory will tell */
    size_t node_host;     /* of a node: ranks share boundaries there */
    size_t smallest_team; /* with which it fits; 0: with none */
    bool device_fits, node_fits, disk_fits;
    size_t relayed;          /* activations that cross between nodes in the whole job, at most */
    size_t exchange;         /* what a member of a team sends for one block */
    double exchange_seconds; /* that this takes, estimated */
    aq_phases block;         /* estimated seconds of one block */
    double seconds;          /* of the job, from start to end */
} aq_plan;

/* INVALID if the settings and the layout do not go together. */
aq_status aq_plan_make(const aq_model_shape *shape, const aq_config *config,
                       const aq_layout *layout, const aq_plan_machine *machine, aq_plan *plan);

bool aq_plan_fits(const aq_plan *plan);

/* Seconds that the phases of one block are estimated to take (run/estimate.c). */
void aq_estimate_block(const aq_model_shape *shape, const aq_config *config,
                       const aq_layout *layout, const aq_rates *rates, aq_phases *seconds);

/* Of one dense forward pass of a block over all sequences of a rank. */
double aq_estimate_forward(const aq_model_shape *shape, const aq_config *config,
                           const aq_layout *layout, const aq_rates *rates);

#endif
