//! The engine of a GPU. Memory and stream are candle's, so its own operations keep their order with these.

use super::address::{reading, writing};
use super::fault;
use super::launch::{Arguments, Grid, Module};
use super::multiply::{Matrix, Product};
use crate::error::{KernelError, Result};
use candle_core::cuda_backend::cudarc::cublas::result::{self as blas, CublasError};
use candle_core::cuda_backend::cudarc::cublas::sys as blas_sys;
use candle_core::cuda_backend::cudarc::driver::result as driver;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule, CudaSlice, DevicePtr, DeviceRepr};
use candle_core::cuda_backend::cudarc::driver::{DriverError, LaunchConfig, PushKernelArg, ValidAsZeroBits, sys};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice, DeviceId};
use candle_core::{CudaDevice, CudaStorage, DType, Device, Storage};
use half::{bf16, f16};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

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

    /// candle's handle.
    pub(super) fn candle(&self) -> &CudaDevice {
        &self.0
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
        let device = &self.0;
        let failed = |error: DriverError| driver_error(error, None).unwrap_or_else(|| named(format!("{error:?}")));
        let function = function(device, module, kernel).map_err(failed)?;
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
        let stream = device.cuda_stream();
        let mut builder = stream.launch_builder(&function);
        builder.arg(&value);
        // SAFETY: passed on to the caller.
        unsafe { builder.launch(config) }.map_err(failed)?;
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
        // The device of this thread may be another one.
        self.0.cuda_stream().context().bind_to_thread().map_err(|error| failed(format!("{error:?}")))?;
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
                int(right.stride.max(1))?,
                pointers.0,
                blas_type(left.tensor.dtype()),
                int(left.stride.max(1))?,
                std::ptr::from_ref(&beta).cast(),
                result,
                blas_type(target.tensor.dtype()),
                int(target.stride)?,
                blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| blas_error(error).unwrap_or_else(|| failed(format!("{error:?}"))))
    }
}

/// A module on a device, with those of its kernels that were launched.
struct Loaded {
    module: Arc<CudaModule>,
    functions: HashMap<String, CudaFunction>,
}

/// Modules by device and name. They stay loaded, as devices stay open, until the process ends.
static MODULES: LazyLock<RwLock<HashMap<DeviceId, HashMap<&'static str, Loaded>>>> = LazyLock::new(RwLock::default);

/// A kernel of a module, which is loaded on its first use.
fn function(device: &CudaDevice, module: Module, kernel: &str) -> std::result::Result<CudaFunction, DriverError> {
    let found = |modules: &HashMap<DeviceId, HashMap<&'static str, Loaded>>| {
        modules.get(&device.id())?.get(module.name)?.functions.get(kernel).cloned()
    };
    if let Some(function) = found(&MODULES.read().unwrap_or_else(PoisonError::into_inner)) {
        return Ok(function);
    }
    let mut modules = MODULES.write().unwrap_or_else(PoisonError::into_inner);
    let loaded = match modules.entry(device.id()).or_default().entry(module.name) {
        Entry::Occupied(loaded) => loaded.into_mut(),
        Entry::Vacant(place) => {
            let image = Ptx::from_binary(module.image.to_vec());
            let module = device.cuda_stream().context().load_module(image)?;
            place.insert(Loaded { module, functions: HashMap::new() })
        }
    };
    let function = loaded.module.load_function(kernel)?;
    loaded.functions.insert(kernel.to_owned(), function.clone());
    Ok(function)
}

fn typed_storage<T: DeviceRepr + ValidAsZeroBits + CudaDType>(
    device: &CudaDevice,
    len: usize,
    zeroed: bool,
) -> Result<CudaStorage> {
    // A GPU allocates no empty memory.
    let count = len.max(1);
    let slice = match zeroed {
        true => device.alloc_zeros::<T>(count).map_err(|error| not_allocated::<T>(error, count))?,
        false => uninitialised(device, count)?,
    };
    Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
}

/// Memory for `count` elements, at least one, which is written before it is read.
pub(super) fn uninitialised<T: DeviceRepr>(device: &CudaDevice, count: usize) -> Result<CudaSlice<T>> {
    // SAFETY: the caller's promise.
    unsafe { device.alloc::<T>(count) }.map_err(|error| not_allocated::<T>(error, count))
}

fn not_allocated<T>(error: candle_core::Error, count: usize) -> KernelError {
    let asked = (count * std::mem::size_of::<T>()) as u64;
    gpu_error_of(&error, Some(asked)).unwrap_or(KernelError::Candle(error))
}

/// The GPU's error that an error of candle reports.
pub(crate) fn gpu_error(error: &candle_core::Error) -> Option<KernelError> {
    gpu_error_of(error, None)
}

fn gpu_error_of(error: &candle_core::Error, asked: Option<u64>) -> Option<KernelError> {
    use candle_core::Error;
    use candle_core::cuda_backend::CudaError;
    match error {
        Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } | Error::WithPath { inner, .. } => {
            gpu_error_of(inner, asked)
        }
        Error::Cuda(inner) => match inner.downcast_ref::<CudaError>()? {
            CudaError::Cuda(error) | CudaError::Load { cuda: error, .. } => driver_error(*error, asked),
            CudaError::Cublas(error) => blas_error(*error),
            _ => None,
        },
        _ => None,
    }
}

fn driver_error(error: DriverError, asked: Option<u64>) -> Option<KernelError> {
    fault::of_driver(error.0 as i32, &format!("{:?}", error.0), asked, memory())
}

fn blas_error(error: CublasError) -> Option<KernelError> {
    blas_fault(error.0 as i32, &format!("{:?}", error.0))
}

/// The GPU's error that a status of cuBLAS or cuBLASLt reports.
pub(super) fn blas_fault(status: i32, name: &str) -> Option<KernelError> {
    fault::of_blas(status, name, memory())
}

/// Free and total memory of this thread's device.
fn memory() -> fault::MemoryInfo {
    driver::mem_get_info().ok().map(|(free, total)| (free as u64, total as u64))
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

/// The module `$name`, compiled by the build script.
macro_rules! image {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".fatbin"))
    };
}
pub(crate) use image;
