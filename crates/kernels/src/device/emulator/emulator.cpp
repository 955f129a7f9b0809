// Runs kernels on the host: every thread of a block is a fiber, switched at barriers and warp exchanges.

#include "platform.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

thread_local Index thread_index, block_index, block_extent, grid_extent;

namespace {

constexpr size_t STACK = 128 * 1024;
constexpr unsigned WARP = 32;

#if defined(__x86_64__)
// Saves the callee-saved registers on the old stack and takes them from the new one (System V ABI).
extern "C" void smpo_emulator_switch(void** from, void* to);
asm(R"(
    .text
    .p2align 4
    .globl smpo_emulator_switch
    .type smpo_emulator_switch, @function
smpo_emulator_switch:
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
    .size smpo_emulator_switch, .-smpo_emulator_switch
)");

struct Context {
    void* top = nullptr;
};
void switch_to(Context& from, Context& to) { smpo_emulator_switch(&from.top, to.top); }
void prepare(Context& context, unsigned char* stack, void (*start)()) {
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
void switch_to(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
void prepare(Context& context, unsigned char* stack, void (*start)()) {
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = stack;
    context.context.uc_stack.ss_size = STACK;
    context.context.uc_link = nullptr;
    makecontext(&context.context, start, 0);
}
#endif

enum class State { Ready, AtBlock, AtWarp, Done };

struct Fiber {
    Context context;
    std::unique_ptr<unsigned char[]> stack;
    State state;
};

// Values exchanged between the threads of a warp.
struct Warp {
    uint32_t words[2][WARP];
    unsigned turn[WARP];
    float* sums[WARP];
    const uint32_t* left[WARP];
    const uint32_t* right[WARP];
    const void* rows[WARP];
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<unsigned char> shared;
    Context scheduler;
    unsigned running = 0;
    Entry entry = nullptr;
    const void* arguments = nullptr;

    Warp& warp() { return warps[running / WARP]; }
    unsigned lane() const { return running % WARP; }

    void wait(State state) {
        fibers[running].state = state;
        switch_to(fibers[running].context, scheduler);
    }
};

thread_local Block block;

void start() {
    block.entry(block.arguments);
    block.wait(State::Done);
    std::abort(); // a finished fiber is never resumed
}

// Makes fibers[first..last) ready if all of them that still run wait in `state`; true if any was.
bool release(unsigned first, unsigned last, State state) {
    bool any = false;
    for (unsigned i = first; i < last; ++i) {
        State at = block.fibers[i].state;
        if (at != State::Done && at != state) {
            return false;
        }
        any |= at == state;
    }
    if (any) {
        for (unsigned i = first; i < last; ++i) {
            if (block.fibers[i].state == state) {
                block.fibers[i].state = State::Ready;
            }
        }
    }
    return any;
}

// Runs every ready fiber once. Every other sweep goes from the last to the first: a kernel that relies on the order of
// its threads instead of a barrier then gives another result.
bool sweep(unsigned threads, bool backwards) {
    bool ran = false;
    for (unsigned step = 0; step < threads; ++step) {
        unsigned i = backwards ? threads - 1 - step : step;
        if (block.fibers[i].state == State::Ready) {
            block.running = i;
            thread_index = Index{i, 0, 0};
            switch_to(block.scheduler, block.fibers[i].context);
            ran = true;
        }
    }
    return ran;
}

bool run_block(unsigned threads, bool backwards) {
    unsigned warps = (threads + WARP - 1) / WARP;
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& fiber = block.fibers[i];
        prepare(fiber.context, fiber.stack.get(), start);
        fiber.state = State::Ready;
    }
    for (unsigned w = 0; w < warps; ++w) {
        std::memset(block.warps[w].turn, 0, sizeof block.warps[w].turn);
    }
    for (;;) {
        bool ran = sweep(threads, backwards);
        backwards = !backwards;
        for (unsigned w = 0; w < warps; ++w) {
            unsigned last = (w + 1) * WARP < threads ? (w + 1) * WARP : threads;
            ran |= release(w * WARP, last, State::AtWarp);
        }
        ran |= release(0, threads, State::AtBlock);
        if (!ran) {
            break;
        }
    }
    for (unsigned i = 0; i < threads; ++i) {
        if (block.fibers[i].state != State::Done) {
            return false; // deadlock: threads wait for others that never come
        }
    }
    return true;
}

struct Kernel {
    unsigned size = 0;
    Entry entry = nullptr;
    std::atomic<bool> launched{false};
};

std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

} // namespace

void wait_for_block() { block.wait(State::AtBlock); }
void wait_for_warp() { block.wait(State::AtWarp); }

uint32_t exchange(uint32_t value, unsigned from_lane) {
    Warp& warp = block.warp();
    unsigned lane = block.lane();
    unsigned turn = warp.turn[lane] ^= 1;
    warp.words[turn][lane] = value;
    wait_for_warp();
    return warp.words[turn][from_lane % WARP];
}

unsigned char* dynamic_shared() {
    auto start = reinterpret_cast<uintptr_t>(block.shared.data());
    return reinterpret_cast<unsigned char*>((start + 127) & ~uintptr_t(127));
}

namespace {

float element(uint32_t word, unsigned half, bool is_bf16) {
    uint16_t bits = uint16_t(word >> (16 * half));
    return is_bf16 ? to_float(bf16{bits}) : to_float(f16{bits});
}

// mma.sync.aligned.m16n8k16.row.col, its fragments as the PTX ISA lays them out: with g = lane / 4 and t = lane % 4,
// register r of a holds row g + 8·(r % 2), columns 2t + 8·(r / 2) and the next; register r of b rows 2t + 8r and the
// next of column g; element e of d row g + 8·(e / 2), column 2t + e % 2.
void multiply_warp(const Warp& warp, bool is_bf16) {
    float a[16][16], b[16][8], d[16][8];
    for (unsigned lane = 0; lane < WARP; ++lane) {
        unsigned g = lane / 4, t = lane % 4;
        for (unsigned r = 0; r < 4; ++r) {
            for (unsigned half = 0; half < 2; ++half) {
                a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + half] = element(warp.left[lane][r], half, is_bf16);
            }
        }
        for (unsigned r = 0; r < 2; ++r) {
            for (unsigned half = 0; half < 2; ++half) {
                b[2 * t + 8 * r + half][g] = element(warp.right[lane][r], half, is_bf16);
            }
        }
        for (unsigned e = 0; e < 4; ++e) {
            d[g + 8 * (e / 2)][2 * t + e % 2] = warp.sums[lane][e];
        }
    }
    for (unsigned i = 0; i < 16; ++i) {
        for (unsigned k = 0; k < 16; ++k) {
            for (unsigned j = 0; j < 8; ++j) {
                d[i][j] += a[i][k] * b[k][j];
            }
        }
    }
    for (unsigned lane = 0; lane < WARP; ++lane) {
        unsigned g = lane / 4, t = lane % 4;
        for (unsigned e = 0; e < 4; ++e) {
            warp.sums[lane][e] = d[g + 8 * (e / 2)][2 * t + e % 2];
        }
    }
}

} // namespace

void multiply_tiles(float* d, const uint32_t* a, const uint32_t* b, bool is_bf16) {
    Warp& warp = block.warp();
    unsigned lane = block.lane();
    warp.sums[lane] = d;
    warp.left[lane] = a;
    warp.right[lane] = b;
    wait_for_warp();
    // All registers are set. The first thread to resume computes for all.
    if (warp.sums[lane] != nullptr) {
        multiply_warp(warp, is_bf16);
        for (auto& sums : warp.sums) {
            sums = nullptr;
        }
    }
}

void load_matrices(uint32_t* registers, const void* row, bool transposed) {
    Warp& warp = block.warp();
    unsigned lane = block.lane();
    warp.rows[lane] = row;
    wait_for_warp();
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
        uint16_t pair[2];
        for (unsigned half = 0; half < 2; ++half) {
            unsigned i = lane / 4, j = 2 * (lane % 4) + half;
            unsigned from = transposed ? j : i, at = transposed ? i : j;
            pair[half] = static_cast<const uint16_t*>(warp.rows[8 * matrix + from])[at];
        }
        registers[matrix] = uint32_t(pair[0]) | uint32_t(pair[1]) << 16;
    }
    // The addresses stay until all have read.
    wait_for_warp();
}

Registration::Registration(const char* name, unsigned size, Entry entry) {
    Kernel& kernel = kernels()[name];
    kernel.size = size;
    kernel.entry = entry;
}

} // namespace emulator

// Runs blocks `first` to `last` − 1 of a grid, x fastest. Returns 0; 1 if there is no such kernel; 2 if its arguments
// have another size; 3 if threads of a block wait for others that never come.
extern "C" int smpo_emulator_launch(const char* name, const void* arguments, unsigned size, const unsigned* grid,
                                    unsigned threads, unsigned shared_bytes, unsigned first, unsigned last) {
    using namespace emulator;
    auto found = kernels().find(name);
    if (found == kernels().end()) {
        return 1;
    }
    if (found->second.size != size) {
        return 2;
    }
    found->second.launched.store(true, std::memory_order_relaxed);
    Block& own = block;
    while (own.fibers.size() < threads) {
        own.fibers.emplace_back();
        own.fibers.back().stack.reset(new unsigned char[STACK]);
    }
    own.warps.resize((threads + WARP - 1) / WARP);
    own.shared.resize(shared_bytes + 128);
    own.entry = found->second.entry;
    own.arguments = arguments;
    block_extent = Index{threads, 1, 1};
    grid_extent = Index{grid[0], grid[1], grid[2]};
    for (unsigned index = first; index < last; ++index) {
        // Shared memory starts as NaN, so that a read before a write shows in the result.
        std::memset(own.shared.data(), 0xff, own.shared.size());
        block_index = Index{index % grid[0], index / grid[0] % grid[1], index / (grid[0] * grid[1])};
        if (!run_block(threads, index % 2 == 1)) {
            return 3;
        }
    }
    return 0;
}

// Calls `visit` with the name of every kernel that was never launched.
extern "C" void smpo_emulator_unlaunched(void (*visit)(void* context, const char* name), void* context) {
    for (auto& [name, kernel] : emulator::kernels()) {
        if (!kernel.launched.load(std::memory_order_relaxed)) {
            visit(context, name.c_str());
        }
    }
}

// All .cu files; written by the build script.
#include "kernels.cuh"
