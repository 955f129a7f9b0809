//! Products with a bias as their epilogue, by cuBLASLt.

use super::address::{reading, writing};
use super::cuda_engine::{Cuda, blas_fault, uninitialised};
use super::multiply::{Matrix, Product};
use super::operand::Operand;
use crate::error::{KernelError, Result};
use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self as blas, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{CudaDevice, DType};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Memory for the sums of a product that is cut along its inner extent, in bytes: `BLAS_WORKSPACE` of `smpo-model` counts it.
const WORKSPACE: usize = 4 << 20;

/// Reductions of such sums: in float32, as for the products of cuBLAS here.
const REDUCTIONS: u32 = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;

type Blas<T> = std::result::Result<T, CublasError>;

/// cuBLASLt on one device.
struct Library {
    handle: sys::cublasLtHandle_t,
    /// Of one product after the other: they are on one stream.
    workspace: CudaSlice<u8>,
}

// SAFETY: cuBLASLt's handles belong to no thread.
unsafe impl Send for Library {}

/// By device; they stay open, as devices do, until the process ends.
static LIBRARIES: LazyLock<Mutex<HashMap<DeviceId, Library>>> = LazyLock::new(Mutex::default);

impl Cuda {
    /// See [`super::engine::Engine::multiply_with_bias`]. False if cuBLASLt has no algorithm for the matrices; nothing is computed
    /// then.
    pub(super) fn multiply_with_bias(&self, product: Product<'_>, bias: &Operand) -> Result<bool> {
        let ((m, k), (_, n)) = (product.left.extents(), product.right.extents());
        if m == 0 || n == 0 || k == 0 {
            return Ok(false);
        }
        let failed = |reason: String| KernelError::Launch {
            kernel: format!("product of {m} × {k} by {k} × {n} with a bias"),
            reason,
        };
        let blas_failed = |error: CublasError| {
            let name = format!("{:?}", error.0);
            blas_fault(error.0 as i32, &name).unwrap_or_else(|| failed(name))
        };
        let device = self.candle();
        // The device of this thread may be another one.
        device.cuda_stream().context().bind_to_thread().map_err(|error| failed(format!("{error:?}")))?;
        let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
        let library = match libraries.entry(device.id()) {
            Entry::Occupied(library) => library.into_mut(),
            Entry::Vacant(place) => place.insert(Library {
                workspace: uninitialised::<u8>(device, WORKSPACE)?,
                handle: blas::create_handle().map_err(blas_failed)?,
            }),
        };
        let at =
            |matrix: &Matrix<'_>, start: u64| start + (matrix.start * matrix.tensor.dtype().size_in_bytes()) as u64;
        let addresses = Addresses {
            left: at(&product.left, reading(product.left.tensor)?.0),
            right: at(&product.right, reading(product.right.tensor)?.0),
            out: at(&product.target, writing(product.target.tensor)?.0),
            bias: bias.address()?.0,
        };
        library.multiply(device, product, addresses).map_err(blas_failed)
    }
}

/// Of the first elements.
#[derive(Clone, Copy)]
struct Addresses {
    left: u64,
    right: u64,
    out: u64,
    bias: u64,
}

impl Library {
    fn multiply(&self, device: &CudaDevice, product: Product<'_>, addresses: Addresses) -> Blas<bool> {
        let Product { target, left, right, scale, .. } = product;
        let Addresses { left: left_at, right: right_at, out, bias } = addresses;
        // cuBLASLt counts by columns, so it computes the transpose: rightᵀ… read as it lies, times left. A row of the bias is then a
        // column, of which it adds an element to each row.
        let description = Description::new([&right, &left], bias)?;
        let [right, left, target] = [layout(&right)?, layout(&left)?, layout(&target)?];
        let preference = Preference::new([right_at, left_at, out, out | bias])?;
        let stream = device.cuda_stream();
        let (workspace, _order) = self.workspace.device_ptr(&stream);
        let (alpha, beta) = (scale, 0f32);
        // SAFETY: the descriptors live until the end of this function. `Matrix` keeps each matrix inside its tensor, the extents were
        // checked to fit, the bias has as many elements as the result's rows, and the stream orders the product with everything
        // else that touches the four and the workspace.
        unsafe {
            let algorithm = match blas::get_matmul_algo_heuristic(
                self.handle,
                description.0.raw,
                right.raw,
                left.raw,
                target.raw,
                target.raw,
                preference.0.raw,
            ) {
                Ok(found) => found.algo,
                Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => return Ok(false),
                Err(error) => return Err(error),
            };
            blas::matmul(
                self.handle,
                description.0.raw,
                std::ptr::from_ref(&alpha).cast(),
                std::ptr::from_ref(&beta).cast(),
                right_at as *const c_void,
                right.raw,
                left_at as *const c_void,
                left.raw,
                out as *const c_void,
                target.raw,
                out as *mut c_void,
                target.raw,
                &raw const algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )?;
        }
        Ok(true)
    }
}

/// A descriptor of cuBLASLt's, destroyed with this.
struct Descriptor<T: Copy> {
    raw: T,
    destroy: unsafe fn(T) -> Blas<()>,
}

impl<T: Copy> Drop for Descriptor<T> {
    fn drop(&mut self) {
        // SAFETY: it was created with this, and nobody else destroys it. An error would leave some bytes of the host's.
        unsafe { (self.destroy)(self.raw) }.ok();
    }
}

/// A matrix as it lies, by columns.
fn layout(matrix: &Matrix<'_>) -> Blas<Descriptor<sys::cublasLtMatrixLayout_t>> {
    let dtype = match matrix.tensor.dtype() {
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
        _ => sys::cudaDataType_t::CUDA_R_32F,
    };
    let (rows, columns) = (matrix.columns as u64, matrix.rows as u64);
    let raw = blas::create_matrix_layout(dtype, rows, columns, matrix.stride as i64)?;
    Ok(Descriptor { raw, destroy: blas::destroy_matrix_layout })
}

/// The operation: a product in float32, whose epilogue adds a bias of the result's dtype.
struct Description(Descriptor<sys::cublasLtMatmulDesc_t>);

impl Description {
    fn new(factors: [&Matrix<'_>; 2], bias: u64) -> Blas<Self> {
        use sys::cublasLtMatmulDescAttributes_t::{
            CUBLASLT_MATMUL_DESC_BIAS_POINTER as BIAS, CUBLASLT_MATMUL_DESC_EPILOGUE as EPILOGUE,
            CUBLASLT_MATMUL_DESC_TRANSA as FIRST, CUBLASLT_MATMUL_DESC_TRANSB as SECOND,
        };
        let raw =
            blas::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType_t::CUDA_R_32F)?;
        let own = Self(Descriptor { raw, destroy: blas::destroy_matmul_desc });
        for (attribute, factor) in [FIRST, SECOND].into_iter().zip(factors) {
            // `cublasOperation_t`: N, T.
            own.set(attribute, i32::from(factor.transposed))?;
        }
        own.set(EPILOGUE, sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32)?;
        own.set(BIAS, bias)?;
        Ok(own)
    }

    fn set<T: Copy>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: T) -> Blas<()> {
        let value = std::ptr::from_ref(&value);
        // SAFETY: the descriptor lives, and the library copies the value.
        unsafe { blas::set_matmul_desc_attribute(self.0.raw, attribute, value.cast(), size_of::<T>()) }
    }
}

/// Limits of an algorithm, and alignments it may rely on.
struct Preference(Descriptor<sys::cublasLtMatmulPreference_t>);

impl Preference {
    /// For matrices A to D at these addresses.
    fn new(addresses: [u64; 4]) -> Blas<Self> {
        use sys::cublasLtMatmulPreferenceAttributes_t::{
            CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as MEMORY, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES as A,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES as B, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES as C,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES as D, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK as MASK,
        };
        let own = Self(Descriptor { raw: blas::create_matmul_pref()?, destroy: blas::destroy_matmul_pref });
        own.set(MEMORY, WORKSPACE)?;
        own.set(MASK, REDUCTIONS)?;
        for (attribute, address) in [A, B, C, D].into_iter().zip(addresses) {
            // As far as the library asks, 256 bytes.
            own.set(attribute, 1u32 << address.trailing_zeros().min(8))?;
        }
        Ok(own)
    }

    fn set<T: Copy>(&self, attribute: sys::cublasLtMatmulPreferenceAttributes_t, value: T) -> Blas<()> {
        let value = std::ptr::from_ref(&value);
        // SAFETY: the descriptor lives, and the library copies the value.
        unsafe { blas::set_matmul_pref_attribute(self.0.raw, attribute, value.cast(), size_of::<T>()) }
    }
}
