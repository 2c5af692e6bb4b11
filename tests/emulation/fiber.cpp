#include "fiber.h"

#include <cstdint>

#ifdef EMULATION_UCONTEXT

void fiber_make(fiber *made, char *stack, size_t bytes, void (*entry)()) {
    getcontext(&made->context);
    made->context.uc_stack.ss_sp = stack;
    made->context.uc_stack.ss_size = bytes;
    made->context.uc_link = nullptr;
    makecontext(&made->context, entry, 0);
}

void fiber_switch(fiber *from, fiber *to) {
    swapcontext(&from->context, &to->context);
}

#else

/* swapcontext asks the kernel for the signal mask at every switch; a tenth of the time does it.
 * What the calling convention lets a function keep in registers is put on the stack. */
extern "C" void emulated_switch_stacks(void **from, void *to);
asm(R"(
    .text
    .globl emulated_switch_stacks
    .type emulated_switch_stacks, @function
emulated_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulated_switch_stacks, . - emulated_switch_stacks
)");

/* As if entry's caller had been stopped: an empty return address keeps the stack aligned as entry
 * expects it, below stand entry and the six registers. */
void fiber_make(fiber *made, char *stack, size_t bytes, void (*entry)()) {
    constexpr int kept_registers = 6;
    uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + bytes) & ~(uintptr_t)15;
    void **pointer = reinterpret_cast<void **>(top) - 2;
    *--pointer = nullptr;
    *--pointer = reinterpret_cast<void *>(entry);
    for (int i = 0; i < kept_registers; i++) *--pointer = nullptr;
    made->stack_pointer = pointer;
}

void fiber_switch(fiber *from, fiber *to) {
    emulated_switch_stacks(&from->stack_pointer, to->stack_pointer);
}

#endif
