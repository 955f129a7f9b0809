#include "block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace emulator {

__thread Block* current = nullptr;
__thread Index thread_index, block_index, block_extent, grid_extent;

#if defined(__x86_64__)
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
#endif

namespace {

// Of ThreadSanitizer's 8,128.
constexpr size_t MOST_FIBERS = 4000;

// Released by every thread that returns, acquired at the end of a launch.
char end_mark;

const char* name_of(Operation operation) {
    switch (operation) {
    case Operation::Start: return "its start";
    case Operation::BlockBarrier: return "a barrier of the block";
    case Operation::WarpBarrier: return "a barrier of the warp";
    case Operation::Shuffle: return "a shuffle";
    case Operation::MatrixProduct: return "a product of matrices";
    case Operation::MatrixLoad: return "a load of matrices";
    case Operation::Returned: return "its end";
    }
    return "";
}

const char* base_name(const char* path) {
    const char* slash = std::strrchr(path, '/');
    return slash == nullptr ? path : slash + 1;
}

uint64_t hash(const char* text) { // FNV-1a
    uint64_t value = 0xcbf29ce484222325u;
    for (; *text != 0; ++text) {
        value = (value ^ uint8_t(*text)) * 0x100000001b3u;
    }
    return value;
}

std::string describe(const Thread& thread, unsigned index) {
    std::string text = "thread " + std::to_string(index) + " is at " + name_of(thread.operation);
    return thread.operation == Operation::Returned ? text : text + ", " + to_string(thread.site);
}

bool together(const Thread& a, const Thread& b) {
    return a.operation == b.operation &&
           (a.operation == Operation::Returned ||
            (a.site.line == b.site.line && std::strcmp(a.site.file, b.site.file) == 0));
}

} // namespace

std::string to_string(Site site) { return std::string(base_name(site.file)) + ":" + std::to_string(site.line); }

bool Block::omits(Site site) const {
    return schedule->omitted_file != nullptr && unsigned(site.line) == schedule->omitted_line &&
           std::strcmp(base_name(site.file), schedule->omitted_file) == 0;
}

void Block::fail(Site site, const std::string& what) {
    fault = "thread " + std::to_string(running) + ", " + to_string(site) + ": " + what;
    left = 0;
    resume_next(thread().context); // never to come back
}

void Block::wait(Operation operation, Site site) {
    Thread& own = thread();
    own.operation = operation;
    own.site = site;
    char* mark = nullptr;
    if (operation == Operation::BlockBarrier) {
        own.copies.barrier();
        mark = &marks.back()->barriers[own.barriers++ % 2];
    } else if (operation == Operation::WarpBarrier) {
        mark = &marks.back()->warp_barriers[running / WARP][own.warp_barriers++ % 2];
    }
    if (mark != nullptr) {
        order::release(*mark);
    }
    resume_next(own.context);
    if (mark != nullptr) {
        order::acquire(*mark);
    }
}

void Block::start_copy(const Copy& copy) {
    Thread& own = thread();
    if (order::WATCHED && own.copies.engine == nullptr) {
        own.copies.engine = order::create();
        fibers.push_back(own.copies.engine);
    }
    own.copies.start(copy, own.fiber, random);
}

unsigned char* Block::array(const void* declaration, size_t bytes) {
    // What is allocated has been written by nobody who takes part.
    char& mark = marks.back()->allocations;
    order::become(allocator);
    unsigned char* start = shared.array(declaration, bytes);
    order::release(mark);
    order::become(thread().fiber);
    order::acquire(mark);
    return start;
}

void Block::run_thread() {
    current->entry(current->arguments);
    current->return_thread();
}

void Block::return_thread() {
    Thread& own = thread();
    own.copies.finish();
    own.operation = Operation::Returned;
    order::release(end_mark);
    resume_next(own.context);
    std::abort(); // a thread that has returned is never resumed
}

// Goes on with the next lane of the turn, or with the scheduler.
void Block::resume_next(Context& from) {
    if (left == 0) {
        order::become(scheduler_fiber);
        switch_to(from, scheduler);
        return;
    }
    --left;
    place = (place + stride) % WARP;
    running = running / WARP * WARP + place;
    thread_index = Index{running, 0, 0};
    Thread& next = thread();
    order::become(next.fiber);
    switch_to(from, next.context);
}

// Runs every lane of a warp to its next operation, in random order.
void Block::turn(unsigned warp) {
    uint32_t drawn = random.next();
    running = warp * WARP;
    left = WARP;
    place = drawn % WARP;
    stride = drawn / WARP % WARP | 1;
    resume_next(scheduler);
}

// Notes where a warp has come to: true if it can go on by itself.
bool Block::settle(unsigned warp) {
    const Thread* first = &threads[warp * WARP];
    for (unsigned lane = 1; lane < WARP; ++lane) {
        if (!together(first[0], first[lane])) {
            fault = "lanes of a warp are at different operations: " + describe(first[0], warp * WARP) + ", " +
                    describe(first[lane], warp * WARP + lane);
            return false;
        }
    }
    at_barrier += first->operation == Operation::BlockBarrier;
    return first->operation != Operation::BlockBarrier && first->operation != Operation::Returned;
}

// No warp can go on by itself. True if all were at a barrier, and are ready again; false at the end, or at a fault.
bool Block::pass_barrier() {
    if (at_barrier == 0) {
        return false;
    }
    at_barrier = 0;
    for (unsigned warp = 0; warp < warps.size(); ++warp) {
        if (!together(threads[0], threads[warp * WARP])) {
            fault = "threads of a block wait for others that never come: " + describe(threads[0], 0) + ", " +
                    describe(threads[warp * WARP], warp * WARP);
            return false;
        }
        ready.push_back(warp);
    }
    return true;
}

void Block::begin(unsigned count) {
    while (threads.size() < count) {
        threads.emplace_back();
        threads.back().stack.reset(new unsigned char[STACK]);
    }
    warps.resize(count / WARP);
    scheduler_fiber = order::running();
    if (marks.empty() || order::WATCHED) {
        marks.emplace_back(new order::Marks());
        if (fibers.size() > MOST_FIBERS) {
            free_fibers();
        }
        fibers.reserve(2 * MOST_FIBERS); // threads that add to it have no order
        allocator = order::create();
        fibers.push_back(allocator);
    }
    for (unsigned i = 0; i < count; ++i) {
        Thread& own = threads[i];
        if (order::WATCHED) {
            stacks.push_back(std::move(own.stack));
            own.stack.reset(new unsigned char[STACK]);
        }
        prepare(own.context, own.stack.get(), run_thread);
        own.operation = Operation::Start;
        own.barriers = own.warp_barriers = 0;
        own.fenced = false;
        own.added = nullptr;
        own.fiber = order::create();
        own.copies.begin(marks.back()->copies[i]);
        fibers.push_back(own.fiber);
    }
    ready.clear();
    for (unsigned warp = 0; warp < warps.size(); ++warp) {
        std::memset(warps[warp].turn, 0, sizeof warps[warp].turn);
        ready.push_back(warp);
    }
    at_barrier = 0;
    fault.clear();
}

void Block::free_fibers() {
    for (auto fiber : fibers) {
        order::destroy(fiber);
    }
    fibers.clear();
}

void Block::end_launch() {
    order::acquire(end_mark);
    free_fibers();
    marks.clear();
    stacks.clear();
    shared.end_launch();
}

bool Block::run(unsigned count, const char* kernel, unsigned index) {
    // The same on whatever thread of the operating system the block runs, and after whatever else.
    random = Random(schedule->seed ^ hash(kernel) ^ uint64_t(index) << 32);
    begin(count);
    do {
        while (!ready.empty() && fault.empty()) {
            unsigned at = random.below(unsigned(ready.size())), warp = ready[at];
            bool more = true;
            for (unsigned turns = 1u << random.below(12); turns > 0 && more; --turns) {
                turn(warp);
                more = fault.empty() && settle(warp);
            }
            if (!more) {
                ready[at] = ready.back();
                ready.pop_back();
            }
        }
    } while (fault.empty() && pass_barrier());
    if (fault.empty()) {
        fault = shared.fault();
    }
    return fault.empty();
}

} // namespace emulator
