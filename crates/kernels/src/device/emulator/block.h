// A block of threads on one thread of the operating system.
//
// Warps run at random: a warp runs alone for a random while, its lanes in random order from one operation of the warp to
// the next, as nothing but a barrier keeps a GPU's warps together. A kernel without a race gives the same results under
// every seed.
#pragma once

#include "copies.h"
#include "fiber.h"
#include "order.h"
#include "platform.h"
#include "random.h"
#include "shared_memory.h"

#include <memory>
#include <string>
#include <vector>

namespace emulator {

constexpr unsigned WARP = 32;

// What a thread waits in.
enum class Operation { Start, BlockBarrier, WarpBarrier, Shuffle, MatrixProduct, MatrixLoad, Returned };

// How the threads of a grid are run; the twin of `Schedule` in emulator.rs.
struct Schedule {
    uint64_t seed;
    // A barrier, commit or wait that is left out, to see that its lack is noticed; null: none.
    const char* omitted_file;
    uint32_t omitted_line;
    uint32_t unused;
};

struct Thread {
    Context context;
    std::unique_ptr<unsigned char[]> stack;
    Operation operation;
    Site site;
    Copies copies;
    order::Fiber fiber = nullptr;
    unsigned barriers = 0, warp_barriers = 0; // passed
    bool fenced = false;                      // since its start
    void* added = nullptr;                    // the word that it last added to
};

// Values exchanged between the lanes of a warp: two sets in turn, so that one wait an exchange is enough.
struct Warp {
    uint32_t words[2][WARP];
    const void* rows[2][WARP];
    unsigned turn[WARP];
    float* sums[WARP];
    const uint32_t* left[WARP];
    const uint32_t* right[WARP];
};

struct Block {
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    SharedMemory shared;
    Random random;
    const Schedule* schedule = nullptr;
    Entry entry = nullptr;
    const void* arguments = nullptr;
    unsigned running = 0; // thread

    // Runs the threads to their ends. False if there is a `fault`.
    bool run(unsigned count, const char* kernel, unsigned index);
    void end_launch();
    std::string fault;

    Thread& thread() { return threads[running]; }
    Warp& warp() { return warps[running / WARP]; }
    unsigned lane() const { return running % WARP; }

    // Stops the running thread until all threads that take part have come to the operation.
    void wait(Operation operation, Site site);
    // Notes a fault of the running thread; the block ends with it.
    void fail(Site site, const std::string& what);
    bool omits(Site site) const;
    void start_copy(const Copy& copy);
    // An array of shared memory that the kernel declares.
    unsigned char* array(const void* declaration, size_t bytes);

private:
    Context scheduler;
    order::Fiber scheduler_fiber = nullptr;
    std::vector<order::Fiber> fibers; // of this launch
    std::vector<std::unique_ptr<order::Marks>> marks; // of each block of this launch
    std::vector<std::unique_ptr<unsigned char[]>> stacks; // of its blocks before, which have no order to this one
    std::vector<unsigned> ready; // warps
    // Lanes of the running warp that are still to run in this turn, and the last one's place in their order.
    unsigned left = 0, place = 0, stride = 1;
    unsigned at_barrier = 0; // warps

    order::Fiber allocator = nullptr;

    void begin(unsigned count);
    void free_fibers();
    void turn(unsigned warp);
    void resume_next(Context& from);
    bool settle(unsigned warp);
    bool pass_barrier();
    void return_thread();
    static void run_thread();
};

// The block that this thread of the operating system runs.
extern __thread Block* current;

std::string to_string(Site site);

} // namespace emulator
