// Launches the kernels under a sanitizer, which finds what is wrong with them; values are the self-test's business.
//
//   harness                     every case; fails if a kernel is in none
//   harness CASE…               some cases
//   --list                      the cases' names alone
//   --without FILE:LINE         leaves out that barrier, commit or wait
//   --seed N                    another order of warps

#include "../../src/device/emulator/block.h"
#include "../../src/device/emulator/kernels.cpp"

extern "C" bool smpo_emulator_launch(const char* name, const void* arguments, unsigned size, const unsigned* grid,
                                     unsigned threads, unsigned shared_bytes, unsigned first, unsigned last,
                                     const emulator::Schedule* schedule, char* reason, unsigned reason_bytes);
extern "C" void smpo_emulator_unlaunched(void (*visit)(void* context, const char* name), void* context);

#include "attention_cases.h"
#include "cases.h"
#include "decode_cases.h"

using namespace harness;

// A case for each pass of attention's kernels, by element and padded width.
template <int PADDED> void attention_of(int width) {
    attention<float, PADDED>(width, 2, 1, 0, 0);
    attention<bf16, PADDED>(width, 2, 1, 0, 0);
    attention<f16, PADDED>(width, 4, 2, 8, 50);
}

struct Case {
    const char* name;
    void (*run)();
};

const Case CASES[] = {
    {"attention_32", [] { attention_of<32>(24); }},
    {"attention_64", [] { attention_of<64>(64); }},
    {"attention_96", [] { attention_of<96>(80); }},
    {"attention_128", [] { attention_of<128>(128); }},
    {"attention_256", [] { attention_of<256>(136); }},
    {"norms", norms},
    {"head", head},
    {"squares", squares},
    {"conversions", conversions},
    {"sums_by_id", sums_by_id},
    {"cached_heads", cached_heads_of_all},
    {"cached_attention", cached_attentions},
    {"draw", draws},
    {"f32", of_dtype<float>},
    {"bf16", of_dtype<bf16>},
    {"f16", of_dtype<f16>},
};

int main(int count, char** arguments) {
    std::vector<std::string> chosen;
    std::string without;
    for (int i = 1; i < count; ++i) {
        std::string text = arguments[i];
        if (text == "--without" && i + 1 < count) {
            without = arguments[++i];
        } else if (text == "--list") {
            for (auto& one : CASES) {
                std::printf("%s\n", one.name);
            }
            return 0;
        } else if (text == "--seed" && i + 1 < count) {
            schedule.seed = std::strtoull(arguments[++i], nullptr, 10);
        } else {
            chosen.push_back(text);
        }
    }
    size_t colon = without.find(':');
    const std::string file = without.substr(0, colon);
    if (colon != std::string::npos) {
        schedule.omitted_file = file.c_str();
        schedule.omitted_line = uint32_t(std::strtoul(without.c_str() + colon + 1, nullptr, 10));
    }
    size_t ran = 0;
    for (auto& one : CASES) {
        if (chosen.empty() || std::find(chosen.begin(), chosen.end(), one.name) != chosen.end()) {
            one.run();
            std::printf("%s\n", one.name);
            std::fflush(stdout);
            ++ran;
        }
    }
    if (!chosen.empty() && ran != chosen.size()) {
        fail("a case is unknown");
    }
    if (chosen.empty()) {
        smpo_emulator_unlaunched([](void*, const char* name) { fail(std::string(name) + ": in no case"); }, nullptr);
    }
    return failed ? 1 : 0;
}
