// Stacks of their own for the threads of a block, switched by hand.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

// ThreadSanitizer's shadow of a stack costs time, ASan's red zones make frames several times as large.
#if defined(SMPO_THREAD_SANITIZER)
constexpr size_t STACK = 64 * 1024;
#elif defined(SMPO_SANITIZED)
constexpr size_t STACK = 512 * 1024;
#else
constexpr size_t STACK = 128 * 1024;
#endif

#if defined(__x86_64__)
// A stack that is not running: its callee-saved registers lie on top of it (System V ABI).
struct Context {
    void* top = nullptr;
};

extern "C" void smpo_emulator_switch(void** from, void* to);

inline void switch_to(Context& from, Context& to) { smpo_emulator_switch(&from.top, to.top); }

// The next switch to `context` calls `start` on `stack`; it must not return.
inline void prepare(Context& context, unsigned char* stack, void (*start)()) {
    auto top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + STACK) & ~uintptr_t(15));
    *--top = nullptr; // return address of `start`; keeps the stack aligned as after a call
    *--top = reinterpret_cast<void*>(start);
    for (int i = 0; i < 6; ++i) {
        *--top = nullptr;
    }
    context.top = top;
}
#else
struct Context {
    ucontext_t context;
};

inline void switch_to(Context& from, Context& to) { swapcontext(&from.context, &to.context); }

inline void prepare(Context& context, unsigned char* stack, void (*start)()) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = stack;
    context.context.uc_stack.ss_size = STACK;
    context.context.uc_link = nullptr;
    makecontext(&context.context, start, 0);
}
#endif

} // namespace emulator
