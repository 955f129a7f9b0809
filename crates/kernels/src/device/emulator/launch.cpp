// The kernels by name, and their launch.

#include "block.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>

namespace emulator {

namespace {

struct Kernel {
    unsigned size = 0;
    unsigned most_threads = 0;
    Entry entry = nullptr;
    std::atomic<bool> launched{false};
};

std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

thread_local Block block;

} // namespace

Registration::Registration(const char* name, unsigned size, unsigned most_threads, Entry entry) {
    Kernel& kernel = kernels()[name];
    kernel.size = size;
    kernel.most_threads = most_threads;
    kernel.entry = entry;
}

void block_barrier(Site site) {
    if (!current->omits(site)) {
        current->wait(Operation::BlockBarrier, site);
    }
}

// Two fences order what is before the first one and what is after the second one if the first thread adds to a word after it,
// and the second thread, later, before it. The blocks of a launch may run on several threads of the operating system.
void fence(Site site) {
    if (current->omits(site)) {
        return;
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    Thread& own = current->thread();
    own.fenced = true;
    if (own.added != nullptr) {
        order::acquire(*static_cast<char*>(own.added));
    }
}

uint32_t add_atomically(uint32_t* word, uint32_t value) {
    Thread& own = current->thread();
    if (own.fenced) {
        order::release(*reinterpret_cast<char*>(word));
    }
    own.added = word;
    return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

unsigned char* dynamic_shared() { return current->shared.dynamic(); }

void* declared_shared(const void* declaration, size_t bytes) { return current->array(declaration, bytes); }

void start_copy(const Copy& copy, Site site) {
    auto aligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; };
    if (!aligned(copy.shared) || !aligned(copy.global)) {
        current->fail(site, "expected a copy between multiples of 16 bytes");
    }
    if (!current->shared.holds(copy.shared, 16)) {
        current->fail(site, "expected a copy to shared memory");
    }
    current->start_copy(copy);
}

void commit_copies(Site site) {
    Thread& own = current->thread();
    if (!current->omits(site)) {
        own.copies.commit(own.fiber);
    }
}

void wait_for_copies(unsigned incomplete, Site site) {
    if (!current->omits(site)) {
        current->thread().copies.wait(incomplete);
    }
}

namespace {

// Runs blocks `first` to `last` − 1; the fault that ended them, else nothing.
std::string run(const char* name, Kernel& kernel, const void* arguments, Index grid, unsigned threads,
                unsigned shared_bytes, unsigned first, unsigned last, const Schedule& schedule) {
    kernel.launched.store(true, std::memory_order_relaxed);
    current = &block;
    block.schedule = &schedule;
    block.entry = kernel.entry;
    block.arguments = arguments;
    block_extent = Index{threads, 1, 1};
    grid_extent = grid;
    std::string fault;
    for (unsigned index = first; index < last && fault.empty(); ++index) {
        block.shared.begin_block(shared_bytes);
        block_index = Index{index % grid.x, index / grid.x % grid.y, index / (grid.x * grid.y)};
        if (!block.run(threads, name, index)) {
            fault = "block " + std::to_string(index) + ": " + block.fault;
        }
    }
    block.end_launch();
    return fault;
}

} // namespace

} // namespace emulator

// Runs blocks `first` to `last` − 1 of a grid, x fastest. True unless it failed; the reason, which may be cut, is then
// in `reason`.
extern "C" bool smpo_emulator_launch(const char* name, const void* arguments, unsigned size, const unsigned* grid,
                                     unsigned threads, unsigned shared_bytes, unsigned first, unsigned last,
                                     const emulator::Schedule* schedule, char* reason, unsigned reason_bytes) {
    using namespace emulator;
    auto found = kernels().find(name);
    std::string fault;
    if (found == kernels().end()) {
        fault = "no such kernel";
    } else if (found->second.size != size) {
        fault = "its arguments are of " + std::to_string(found->second.size) + " bytes, not " + std::to_string(size);
    } else if (found->second.most_threads < threads) {
        fault = "it is for at most " + std::to_string(found->second.most_threads) + " threads a block, not " +
                std::to_string(threads);
    } else {
        Index extent{grid[0], grid[1], grid[2]};
        fault = run(name, found->second, arguments, extent, threads, shared_bytes, first, last, *schedule);
    }
    std::snprintf(reason, reason_bytes, "%s", fault.c_str());
    return fault.empty();
}

// Calls `visit` with the name of every kernel that was never launched.
extern "C" void smpo_emulator_unlaunched(void (*visit)(void* context, const char* name), void* context) {
    for (auto& [name, kernel] : emulator::kernels()) {
        if (!kernel.launched.load(std::memory_order_relaxed)) {
            visit(context, name.c_str());
        }
    }
}
