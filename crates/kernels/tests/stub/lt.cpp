// cuBLASLt without a GPU: products with a bias as their epilogue, on the host, from descriptors as cuBLASLt documents them.
//
// SMPO_STUB_LT   0: there is an algorithm for no product [1]

#include "matrices.h"

#include <cstring>

namespace {

using namespace stub;

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t stride;
};

// Attributes by their numbers.
enum { TRANSPOSE_A = 3, TRANSPOSE_B = 4, EPILOGUE = 7, BIAS = 8 };
struct Description {
    int compute, scale_type, transpose_a = NO_TRANSPOSE, transpose_b = NO_TRANSPOSE;
    uint32_t epilogue = 1; // none
    const void* bias = nullptr;
};

enum { MOST_WORKSPACE = 1, REDUCTIONS = 3, ALIGNMENT_A = 5 };
struct Preference {
    size_t workspace = 0;
    uint32_t reductions = 7;
    uint32_t alignments[4] = {256, 256, 256, 256};
};

constexpr uint32_t EPILOGUE_BIAS = 4, REDUCTION_IN_COMPUTE_TYPE = 2;

// Algorithms are opaque to callers. This one notes for which addresses it was asked.
struct Algorithm {
    uint64_t magic;
    uint32_t alignments[4];
    uint64_t workspace;
    uint64_t unused[4];
};
struct Heuristic {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
constexpr uint64_t MAGIC = 0x6c74;

int handle = 0;

// Copies an attribute, whose size has to be right.
template <class T> int take(T& to, const void* from, size_t bytes) {
    if (bytes != sizeof to) {
        return INVALID_VALUE;
    }
    std::memcpy(&to, from, bytes);
    return SUCCESS;
}

bool aligned(const void* at, uint32_t bytes) { return reinterpret_cast<uintptr_t>(at) % bytes == 0; }

bool is_type(int type) { return type == F32 || type == F16 || type == BF16; }

} // namespace

extern "C" {

int cublasLtCreate(Handle* out) {
    *out = &handle;
    return SUCCESS;
}
int cublasLtDestroy(Handle) { return SUCCESS; }

int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    *layout = new Layout{type, rows, columns, stride};
    return SUCCESS;
}
int cublasLtMatrixLayoutDestroy(Layout* layout) {
    delete layout;
    return SUCCESS;
}

int cublasLtMatmulDescCreate(Description** description, int compute, int scale_type) {
    *description = new Description{compute, scale_type};
    return SUCCESS;
}
int cublasLtMatmulDescSetAttribute(Description* description, int attribute, const void* value, size_t bytes) {
    switch (attribute) {
        case TRANSPOSE_A: return take(description->transpose_a, value, bytes);
        case TRANSPOSE_B: return take(description->transpose_b, value, bytes);
        case EPILOGUE: return take(description->epilogue, value, bytes);
        case BIAS: return take(description->bias, value, bytes);
        default: return NOT_SUPPORTED;
    }
}
int cublasLtMatmulDescDestroy(Description* description) {
    delete description;
    return SUCCESS;
}

int cublasLtMatmulPreferenceCreate(Preference** preference) {
    *preference = new Preference;
    return SUCCESS;
}
int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t bytes) {
    switch (attribute) {
        case MOST_WORKSPACE: return take(preference->workspace, value, bytes);
        case REDUCTIONS: return take(preference->reductions, value, bytes);
        case ALIGNMENT_A:
        case ALIGNMENT_A + 1:
        case ALIGNMENT_A + 2:
        case ALIGNMENT_A + 3: return take(preference->alignments[attribute - ALIGNMENT_A], value, bytes);
        default: return NOT_SUPPORTED;
    }
}
int cublasLtMatmulPreferenceDestroy(Preference* preference) {
    delete preference;
    return SUCCESS;
}

int cublasLtMatmulAlgoGetHeuristic(Handle, Description* description, Layout*, Layout*, Layout*, Layout*, Preference* preference,
                                   int, Heuristic* found, int* count) {
    *count = 0;
    if (preference->reductions != REDUCTION_IN_COMPUTE_TYPE || description->epilogue != EPILOGUE_BIAS) {
        return NOT_SUPPORTED;
    }
    if (!setting("LT", 1)) {
        return SUCCESS; // none found
    }
    *found = {};
    found->algorithm.magic = MAGIC;
    std::memcpy(found->algorithm.alignments, preference->alignments, sizeof preference->alignments);
    found->algorithm.workspace = found->workspace = preference->workspace;
    *count = 1;
    return SUCCESS;
}

// D = alpha · op(A) · op(B) + beta · C, all column by column, and the bias added to each column.
int cublasLtMatmul(Handle, Description* description, const float* alpha, const void* a, Layout* of_a, const void* b, Layout* of_b,
                   const float* beta, const void* c, Layout*, void* d, Layout* of_d, const Algorithm* algorithm, void* workspace,
                   size_t workspace_bytes, Handle stream) {
    if (refusal()) {
        return EXECUTION_FAILED;
    }
    bool left = description->transpose_a == TRANSPOSE, right = description->transpose_b == TRANSPOSE;
    int m = int(of_d->rows), n = int(of_d->columns), k = int(left ? of_a->rows : of_a->columns);
    record("lt %c%c m %d n %d k %d types %d %d %d strides %d %d %d alpha %g beta %g bias compute %d workspace %zu",
           "NT"[left], "NT"[right], m, n, k, of_a->type, of_b->type, of_d->type, int(of_a->stride), int(of_b->stride),
           int(of_d->stride), double(*alpha), double(*beta), description->compute, workspace_bytes);
    bool types = is_type(of_a->type) && of_a->type == of_b->type && of_d->type == of_a->type;
    if (description->compute != COMPUTE_F32 || description->scale_type != F32 || !types || *beta != 0 || c != d ||
        algorithm->magic != MAGIC) {
        record("fault lt: not supported");
        return NOT_SUPPORTED;
    }
    const uint32_t(&alignments)[4] = algorithm->alignments;
    bool fit = uint64_t(left ? of_a->columns : of_a->rows) == of_d->rows &&
               uint64_t(right ? of_b->rows : of_b->columns) == of_d->columns &&
               uint64_t(right ? of_b->columns : of_b->rows) == uint64_t(k) &&
               fits(a, of_a->type, int(of_a->rows), int(of_a->columns), int(of_a->stride)) &&
               fits(b, of_b->type, int(of_b->rows), int(of_b->columns), int(of_b->stride)) &&
               fits(d, of_d->type, m, n, int(of_d->stride)) && holds(description->bias, size_t(m) * bytes_of(of_d->type));
    bool memory = !stream && workspace_bytes >= algorithm->workspace && holds(workspace, workspace_bytes) &&
                  aligned(workspace, 16) && aligned(a, alignments[0]) && aligned(b, alignments[1]) &&
                  aligned(c, alignments[2]) && aligned(d, alignments[3]) && aligned(description->bias, alignments[3]);
    if (!fit || !memory) {
        record("fault lt: %s", fit ? "memory" : "extents");
        return INVALID_VALUE;
    }
    count_work();
    std::vector<float> x = read(a, of_a->type, left, m, k, int(of_a->stride)), y = read(b, of_b->type, !right, n, k, int(of_b->stride));
    for (int column = 0; column < n; ++column) {
        for (int row = 0; row < m; ++row) {
            float sum = *alpha * product(x, y, row, column, k) + value(description->bias, of_d->type, size_t(row));
            set(d, of_d->type, size_t(column) * size_t(of_d->stride) + size_t(row), sum);
        }
    }
    return SUCCESS;
}

} // extern "C"
