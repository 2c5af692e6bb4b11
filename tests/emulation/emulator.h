/* What the emulator's own files share (see cuda_runtime.h). */
#ifndef AQ_TESTS_EMULATION_EMULATOR_H
#define AQ_TESTS_EMULATION_EMULATOR_H

#include <cuda_runtime.h>

#include <string>

constexpr size_t emulated_most_shared = (size_t)227
                                        << 10; /* of a block, as on compute capability 9 */

/* Ends the program with what is wrong and where. */
[[noreturn]] void emulated_die(const char *what);

/* The running kernel, block and thread as text; empty outside of kernels. */
std::string emulated_place();

/* Notes what a launch leaves for cudaGetLastError. */
void emulated_note_launch(cudaError_t code);

#endif
