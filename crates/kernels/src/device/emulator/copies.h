// Asynchronous copies of one thread to shared memory, and the groups that it waits for.
#pragma once

#include "order.h"
#include "platform.h"
#include "random.h"

#include <vector>

namespace emulator {

// When a copy happens: a GPU makes it at any time between its start and the end of the wait for its group.
enum class Moment { Start, Commit, Barrier, Wait };

class Copies {
    struct Pending {
        Copy copy;
        Moment moment;
        unsigned group;
    };
    std::vector<Pending> pending;
    unsigned committed = 0; // groups
    char* completed = nullptr; // 8 marks by group, in turn

    void complete(bool (*due)(const Pending&, unsigned), unsigned until);

public:
    void begin(char* marks);
    // What makes the copies of a watched thread; to be set before the first.
    order::Fiber engine = nullptr;
    void start(const Copy& copy, order::Fiber thread, Random& random);
    void commit(order::Fiber thread);
    void barrier();
    // Waits until at most `incomplete` of the committed groups are incomplete.
    void wait(unsigned incomplete);
    // The thread has returned.
    void finish();
};

} // namespace emulator
