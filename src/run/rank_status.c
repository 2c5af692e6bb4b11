#include "run/rank_status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No job has more; a file that says otherwise must not cost memory. */
enum { MOST_RANKS = 1 << 16 };

static const aq_rank_status waiting_rank = {.stage = "waiting",
                                            .block = AQ_NO_BLOCK,
                                            .last_event = NAN,
                                            .forwarding = NAN,
                                            .waiting = NAN,
                                            .quantizing = NAN,
                                            .peak_memory = NAN,
                                            .peak_device_memory = NAN};

void aq_rank_list_free(aq_rank_list *list) {
    free(list->ranks);
    *list = (aq_rank_list){0};
}

bool aq_rank_list_start(aq_rank_list *list, size_t count, double time) {
    aq_rank_list_free(list);
    if (count > MOST_RANKS) return false;
    list->ranks = malloc((count + !count) * sizeof *list->ranks);
    if (!list->ranks) return false;
    for (list->count = 0; list->count < count; list->count++) {
        list->ranks[list->count] = waiting_rank;
        list->ranks[list->count].since = time;
    }
    return true;
}

static void begin(aq_rank_status *rank, const char *stage, double time) {
    snprintf(rank->stage, sizeof rank->stage, "%s", stage);
    rank->layer[0] = 0;
    rank->block = AQ_NO_BLOCK;
    rank->since = time;
}

static void take_stage(aq_rank_status *rank, double time, const json_t *fields) {
    char stage[AQ_EVENT_TEXT];
    if (!aq_event_text(fields, "stage", stage)) return;
    begin(rank, stage, time);
    aq_event_text(fields, "layer", rank->layer);
    aq_event_count(fields, "block", 0, AQ_NO_BLOCK - 1, &rank->block);
}

static void raise_peak(const json_t *fields, const char *key, double *peak) {
    double value;
    if (aq_event_number(fields, key, &value)) *peak = fmax(*peak, value);
}

void aq_rank_list_take(aq_rank_list *list, const char *event, double time, const json_t *fields) {
    size_t number;
    if (list->count == 0 || !aq_event_count(fields, "rank", 0, list->count - 1, &number)) return;
    aq_rank_status *rank = &list->ranks[number];
    rank->last_event = time;
    raise_peak(fields, "peak_memory", &rank->peak_memory);
    raise_peak(fields, "peak_device_memory", &rank->peak_device_memory);
    if (strcmp(event, "stage") == 0) take_stage(rank, time, fields);
    if (strcmp(event, "block") == 0 || strcmp(event, "failed") == 0) begin(rank, "waiting", time);
    if (strcmp(event, "rank") != 0) return;
    aq_event_number(fields, "forwarding", &rank->forwarding);
    aq_event_number(fields, "waiting", &rank->waiting);
    aq_event_number(fields, "quantizing", &rank->quantizing);
}
