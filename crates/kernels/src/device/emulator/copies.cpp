#include "copies.h"

#include <algorithm>

namespace emulator {

void Copies::begin(char* marks) {
    pending.clear();
    committed = 0;
    engine = nullptr;
    completed = marks;
}

void Copies::start(const Copy& copy, order::Fiber thread, Random& random) {
    if (order::WATCHED) {
        // The copy engine's accesses have no order to anything that comes after, but for a wait.
        order::become_after(engine);
        copy_now(copy.shared, copy.global, copy.there);
        order::become(thread);
        return;
    }
    auto moment = Moment(random.below(4));
    if (moment == Moment::Start) {
        copy_now(copy.shared, copy.global, copy.there);
    } else {
        pending.push_back({copy, moment, committed});
    }
}

void Copies::complete(bool (*due)(const Pending&, unsigned), unsigned until) {
    if (pending.empty()) {
        return;
    }
    auto done = std::remove_if(pending.begin(), pending.end(), [&](const Pending& one) {
        bool now = due(one, until);
        if (now) {
            copy_now(one.copy.shared, one.copy.global, one.copy.there);
        }
        return now;
    });
    pending.erase(done, pending.end());
}

void Copies::commit(order::Fiber thread) {
    complete([](const Pending& one, unsigned) { return one.moment == Moment::Commit; }, 0);
    if (engine != nullptr) {
        order::become(engine);
        order::release(completed[committed % 8]);
        order::become(thread);
    }
    ++committed;
}

void Copies::barrier() {
    complete([](const Pending& one, unsigned) { return one.moment == Moment::Barrier; }, 0);
}

void Copies::wait(unsigned incomplete) {
    unsigned until = committed - std::min(incomplete, committed);
    complete([](const Pending& one, unsigned until) { return one.group < until; }, until);
    if (engine != nullptr && until > 0) {
        order::acquire(completed[(until - 1) % 8]);
    }
}

void Copies::finish() {
    complete([](const Pending&, unsigned) { return true; }, 0);
}

} // namespace emulator
