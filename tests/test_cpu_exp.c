#include "suite.h"
#include "tensor/cpu_exp.h"

#include <float.h>
#include <math.h>

static void it_is_within_two_units_in_the_last_place(void) {
    double worst = 0;
    for (int i = 0; i <= 175 * 4096; i++) {
        float x = -87.0f + (float)i / 4096;
        double exact = exp((double)x);
        worst = fmax(worst, fabs((double)cpu_exp(x) - exact) / exact);
    }
    CU_ASSERT_TRUE(worst < 2 * (double)FLT_EPSILON);
    CU_ASSERT_EQUAL(cpu_exp(0), 1);
}

static void it_stays_at_the_borders_and_keeps_nan(void) {
    CU_ASSERT_EQUAL(cpu_exp(-INFINITY), cpu_exp(-87));
    CU_ASSERT_EQUAL(cpu_exp(INFINITY), cpu_exp(88));
    CU_ASSERT_EQUAL(cpu_exp(1000), cpu_exp(88));
    CU_ASSERT_TRUE(isfinite(cpu_exp(88)) && cpu_exp(-87) > 0);
    CU_ASSERT_TRUE(isnan(cpu_exp(NAN)));
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {
        {"it_is_within_two_units_in_the_last_place", it_is_within_two_units_in_the_last_place},
        {"it_stays_at_the_borders_and_keeps_nan", it_stays_at_the_borders_and_keeps_nan},
    };
    return aq_test_main("cpu_exp", cases, sizeof cases / sizeof *cases, argc, argv);
}
