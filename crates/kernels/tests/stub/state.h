// What the libraries of the stub share: memory, settings, the record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace stub {

using Handle = void*;

// A number of the environment: `SMPO_STUB_<name>`.
long setting(const char* name, long otherwise);

// A line of the record, the file that SMPO_STUB_RECORD names.
void record(const char* format, ...) __attribute__((format(printf, 1, 2)));

// True if `bytes` from `at` on lie in one allocation of this thread's device.
bool holds(const void* at, size_t bytes);

// The driver's error that a call has to return before it does anything: that of a lost device, or of a thread without a
// context. 0: none.
int refusal();

// Counts a kernel or product, after so many of which the device is lost.
void count_work();

} // namespace stub
