//! The engine of a GPU. Memory and stream are candle's, so its own operations keep their order with these.

use super::launch::{Arguments, Grid, Module};
use super::multiply::{Matrix, Product};
use crate::error::{KernelError, Result};
use candle_core::cuda_backend::cudarc::cublas::{result as blas, sys as blas_sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, DriverError, PushKernelArg};
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, ValidAsZeroBits, sys};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice};
use candle_core::{CudaDevice, CudaStorage, DType, Device, Storage};
use half::{bf16, f16};
use std::ffi::c_void;

use super::address::{reading, writing};

/// Shared memory that a block gets without asking.
const PLAIN_SHARED: u32 = 48 * 1024;

/// A GPU, by candle's handle on it.
#[derive(Clone, Debug)]
pub(crate) struct Cuda(CudaDevice);

impl Cuda {
    /// The engine of a GPU's tensors; `None` for other devices.
    pub(super) fn of(device: &Device) -> Option<Self> {
        match device {
            Device::Cuda(device) => Some(Self(device.clone())),
            _ => None,
        }
    }

    pub(super) fn device(&self) -> Device {
        Device::Cuda(self.0.clone())
    }

    /// Memory for `len` elements.
    pub(super) fn storage(&self, dtype: DType, len: usize, zeroed: bool) -> Result<Storage> {
        let device = &self.0;
        let storage = match dtype {
            DType::F32 => typed_storage::<f32>(device, len, zeroed)?,
            DType::F64 => typed_storage::<f64>(device, len, zeroed)?,
            DType::BF16 => typed_storage::<bf16>(device, len, zeroed)?,
            DType::F16 => typed_storage::<f16>(device, len, zeroed)?,
            DType::U32 => typed_storage::<u32>(device, len, zeroed)?,
            other => return Err(KernelError::Type { op: "allocate", argument: "result", got: other }),
        };
        Ok(Storage::Cuda(storage))
    }

    /// # Safety
    ///
    /// As for [`super::engine::Engine::launch`].
    pub(super) unsafe fn launch<A: Arguments>(
        &self,
        module: Module,
        kernel: &str,
        grid: Grid,
        arguments: &A,
    ) -> Result<()> {
        let named = |reason: String| KernelError::Launch { kernel: format!("{}/{kernel}", module.name), reason };
        let function = self
            .0
            .get_or_load_custom_func(kernel, module.name, module.ptx)
            .map_err(|error| named(format!("{error}; a GPU of compute capability 8.0 or above is needed")))?;
        if grid.shared > PLAIN_SHARED {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, grid.shared as i32).map_err(|error| {
                named(format!(
                    "{} bytes of shared memory are more than this GPU has for a block: {error:?}",
                    grid.shared
                ))
            })?;
        }
        let [x, y, z] = grid.blocks;
        let config =
            LaunchConfig { grid_dim: (x, y, z), block_dim: (grid.threads, 1, 1), shared_mem_bytes: grid.shared };
        let value = Value(*arguments);
        let mut builder = function.builder();
        builder.arg(&value);
        // SAFETY: passed on to the caller.
        unsafe { builder.launch(config) }.map_err(|error| named(format!("{error:?}")))?;
        Ok(())
    }

    /// See [`super::engine::Engine::multiply`].
    pub(super) fn multiply(&self, product: Product<'_>) -> Result<()> {
        let Product { target, left, right, scale, accumulate } = product;
        let ((m, k), (_, n)) = (left.extents(), right.extents());
        let failed =
            |reason: String| KernelError::Launch { kernel: format!("product of {m} × {k} by {k} × {n}"), reason };
        let int = |value: usize| i32::try_from(value).map_err(|_| failed("an extent is above 2^31".to_owned()));
        let at = |matrix: &Matrix<'_>, start: u64| {
            (start + (matrix.start * matrix.tensor.dtype().size_in_bytes()) as u64) as *mut c_void
        };
        let (alpha, beta) = (scale, if accumulate { 1f32 } else { 0.0 });
        let operation = |matrix: &Matrix<'_>| match matrix.transposed {
            false => blas_sys::cublasOperation_t::CUBLAS_OP_N,
            true => blas_sys::cublasOperation_t::CUBLAS_OP_T,
        };
        let pointers = (at(&left, reading(left.tensor)?.0), at(&right, reading(right.tensor)?.0));
        let result = at(&target, writing(target.tensor)?.0);
        let handle = self.0.cublas_handle();
        // cuBLAS counts by columns, so it computes the transpose: rightᵀ… read as it lies, times left.
        // SAFETY: `Matrix` keeps each matrix inside its tensor, the extents were checked to fit, and the stream orders the
        // product with everything else that touches the three.
        unsafe {
            blas::gemm_ex(
                *handle.handle(),
                operation(&right),
                operation(&left),
                int(n)?,
                int(m)?,
                int(k)?,
                std::ptr::from_ref(&alpha).cast(),
                pointers.1,
                blas_type(right.tensor.dtype()),
                int(right.columns.max(1))?,
                pointers.0,
                blas_type(left.tensor.dtype()),
                int(left.columns.max(1))?,
                std::ptr::from_ref(&beta).cast(),
                result,
                blas_type(target.tensor.dtype()),
                int(target.columns)?,
                blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| failed(format!("{error:?}")))
    }
}

fn typed_storage<T: DeviceRepr + ValidAsZeroBits + CudaDType>(
    device: &CudaDevice,
    len: usize,
    zeroed: bool,
) -> Result<CudaStorage> {
    // A GPU allocates no empty memory.
    let count = len.max(1);
    // SAFETY: memory that is not zeroed is written before it is read.
    let slice = if zeroed { device.alloc_zeros::<T>(count) } else { unsafe { device.alloc::<T>(count) } };
    let slice = slice.map_err(|error| out_of_memory(device, error, count * std::mem::size_of::<T>()))?;
    Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
}

/// [`KernelError::OutOfMemory`] if that is what the driver reported, else the error itself.
fn out_of_memory(device: &CudaDevice, error: candle_core::Error, asked: usize) -> KernelError {
    if !is_out_of_memory(&error) {
        return error.into();
    }
    let (free, total) = device.cuda_stream().context().mem_get_info().unwrap_or((0, 0));
    KernelError::OutOfMemory { asked: asked as u64, free: free as u64, total: total as u64 }
}

/// True if a driver's call failed because the GPU is out of memory.
fn is_out_of_memory(error: &candle_core::Error) -> bool {
    use candle_core::Error;
    use candle_core::cuda_backend::CudaError;
    match error {
        Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } | Error::WithPath { inner, .. } => {
            is_out_of_memory(inner)
        }
        Error::Cuda(inner) => matches!(
            inner.downcast_ref::<CudaError>(),
            Some(CudaError::Cuda(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)))
        ),
        _ => false,
    }
}

/// The address of a storage's first element, and the bytes of an element.
pub(super) fn start(storage: &CudaStorage) -> Result<(u64, usize)> {
    let stream = storage.device.cuda_stream();
    fn of<T>(slice: &CudaSlice<T>, stream: &candle_core::cuda_backend::cudarc::driver::CudaStream) -> (u64, usize) {
        // One stream runs everything, so its order is all the synchronisation that is needed.
        let (pointer, _order) = slice.device_ptr(stream);
        (pointer, std::mem::size_of::<T>())
    }
    Ok(match &storage.slice {
        CudaStorageSlice::F32(slice) => of(slice, &stream),
        CudaStorageSlice::F64(slice) => of(slice, &stream),
        CudaStorageSlice::BF16(slice) => of(slice, &stream),
        CudaStorageSlice::F16(slice) => of(slice, &stream),
        CudaStorageSlice::U32(slice) => of(slice, &stream),
        _ => {
            let message = "expected f32, bf16, f16, f64 or u32 in GPU memory".to_owned();
            return Err(candle_core::Error::Msg(message).bt().into());
        }
    })
}

/// A kernel's arguments, passed to the driver as one value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value<A>(A);

// SAFETY: `Arguments` are plain `repr(C)` structs.
unsafe impl<A: Arguments> DeviceRepr for Value<A> {}

fn blas_type(dtype: DType) -> blas_sys::cudaDataType {
    match dtype {
        DType::BF16 => blas_sys::cudaDataType_t::CUDA_R_16BF,
        DType::F16 => blas_sys::cudaDataType_t::CUDA_R_16F,
        _ => blas_sys::cudaDataType_t::CUDA_R_32F,
    }
}

/// The PTX of the module `$name`, compiled by the build script.
macro_rules! ptx {
    ($name:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx"))
    };
}
pub(crate) use ptx;
