// The order between threads of a block, as ThreadSanitizer is told of it; nothing in other builds.
//
// Each CUDA thread and each thread's copy engine is a fiber of the sanitizer. A switch between fibers orders nothing:
// only what CUDA orders is released and acquired.
#pragma once

#if defined(SMPO_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_acquire(void* at);
extern "C" void __tsan_release(void* at);
#endif

namespace emulator::order {

using Fiber = void*;

// What the threads of one block release and acquire. Barriers take two marks in turn: whoever is at the next one must
// not be known to those who have only just passed the last.
struct Marks {
    char barriers[2];
    char warp_barriers[32][2];
    char copies[1024][8]; // of a thread, by group in turn
    char allocations;
};

#if defined(SMPO_THREAD_SANITIZER)
constexpr bool WATCHED = true;
inline Fiber running() { return __tsan_get_current_fiber(); }
inline Fiber create() { return __tsan_create_fiber(0); }
inline void destroy(Fiber fiber) { __tsan_destroy_fiber(fiber); }
// The accesses that follow are `fiber`'s, without an order to those before.
inline void become(Fiber fiber) { __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync); }
// The accesses that follow are `fiber`'s, after those of the fiber that calls.
inline void become_after(Fiber fiber) { __tsan_switch_to_fiber(fiber, 0); }
// What acquires `at` later comes after what the fiber has done.
inline void release(char& at) { __tsan_release(&at); }
inline void acquire(char& at) { __tsan_acquire(&at); }
#else
constexpr bool WATCHED = false;
inline Fiber running() { return nullptr; }
inline Fiber create() { return nullptr; }
inline void destroy(Fiber) {}
inline void become(Fiber) {}
inline void become_after(Fiber) {}
inline void release(char&) {}
inline void acquire(char&) {}
#endif

} // namespace emulator::order
