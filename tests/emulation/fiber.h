/* Fibers: functions with stacks of their own that hand the processor to each other. */
#ifndef AQ_TESTS_EMULATION_FIBER_H
#define AQ_TESTS_EMULATION_FIBER_H

#include <cstddef>

#if !defined __x86_64__ && !defined EMULATION_UCONTEXT
#define EMULATION_UCONTEXT
#endif
#ifdef EMULATION_UCONTEXT
#include <ucontext.h>
#endif

struct fiber {
#ifdef EMULATION_UCONTEXT
    ucontext_t context;
#else
    void *stack_pointer;
#endif
};

/* The first switch to *made calls entry, which never returns, on this stack. */
void fiber_make(fiber *made, char *stack, size_t bytes, void (*entry)());

/* Stops the running fiber, to be continued as *from, and continues *to. */
void fiber_switch(fiber *from, fiber *to);

#endif
