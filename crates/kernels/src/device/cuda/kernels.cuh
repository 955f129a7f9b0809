// All kernels, for the emulator; nvcc compiles each file alone.
#pragma once

#include "adamw.cu"
#include "attention_backward.cu"
#include "attention_forward.cu"
#include "column_sums.cu"
#include "dropout.cu"
#include "elementwise.cu"
#include "gated.cu"
#include "head.cu"
#include "rms_norm.cu"
#include "rotary.cu"
#include "rows.cu"
#include "weighted_sum.cu"
