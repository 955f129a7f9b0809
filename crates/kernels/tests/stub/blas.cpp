// cuBLAS and cuRAND without a GPU: products on the host, in the order of arguments that cuBLAS documents.

#include "matrices.h"

namespace {

using namespace stub;

constexpr int SUMS_IN_FLOAT32 = 16;

int mode = 0;

} // namespace

extern "C" {

int cublasCreate_v2(stub::Handle* handle) {
    *handle = &mode;
    return SUCCESS;
}
int cublasDestroy_v2(stub::Handle) { return SUCCESS; }
int cublasSetStream_v2(stub::Handle, stub::Handle) { return SUCCESS; }
int cublasSetMathMode(stub::Handle, int wanted) {
    mode = wanted;
    return SUCCESS;
}

// C = alpha · op(A) · op(B) + beta · C, all column by column.
int cublasGemmEx(stub::Handle, int op_a, int op_b, int m, int n, int k, const float* alpha, const void* a, int type_a,
                 int lda, const void* b, int type_b, int ldb, const float* beta, void* c, int type_c, int ldc,
                 int compute, int) {
    if (stub::refusal()) {
        return EXECUTION_FAILED;
    }
    stub::record("gemm %c%c m %d n %d k %d types %d %d %d strides %d %d %d alpha %g beta %g compute %d mode %d",
                 "NT"[op_a], "NT"[op_b], m, n, k, type_a, type_b, type_c, lda, ldb, ldc, double(*alpha), double(*beta),
                 compute, mode);
    if (compute != COMPUTE_F32 || mode != SUMS_IN_FLOAT32 || type_a != type_b || (type_c != type_a && type_c != F32)) {
        return NOT_SUPPORTED;
    }
    bool left = op_a == TRANSPOSE, right = op_b == TRANSPOSE;
    if (m < 0 || n < 0 || k < 0 || !fits(c, type_c, m, n, ldc) ||
        (k > 0 && (!fits(a, type_a, left ? k : m, left ? m : k, lda) || !fits(b, type_b, right ? n : k, right ? k : n, ldb)))) {
        return INVALID_VALUE;
    }
    stub::count_work();
    std::vector<float> x = read(a, type_a, left, m, k, lda), y = read(b, type_b, !right, n, k, ldb);
    for (int column = 0; column < n; ++column) {
        for (int row = 0; row < m; ++row) {
            float sum = product(x, y, row, column, k);
            size_t at = size_t(column) * size_t(ldc) + size_t(row);
            // At beta = 0 C is not read: it may be unwritten.
            set(c, type_c, at, *alpha * sum + (*beta == 0 ? 0 : *beta * value(c, type_c, at)));
        }
    }
    return SUCCESS;
}

// candle's own products.
int cublasGemmStridedBatchedEx(stub::Handle handle, int op_a, int op_b, int m, int n, int k, const float* alpha,
                               const void* a, int type_a, int lda, long long stride_a, const void* b, int type_b,
                               int ldb, long long stride_b, const float* beta, void* c, int type_c, int ldc,
                               long long stride_c, int count, int compute, int algorithm) {
    auto step = [](const void* at, int type, long long stride, int index) {
        return static_cast<const char*>(at) + bytes_of(type) * size_t(stride) * size_t(index);
    };
    for (int index = 0; index < count; ++index) {
        int status = cublasGemmEx(handle, op_a, op_b, m, n, k, alpha, step(a, type_a, stride_a, index), type_a, lda,
                                  step(b, type_b, stride_b, index), type_b, ldb, beta,
                                  const_cast<char*>(step(c, type_c, stride_c, index)), type_c, ldc, compute, algorithm);
        if (status) {
            return status;
        }
    }
    return SUCCESS;
}

int curandCreateGenerator(stub::Handle* generator, int) {
    *generator = &mode;
    return SUCCESS;
}
int curandSetPseudoRandomGeneratorSeed(stub::Handle, unsigned long long) { return SUCCESS; }
int curandSetStream(stub::Handle, stub::Handle) { return SUCCESS; }
int curandDestroyGenerator(stub::Handle) { return SUCCESS; }

} // extern "C"
