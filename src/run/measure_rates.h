/* Measures the rates of a backend on this machine, within half a minute.
 *
 * Every step of the method is run as a job runs it, once so small that it shows what a step costs
 * at least, and once large enough to fill the device.
 */
#ifndef AQ_RUN_MEASURE_RATES_H
#define AQ_RUN_MEASURE_RATES_H

#include "run/rates.h"
#include "tensor/ops.h"

/* STOPPED (base/stop.h); MEMORY if the problems do not fit. */
aq_status aq_measure_rates(aq_backend *backend, aq_rates *rates);

#endif
