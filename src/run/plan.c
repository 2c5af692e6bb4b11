#include "run/plan.h"

#include "model/activations.h"
#include "quant/codebook_cg.h"
#include "run/room.h"
#include "run/sizes.h"

/* What an allocator, threads' buffers and libraries add to the tensors of a process. */
static const size_t slack = (size_t)6 << 20;

/* Roughly: of a process on a GPU, and of its communicator if it is in a team. */
static const size_t cuda_context = (size_t)600 << 20, nccl_buffers = (size_t)400 << 20;

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* A sequence that is moved and a micro-batch that is read ahead (model/activations.h). */
static size_t staging_bytes(const aq_model_shape *shape, const aq_config *config) {
    size_t length = (size_t)config->calibration.length;
    size_t ahead = least(aq_micro_batch(length), (size_t)config->calibration.sequences);
    return (1 + ahead) * length * shape->hidden * sizeof(uint16_t);
}

/* As a job decides it (run/room.c): half of the free memory, or run.device_memory. */
static bool fits_device(const aq_plan *plan, const aq_config *config, size_t memory) {
    size_t budget = (size_t)config->run.device_memory * 1000 * 1000;
    size_t free_bytes = memory > plan->driver ? memory - plan->driver : 0;
    return 2 * plan->memory.boundary <= (budget ? budget : free_bytes / 2);
}

static void plan_device(const aq_model_shape *shape, const aq_config *config, size_t memory,
                        aq_plan *plan) {
    enum { WORKSPACE = 32 << 20 }; /* of cuBLAS */
    plan->driver = cuda_context + (plan->layout.team > 1 ? nccl_buffers : 0);
    plan->resident = fits_device(plan, config, memory);
    size_t activations =
        plan->resident ? 2 * plan->memory.boundary : 2 * staging_bytes(shape, config);
    plan->device = aq_needs_compute(&plan->memory) + activations + WORKSPACE;
    plan->device_fits = plan->device + plan->driver <= memory;
}

static void plan_host(const aq_plan_machine *machine, aq_plan *plan) {
    const aq_layout *layout = &plan->layout;
    size_t own = machine->process + slack, boundaries = 2, saving = plan->memory.saving;
    if (!layout->cuda) {
        own += aq_needs_compute(&plan->memory);
        saving = aq_needs_host_compute(&plan->memory) - aq_needs_compute(&plan->memory);
    }
    if (plan->resident) boundaries = layout->ranks > layout->team ? 1 : 0;
    size_t savers = (layout->node_ranks + layout->team - 1) / layout->team;
    plan->rank_host = own + saving + boundaries * plan->memory.boundary;
    plan->node_host = layout->node_ranks * own + savers * saving +
                      aq_room_host_boundaries(&plan->memory, layout, plan->resident);
    plan->node_fits = plan->node_host <= machine->node_memory;
}

static void plan_memory(const aq_model_shape *shape, const aq_config *config,
                        const aq_plan_machine *machine, aq_plan *plan) {
    aq_memory_needs_of(shape, config, &plan->layout, &plan->memory);
    plan->device_fits = true;
    if (plan->layout.cuda) plan_device(shape, config, (size_t)machine->rates.device_memory, plan);
    plan_host(machine, plan);
}

static size_t smallest_team(const aq_model_shape *shape, const aq_config *config,
                            const aq_layout *layout, const aq_plan_machine *machine) {
    for (size_t team = 1; team <= layout->ranks; team++) {
        aq_plan plan = {.layout = *layout};
        if (layout->ranks % team) continue;
        plan.layout.team = team;
        plan_memory(shape, config, machine, &plan);
        if (plan.device_fits && plan.node_fits) return team;
    }
    return 0;
}

/* ---- network ---- */

static size_t rounds_of(const aq_config *config) {
    return (size_t)config->quantizer.rounds;
}

/* Sums of one block that a member sends: Gram matrices, means and gradients of codebooks, codes
 * after k-means and every pass, gradients of tuning. Rounds are counted as if none stopped early.
 */
static size_t exchange_bytes(const aq_model_shape *shape, const aq_config *config, size_t *sums) {
    const aq_scheme *scheme = &config->quantizer.scheme;
    size_t rounds = rounds_of(config), bytes = 0;
    size_t training = (size_t)(config->calibration.sequences - config->calibration.validation);
    size_t steps = (size_t)config->tuning.epochs *
                   ((training + (size_t)config->tuning.batch - 1) / (size_t)config->tuning.batch);
    const aq_fit_settings fit = aq_config_fit(config);
    size_t means = (size_t)(aq_fit_kmeans_iterations(&fit) / fit.scheme.codebooks);
    bool adam = config->quantizer.solver == AQ_SOLVER_ADAM;
    size_t sums_a_round = adam ? (size_t)config->quantizer.adam_steps : AQ_CG_STEPS + 2;
    size_t solving = rounds * sums_a_round;
    for (int tap = 0; tap < AQ_TAP_COUNT; tap++) {
        size_t in = aq_tap_width(shape, (aq_tap)tap);
        bytes += in * in * sizeof(double);
    }
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &shape->linears[l];
        size_t codes = aq_coded_bytes(linear, scheme) - aq_learned_bytes(linear, scheme);
        bytes += aq_learned_bytes(linear, scheme) * (means + solving + steps) +
                 codes * (rounds + (size_t)config->quantizer.kmeans_starts);
    }
    *sums = (means * (size_t)scheme->codebooks + solving + rounds) * AQ_LINEAR_COUNT +
            steps * 2 * AQ_LINEAR_COUNT + AQ_TAP_COUNT;
    return bytes + steps * aq_small_parameters(shape);
}

/* Sums come one by one, and nobody works meanwhile. */
static double exchange_seconds(const aq_plan *plan, size_t sums) {
    bool one_node = plan->layout.team <= plan->layout.node_ranks;
    double bytes_a_second = !plan->layout.cuda ? 2e9 : one_node ? 1e11 : 1e10;
    return (double)sums * 30e-6 + (double)plan->exchange / bytes_a_second;
}

static void plan_network(const aq_model_shape *shape, const aq_config *config, aq_plan *plan) {
    const aq_layout *layout = &plan->layout;
    size_t whole = plan->disk.snapshot; /* a boundary of all sequences */
    bool handed = config->run.inputs == AQ_INPUTS_DENSE && layout->ranks > layout->node_ranks &&
                  layout->ranks > layout->team;
    plan->relayed = handed ? (shape->blocks - 1) * whole : 0;
    if (layout->team == 1) return;
    size_t sums;
    plan->exchange = exchange_bytes(shape, config, &sums);
    plan->exchange_seconds = exchange_seconds(plan, sums);
}

/* ---- time ---- */

/* Teams begin one forward pass after the other; the slowest has as many blocks as any. */
static double job_seconds(const aq_model_shape *shape, const aq_config *config,
                          const aq_plan_machine *machine, const aq_plan *plan) {
    const double gather_bytes_a_second = 3e8;
    bool dense = config->run.inputs == AQ_INPUTS_DENSE;
    size_t teams = dense ? least(plan->layout.ranks / plan->layout.team, shape->blocks) : 1;
    size_t turns = (shape->blocks + teams - 1) / teams;
    double begin =
        (double)(teams - 1) * aq_estimate_forward(shape, config, &plan->layout, &machine->rates);
    return begin + (double)turns * (aq_phases_total(&plan->block) + plan->exchange_seconds) +
           (double)plan->disk.gathered / gather_bytes_a_second;
}

static aq_status check_layout(const aq_layout *layout) {
    AQ_REQUIRE(layout->ranks > 0 && layout->node_ranks > 0 && layout->team > 0, AQ_INVALID,
               "plan: %zu ranks, %zu a node, in teams of %zu", layout->ranks, layout->node_ranks,
               layout->team);
    AQ_REQUIRE(layout->ranks % layout->team == 0, AQ_INVALID,
               "run.team_size %zu does not divide the number of ranks, %zu", layout->team,
               layout->ranks);
    return AQ_OK;
}

aq_status aq_plan_make(const aq_model_shape *shape, const aq_config *config,
                       const aq_layout *layout, const aq_plan_machine *machine, aq_plan *plan) {
    *plan = (aq_plan){.layout = *layout};
    AQ_TRY(check_layout(layout));
    for (int l = 0; l < AQ_LINEAR_COUNT; l++) {
        const aq_linear_shape *linear = &shape->linears[l];
        aq_status status = aq_scheme_check(&config->quantizer.scheme, linear->out, linear->in);
        if (status != AQ_OK) return aq_error_at(status, "%s", linear->name);
    }
    aq_disk_needs_of(shape, config, layout, &plan->disk);
    plan->disk_fits = aq_disk_needs_total(&plan->disk) <= machine->disk_room;
    plan_memory(shape, config, machine, plan);
    plan->smallest_team = smallest_team(shape, config, layout, machine);
    plan_network(shape, config, plan);
    aq_estimate_block(shape, config, layout, &machine->rates, &plan->block);
    plan->seconds = job_seconds(shape, config, machine, plan);
    return AQ_OK;
}

bool aq_plan_fits(const aq_plan *plan) {
    return plan->device_fits && plan->node_fits && plan->disk_fits;
}
