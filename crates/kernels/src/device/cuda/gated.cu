// Gated activations, φ(gate) ∘ up: φ is x·σ(x) or GELU in its tanh form.

#include "elements.cuh"

struct Gated {
    const void* gate;
    const void* up;
    const void* dy;   // backward only
    void* out;        // forward: the result; backward: the gate's gradient
    void* out_up;     // backward only
    uint64_t count;
    uint32_t wide;
    uint32_t halves;  // gate and up are halves of rows twice as long as this; 0: tensors of their own. Forward only
};

struct Silu {
    // φ(g) and φ'(g).
    static __device__ __forceinline__ void at(float g, float& value, float& derivative) {
        float s = 1.0f / (1.0f + expf(-g));
        value = g * s;
        derivative = s * (1.0f + g * (1.0f - s));
    }
};

struct Gelu {
    static __device__ __forceinline__ void at(float g, float& value, float& derivative) {
        const float root = 0.7978845608f, cubic = 0.044715f; // √(2/π)
        float t = tanhf(root * g * (1.0f + cubic * g * g));
        value = 0.5f * g * (1.0f + t);
        derivative = 0.5f * (1.0f + t + g * (1.0f - t * t) * root * (1.0f + 3.0f * cubic * g * g));
    }
};

template <class T, int N, class Activation, bool BACKWARD> __device__ void gated_elements(const Gated& a) {
    uint64_t i = (uint64_t(blockIdx.x) * 256 + threadIdx.x) * N;
    if (i >= a.count) {
        return;
    }
    float gate[N], up[N];
    uint64_t at = a.halves == 0 ? i : i + i / a.halves * a.halves;
    load<T, N>(static_cast<const T*>(a.gate) + at, gate);
    load<T, N>(static_cast<const T*>(a.up) + at, up);
    if constexpr (BACKWARD) {
        float dy[N];
        load<T, N>(static_cast<const T*>(a.dy) + i, dy);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            float value, derivative;
            Activation::at(gate[j], value, derivative);
            gate[j] = dy[j] * up[j] * derivative;
            up[j] = dy[j] * value;
        }
        store<T, N>(static_cast<T*>(a.out) + i, gate);
        store<T, N>(static_cast<T*>(a.out_up) + i, up);
    } else {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            float value, derivative;
            Activation::at(gate[j], value, derivative);
            gate[j] = value * up[j];
        }
        store<T, N>(static_cast<T*>(a.out) + i, gate);
    }
}

template <class T, class Activation, bool BACKWARD> __device__ void gated(const Gated& a) {
    if (a.wide) {
        gated_elements<T, Wide<T>::count, Activation, BACKWARD>(a);
    } else {
        gated_elements<T, 1, Activation, BACKWARD>(a);
    }
}

template <class T> __device__ void swiglu(const Gated& a) { gated<T, Silu, false>(a); }
template <class T> __device__ void swiglu_backward(const Gated& a) { gated<T, Silu, true>(a); }
template <class T> __device__ void geglu(const Gated& a) { gated<T, Gelu, false>(a); }
template <class T> __device__ void geglu_backward(const Gated& a) { gated<T, Gelu, true>(a); }

KERNELS(swiglu, Gated, 256, swiglu)
KERNELS(swiglu_backward, Gated, 256, swiglu_backward)
KERNELS(geglu, Gated, 256, geglu)
KERNELS(geglu_backward, Gated, 256, geglu_backward)
