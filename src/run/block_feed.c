#include "run/block_feed.h"

#include "base/log.h"
#include "base/stop.h"

void aq_block_feed_new(const aq_feed_settings *settings, aq_block_feed *feed) {
    *feed = (aq_block_feed){.settings = *settings, .at = AQ_NO_BOUNDARY, .made = AQ_NO_BOUNDARY};
}

void aq_block_feed_free(aq_block_feed *feed) {
    aq_activations_free(&feed->inputs);
    aq_activations_free(&feed->outputs);
}

aq_status aq_block_feed_load(const aq_block_feed *feed, size_t index, aq_block *block) {
    const aq_feed_settings *settings = &feed->settings;
    return aq_block_load(settings->source, index, settings->tokens->length, AQ_FAST,
                         settings->backend, block);
}

static bool hands_over(const aq_block_feed *feed) {
    return feed->settings.handover && feed->settings.handover->offer;
}

static size_t share(const aq_block_feed *feed) {
    return feed->settings.device_bytes / 2;
}

/* What others read is given up; other memory waits for its next use. */
static void give_up(aq_activations *activations) {
    aq_activations_forget_host(activations);
    if (aq_segment_is_read(&activations->segment)) aq_activations_free(activations);
}

/* Activations that may be overwritten; their memory is used again where nobody else reads it. */
static aq_status make_room(const aq_block_feed *feed, aq_activations *activations) {
    const aq_feed_settings *settings = &feed->settings;
    give_up(activations);
    if (activations->resident.data || activations->segment.data) return AQ_OK;
    return aq_activations_new(settings->backend, settings->tokens->sequences,
                              settings->tokens->length, settings->source->shape.hidden, share(feed),
                              activations);
}

static void swap(aq_block_feed *feed) {
    aq_activations inputs = feed->inputs;
    feed->inputs = feed->outputs;
    feed->outputs = inputs;
}

static aq_status withdraw(aq_block_feed *feed) {
    const aq_handover *handover = feed->settings.handover;
    return hands_over(feed) ? handover->withdraw(handover->state) : AQ_OK;
}

static aq_status embed(aq_block_feed *feed) {
    AQ_TRY(make_room(feed, &feed->inputs));
    AQ_TRY(aq_activations_embed(feed->settings.source, feed->settings.tokens, &feed->inputs));
    feed->at = 0;
    return AQ_OK;
}

/* What this team's last block has made becomes the inputs of the next. */
static aq_status take_own(aq_block_feed *feed, size_t boundary) {
    AQ_REQUIRE(feed->made == boundary, AQ_MISSING,
               "activations at boundary %zu should lie here, and do not", boundary);
    swap(feed);
    aq_activations_forget_host(&feed->inputs);
    feed->at = boundary;
    feed->made = AQ_NO_BOUNDARY;
    return AQ_OK;
}

static aq_activations expected_inputs(const aq_block_feed *feed) {
    const aq_feed_settings *settings = &feed->settings;
    return (aq_activations){.backend = settings->backend,
                            .sequences = settings->tokens->sequences,
                            .numbering = settings->tokens->numbering,
                            .length = settings->tokens->length,
                            .hidden = settings->source->shape.hidden};
}

/* The inputs become what lies in the segment, which is taken. */
static aq_status take_segment(aq_block_feed *feed, size_t boundary, aq_segment *segment) {
    aq_activations taken = expected_inputs(feed);
    AQ_TRY(aq_activations_take(segment, share(feed), &taken));
    feed->inputs = taken;
    feed->at = boundary;
    return AQ_OK;
}

/* Memory that nobody reads, out of activations that were given up: its pages cost a quarter of a
 * second a gigabyte, and freeing it a fifth, so it is used again. */
static aq_segment move_segment(aq_activations *activations) {
    aq_segment segment = {0};
    if (aq_segment_is_read(&activations->segment)) return segment;
    segment = activations->segment;
    activations->segment = (aq_segment){0};
    return segment;
}

/* For resident outputs, which are offered in it. */
static void keep_spare(aq_block_feed *feed, aq_segment *spare) {
    if (feed->outputs.resident.data && !feed->outputs.segment.data)
        feed->outputs.segment = *spare;
    else
        aq_segment_free(spare);
}

/* Where both are resident, one segment a rank is enough: the outputs'. */
static void pass_segment(aq_block_feed *feed) {
    if (!feed->inputs.resident.data || feed->inputs.mirrored || !feed->outputs.resident.data)
        return;
    aq_segment spare = move_segment(&feed->inputs);
    keep_spare(feed, &spare);
}

static aq_status fetch(aq_block_feed *feed, const aq_task *task) {
    const aq_handover *handover = feed->settings.handover;
    const aq_activations expected = expected_inputs(feed);
    aq_segment segment, spare = move_segment(&feed->inputs);
    if (!spare.data && feed->outputs.resident.data) spare = move_segment(&feed->outputs);
    aq_activations_free(&feed->inputs);
    aq_status status =
        handover->fetch(handover->state, task, aq_activations_bytes(&expected), &spare, &segment);
    keep_spare(feed, &spare);
    return status == AQ_OK ? take_segment(feed, task->start, &segment) : status;
}

/* The nearest snapshot up to `limit` that is good, else the embeddings. */
static aq_status recall(aq_block_feed *feed, size_t limit) {
    const aq_snapshots *snapshots = feed->settings.snapshots;
    const aq_activations expected = expected_inputs(feed);
    for (size_t boundary; snapshots && (boundary = aq_snapshots_nearest(snapshots, limit)) > 0;
         limit = boundary - 1) {
        aq_segment segment;
        aq_activations_free(&feed->inputs);
        aq_status status = aq_snapshot_read(snapshots, boundary, &expected, &segment);
        if (status == AQ_OK) return take_segment(feed, boundary, &segment);
        if (status != AQ_FORMAT && status != AQ_MISSING) return status;
    }
    return embed(feed);
}

/* A snapshot that cannot be written must not end a job that goes well. */
static aq_status keep_snapshot(aq_block_feed *feed, size_t boundary, aq_activations *activations) {
    const aq_snapshots *snapshots = feed->settings.snapshots;
    bool mirrored = activations->mirrored;
    if (!snapshots || !aq_snapshot_due(snapshots, boundary)) return AQ_OK;
    aq_status status = aq_activations_to_host(activations);
    if (status == AQ_OK) status = aq_snapshot_write(snapshots, boundary, activations);
    if (!mirrored) aq_activations_forget_host(activations);
    if (status == AQ_OK || status == AQ_STOPPED) return status;
    aq_log_warn("there is no snapshot of boundary %zu: %s", boundary, aq_error_text());
    return AQ_OK;
}

static aq_status fetch_or_recall(aq_block_feed *feed, const aq_task *task) {
    aq_status status = fetch(feed, task);
    if (status != AQ_MISSING) return status;
    aq_log_warn("%s; they are computed again", aq_error_text());
    return recall(feed, task->start);
}

static aq_status get_start(aq_block_feed *feed, const aq_task *task) {
    const aq_handover *handover = feed->settings.handover;
    AQ_TRY(withdraw(feed));
    if (task->source == AQ_SOURCE_TEAM && (!hands_over(feed) || task->team == handover->team))
        return take_own(feed, task->start);
    feed->at = feed->made = AQ_NO_BOUNDARY;
    give_up(&feed->inputs);
    give_up(&feed->outputs);
    if (task->source == AQ_SOURCE_TEAM) return fetch_or_recall(feed, task);
    return task->source == AQ_SOURCE_SNAPSHOT ? recall(feed, task->start) : embed(feed);
}

/* Replaces a loaded dense block by its finished quantized form. */
static aq_status replace_by_finished(const aq_block_feed *feed, size_t index, aq_block *block) {
    const aq_feed_settings *settings = &feed->settings;
    aq_coded_block coded;
    AQ_TRY(aq_run_directory_read_block(settings->quantized, index, settings->backend, &coded));
    aq_status status = aq_coded_block_decode(&coded, block);
    aq_coded_block_free(&coded);
    return status;
}

/* In place, unless another rank reads the inputs, too. Inputs that are half overwritten are gone.
 */
static aq_status forward(aq_block_feed *feed, const aq_block *block) {
    bool apart = !feed->inputs.resident.data && aq_segment_is_read(&feed->inputs.segment);
    if (apart) AQ_TRY(make_room(feed, &feed->outputs));
    aq_activations *outputs = apart ? &feed->outputs : &feed->inputs;
    size_t next = feed->at + 1;
    if (!apart) feed->at = AQ_NO_BOUNDARY;
    AQ_TRY(aq_activations_forward(block, &feed->inputs, NULL, 0, outputs));
    if (apart) swap(feed);
    feed->at = next;
    return AQ_OK;
}

static aq_status walk_through(aq_block_feed *feed, size_t index) {
    aq_block block;
    AQ_TRY(aq_block_feed_load(feed, index, &block));
    aq_status status = AQ_OK;
    if (feed->settings.quantized) AQ_STEP(replace_by_finished(feed, index, &block));
    AQ_STEP(forward(feed, &block));
    feed->forwards++;
done:
    aq_block_free(&block);
    return status == AQ_OK ? AQ_OK : aq_error_at(status, "forward pass of block %zu", index);
}

static bool is_on_the_way(const aq_block_feed *feed, const aq_task *task) {
    return feed->at != AQ_NO_BOUNDARY && task->start <= feed->at && feed->at <= task->block;
}

/* Whether the outputs of the block at hand will be handed over. */
static bool offers_outputs(const aq_block_feed *feed) {
    return hands_over(feed) && feed->at + 1 < feed->settings.source->shape.blocks;
}

aq_status aq_block_feed_begin(aq_block_feed *feed, const aq_task *task) {
    if (!is_on_the_way(feed, task)) AQ_TRY(get_start(feed, task));
    while (feed->at < task->block) {
        AQ_TRY(aq_stop_check());
        AQ_TRY(walk_through(feed, feed->at));
        AQ_TRY(keep_snapshot(feed, feed->at, &feed->inputs));
    }
    if (feed->made != AQ_NO_BOUNDARY) return AQ_OK;
    AQ_TRY(make_room(feed, &feed->outputs));
    pass_segment(feed);
    if (offers_outputs(feed)) aq_activations_expect_host(&feed->outputs);
    return AQ_OK;
}

aq_status aq_block_feed_forwarded(aq_block_feed *feed) {
    const aq_handover *handover = feed->settings.handover;
    size_t boundary = feed->at + 1;
    if (feed->made == boundary) return AQ_OK;
    bool last = boundary == feed->settings.source->shape.blocks;
    if (offers_outputs(feed)) {
        AQ_TRY(aq_activations_to_host(&feed->outputs));
        AQ_TRY(handover->offer(handover->state, boundary, &feed->outputs.segment));
    }
    feed->made = boundary;
    feed->forwards++;
    if (handover) AQ_TRY(handover->forwarded(handover->state, feed->at));
    bool read_next = !last && !feed->settings.quantized;
    return read_next ? keep_snapshot(feed, boundary, &feed->outputs) : AQ_OK;
}

aq_status aq_block_feed_advance(aq_block_feed *feed, const aq_block *result) {
    if (feed->settings.quantized) {
        feed->made = AQ_NO_BOUNDARY;
        AQ_TRY(forward(feed, result));
        return keep_snapshot(feed, feed->at, &feed->inputs);
    }
    if (!hands_over(feed)) return take_own(feed, feed->made);
    give_up(&feed->inputs);
    feed->at = AQ_NO_BOUNDARY;
    return AQ_OK;
}

aq_status aq_block_feed_relieve(aq_block_feed *feed, bool *relieved) {
    *relieved = feed->inputs.resident.data || feed->outputs.resident.data;
    feed->settings.device_bytes = 0;
    if (feed->at == AQ_NO_BOUNDARY) aq_activations_free(&feed->inputs);
    if (feed->made == AQ_NO_BOUNDARY) aq_activations_free(&feed->outputs);
    AQ_TRY(aq_activations_leave_device(&feed->inputs));
    return aq_activations_leave_device(&feed->outputs);
}
