#include "plan.h"

#include "jobs.h"

#include <stdio.h>
#include <string.h>

static double gigabytes(size_t bytes) {
    return 1e-9 * (double)bytes;
}

static void row(const char *what, size_t bytes) {
    printf("  %-44s %10.3f\n", what, gigabytes(bytes));
}

static void row_of(const char *what, size_t bytes, size_t limit, bool fits) {
    printf("  %-44s %10.3f of %.3f%s\n", what, gigabytes(bytes), gigabytes(limit),
           fits ? "" : "  <- does not fit");
}

static void print_head(const aq_plan_subject *subject, const aq_plan *plan) {
    const aq_layout *layout = &plan->layout;
    const aq_model_shape *shape = &subject->shape;
    size_t nodes = (layout->ranks + layout->node_ranks - 1) / layout->node_ranks;
    printf("%s: %zu blocks of %.1f million weights, hidden %zu\n", subject->config.model,
           shape->blocks, 1e-6 * (double)plan->memory.weights / sizeof(float), shape->hidden);
    printf("%zu %s on %zu %s, %s, in teams of %zu\n", layout->ranks,
           layout->ranks == 1 ? "rank" : "ranks", nodes, nodes == 1 ? "node" : "nodes",
           subject->machine.rates.device, layout->team);
    if (subject->missing[0]) printf("not there yet: %s\n", subject->missing);
}

static void print_stages(const aq_plan *plan) {
    row("weights of a block (float32)", plan->memory.weights);
    row("forward pass, with the block", plan->memory.forward);
    row("fit of a layer, with the block", plan->memory.fit);
    row("block tuning, with the block", plan->memory.tuning);
    row("activations at one boundary", plan->memory.boundary);
}

static void print_memory(const aq_plan_subject *subject, const aq_plan *plan) {
    bool cuda = plan->layout.cuda;
    printf("\n%-46s %10s\n", cuda ? "memory of a GPU" : "memory of a rank", "GB");
    print_stages(plan);
    if (cuda) {
        printf("  %-44s %10s\n", "activations lie in", plan->resident ? "the GPU" : "the host");
        row("at most at a time", plan->device);
        row_of("with the driver's own", plan->device + plan->driver,
               (size_t)subject->machine.rates.device_memory, plan->device_fits);
    }
    printf("\n%-46s %10s\n", "host memory (caches of files not counted)", "GB");
    row("of a process", plan->rank_host);
    row_of("of a node", plan->node_host, subject->machine.node_memory, plan->node_fits);
}

static void print_disk(const aq_plan_subject *subject, const aq_plan *plan) {
    size_t total = aq_disk_needs_total(&plan->disk);
    printf("\n%-46s %10s\n", "disk", "GB");
    row("block files", plan->disk.blocks);
    row("model.aqlm.h5", plan->disk.gathered);
    row("state of blocks in work", plan->disk.states);
    if (plan->disk.snapshots) row("snapshots (run.snapshot_every)", plan->disk.snapshots);
    if (subject->machine.disk_room == SIZE_MAX)
        row("in all", total);
    else
        row_of("in all", total, subject->machine.disk_room, plan->disk_fits);
}

static void print_network(const aq_plan *plan) {
    printf("\n%-46s %10s\n", "network", "GB");
    row("activations handed on between nodes, at most", plan->relayed);
    if (plan->exchange) row("sums that a member sends for a block, at most", plan->exchange);
}

static void print_seconds(const char *what, double seconds) {
    if (seconds < 600)
        printf("  %-44s %10.1f s\n", what, seconds);
    else
        printf("  %-44s %10.2f h\n", what, seconds / 3600);
}

static void print_time(const aq_plan_subject *subject, const aq_plan *plan) {
    printf("\ntime, estimated from %s\n", subject->rates_from);
    for (int phase = 0; phase < AQ_PHASE_COUNT; phase++)
        print_seconds(aq_phase_name((aq_phase)phase), plan->block.seconds[phase]);
    if (plan->exchange) print_seconds("sums of the team", plan->exchange_seconds);
    print_seconds("a block", aq_phases_total(&plan->block) + plan->exchange_seconds);
    print_seconds("start to end", plan->seconds);
}

/* The stage that takes most decides what helps. */
static void advise_device(const aq_plan_subject *subject, const aq_plan *plan) {
    size_t most = aq_needs_compute(&plan->memory);
    printf("The GPU's memory does not hold a block at work");
    if (most == plan->memory.fit && subject->config.quantizer.beam > 1)
        printf(": lower quantizer.beam, or take a GPU with more\n");
    else if (most == plan->memory.fit)
        printf(" in the fit of its largest layer: take a GPU with more\n");
    else
        printf(": lower calibration.length, or take a GPU with more\n");
}

static void advise_node(const aq_plan *plan) {
    printf("A node's memory does not hold %zu %s: ", plan->layout.node_ranks,
           plan->layout.node_ranks == 1 ? "rank" : "ranks");
    if (plan->smallest_team > plan->layout.team)
        printf("set run.team_size to %zu", plan->smallest_team);
    else
        printf("lower calibration.sequences");
    printf(", or use fewer ranks a node (--ranks-per-node)\n");
}

static void print_verdict(const aq_plan_subject *subject, const aq_plan *plan) {
    putchar('\n');
    if (!plan->device_fits) advise_device(subject, plan);
    if (!plan->node_fits) advise_node(plan);
    if (!plan->disk_fits)
        printf("The disk is too small: another place for output%s\n",
               plan->disk.snapshots ? ", or a higher run.snapshot_every" : "");
    if (aq_plan_fits(plan)) puts("It fits.");
    if (plan->smallest_team)
        printf("smallest team that fits: %zu\n", plan->smallest_team);
    else
        puts("smallest team that fits: none of these ranks");
}

void aq_plan_print(const aq_plan_subject *subject, const aq_plan *plan) {
    print_head(subject, plan);
    print_memory(subject, plan);
    print_disk(subject, plan);
    print_network(plan);
    print_time(subject, plan);
    print_verdict(subject, plan);
}

/* ---- JSON ---- */

static json_t *whole(size_t number) {
    return json_integer((json_int_t)number);
}

static json_t *memory_json(const aq_plan *plan) {
    return json_pack("{so so so so so}", "weights", whole(plan->memory.weights), "forward",
                     whole(plan->memory.forward), "fit", whole(plan->memory.fit), "tuning",
                     whole(plan->memory.tuning), "boundary", whole(plan->memory.boundary));
}

static json_t *disk_json(const aq_plan *plan) {
    return json_pack("{so so so so so}", "blocks", whole(plan->disk.blocks), "gathered",
                     whole(plan->disk.gathered), "states", whole(plan->disk.states), "snapshots",
                     whole(plan->disk.snapshots), "total", whole(aq_disk_needs_total(&plan->disk)));
}

static json_t *seconds_json(const aq_plan *plan) {
    const double *seconds = plan->block.seconds;
    return json_pack("{sf sf sf sf sf sf sf sf sf}", "forward", seconds[AQ_PHASE_FORWARD], "kmeans",
                     seconds[AQ_PHASE_KMEANS], "codebooks", seconds[AQ_PHASE_CODEBOOKS], "codes",
                     seconds[AQ_PHASE_CODES], "tuning", seconds[AQ_PHASE_TUNING], "files",
                     seconds[AQ_PHASE_FILES], "exchange", plan->exchange_seconds, "block",
                     aq_phases_total(&plan->block) + plan->exchange_seconds, "job", plan->seconds);
}

void aq_plan_print_json(const aq_plan_subject *subject, const aq_plan *plan) {
    const aq_layout *layout = &plan->layout;
    json_t *object = json_pack(
        "{sb ss ss so so so so so so so sb so so so so so so}", "fits", aq_plan_fits(plan),
        "device", subject->machine.rates.device, "backend", subject->machine.rates.backend, "ranks",
        whole(layout->ranks), "ranks_per_node", whole(layout->node_ranks), "team_size",
        whole(layout->team), "smallest_team", whole(plan->smallest_team), "peak_device_memory",
        layout->cuda ? whole(plan->device) : json_null(), "peak_memory", whole(plan->rank_host),
        "node_memory", whole(plan->node_host), "resident", plan->resident, "stages",
        memory_json(plan), "disk", disk_json(plan), "relayed", whole(plan->relayed), "exchange",
        whole(plan->exchange), "seconds", seconds_json(plan), "missing",
        subject->missing[0] ? json_string(subject->missing) : json_null());
    aq_job_print_json(object, JSON_REAL_PRECISION(6));
}
