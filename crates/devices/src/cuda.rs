//! Opening a CUDA device, one driver call after the other, so that each failure has its own error.

use candle_core::cuda_backend::cudarc::cublas::sys as blas;
use candle_core::cuda_backend::cudarc::driver::{DriverError, result, sys};
use candle_core::cuda_backend::{CudaDevice, kernels};
use candle_core::{Device, backend::BackendDevice};

use crate::support::{Target, Versions, not_opened, version};
use crate::{Choice, DeviceError, GpuMemory, driver};

/// The driver's error code for no device.
const NO_DEVICE: sys::CUresult = sys::CUresult::CUDA_ERROR_NO_DEVICE;

/// Opens a device by its index; returns it with its name.
pub(crate) fn open(index: usize) -> Result<(Device, String), DeviceError> {
    let asked = Choice::Cuda(index).to_string();
    driver::load(&asked)?;
    let refused = |error: DriverError| match error.0 {
        NO_DEVICE => DeviceError::NoDevice { asked: asked.clone() },
        code => DeviceError::Driver { asked: asked.clone(), code: format!("{code:?} ({})", code as i32) },
    };
    result::init().map_err(refused)?;
    let (driver, built) = (driver_version().map_err(refused)?, version(sys::CUDA_VERSION as i32));
    Versions { driver, built }.check(&asked)?;
    let count = result::device::get_count().map_err(refused)? as usize;
    if count == 0 {
        return Err(DeviceError::NoDevice { asked });
    }
    if index >= count {
        return Err(DeviceError::NoSuchIndex { index, count });
    }
    let device = result::device::get(index as i32).map_err(refused)?;
    let name = result::device::get_name(device).map_err(refused)?;
    let found = capability_of(device).map_err(refused)?;
    // candle's kernels reach no further than this project's, which come as machine code and as PTX of the same capability.
    if let Some(target) = Target::of_ptx(kernels::AFFINE.ptx()) {
        target.check(&asked, &name, found)?;
    }
    let opened = CudaDevice::new(index).map_err(|error| not_opened(asked, error.to_string()))?;
    // SAFETY: candle and the kernels run everything on one stream, which alone orders all uses of a tensor.
    unsafe { opened.disable_event_tracking() };
    reduce_in_float32(&opened);
    keep_freed_memory(&opened);
    Ok((Device::Cuda(opened), name))
}

/// The newest CUDA version that the driver supports, (major, minor).
fn driver_version() -> Result<(u32, u32), DriverError> {
    let mut number = 0;
    // SAFETY: the function writes one integer to the address given.
    unsafe { sys::cuDriverGetVersion(&mut number) }.result()?;
    Ok(version(number))
}

/// Compute capability of a GPU, (major, minor).
fn capability_of(device: sys::CUdevice) -> Result<(u32, u32), DriverError> {
    use sys::CUdevice_attribute_enum as Attribute;
    // SAFETY: the device comes from the driver.
    let attribute = |of| unsafe { result::device::get_attribute(device, of) }.map(|value| value as u32);
    Ok((
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    ))
}

/// Memory pool of candle's stream-ordered allocations; `None` where the device has none.
fn pool(device: &CudaDevice) -> Option<sys::CUmemoryPool> {
    let context = device.cuda_stream().context().clone();
    context.bind_to_thread().ok()?;
    // SAFETY: the device handle belongs to the context, which is alive.
    unsafe { result::device::get_default_mem_pool(context.cu_device()) }.ok()
}

/// Keeps freed memory in the pool. By default the pool returns it to the system at every synchronization, and each step
/// would allocate all its memory again.
fn keep_freed_memory(device: &CudaDevice) {
    let threshold = u64::MAX;
    set(device, sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, threshold);
}

/// Forbids cuBLAS to add the parts of a product that it splits in the type of the result, as it may by default: every sum
/// here is float32. A failure is ignored: products are computed, less exactly.
fn reduce_in_float32(device: &CudaDevice) {
    let mode = blas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    // SAFETY: the handle is alive as long as the device.
    let _ = unsafe { blas::cublasSetMathMode(*device.cublas_handle().handle(), mode) };
}

/// Free and total memory. What the pool keeps of freed memory counts as free.
pub(crate) fn memory(device: &CudaDevice) -> Option<GpuMemory> {
    let (free, total) = device.cuda_stream().context().mem_get_info().ok()?;
    let of = |attribute| pool(device).and_then(|pool| counter(pool, attribute)).unwrap_or(0);
    let reserved = of(sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
    let used = of(sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
    Some(GpuMemory { free: free as u64 + reserved.saturating_sub(used), total: total as u64 })
}

/// A 64-bit attribute of a pool.
fn counter(pool: sys::CUmemoryPool, attribute: sys::CUmemPool_attribute_enum) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: the attributes asked for are 64-bit integers, written to the address given.
    unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut value).cast()) }.ok()?;
    Some(value)
}

/// Peak of allocated memory since the last [`reset_peak`], in bytes.
pub(crate) fn peak(device: &CudaDevice) -> Option<u64> {
    counter(pool(device)?, sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
}

/// Resets the peak.
pub(crate) fn reset_peak(device: &CudaDevice) {
    set(device, sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0);
}

/// Sets an attribute of the pool; a failure is ignored: training is slower, or no peak is reported.
fn set(device: &CudaDevice, attribute: sys::CUmemPool_attribute_enum, mut value: u64) {
    if let Some(pool) = pool(device) {
        // SAFETY: both attributes are 64-bit integers, read from the address given.
        let _ = unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut value).cast()) };
    }
}
