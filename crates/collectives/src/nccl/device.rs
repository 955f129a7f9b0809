//! The GPU of a rank: a stream of its own, and memory that values of the host pass through.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::library::{Address, Driver, Event, NOT_READY, SUCCESS, Stream};
use crate::CollectiveError;

/// `CU_STREAM_NON_BLOCKING`: work of the default stream does not wait for this one.
const NON_BLOCKING: u32 = 1;
/// `CU_EVENT_DISABLE_TIMING`.
const WITHOUT_TIME: u32 = 2;
/// The stream that candle and the kernels run everything on: the default one.
const COMPUTING: Stream = ptr::null_mut();

/// A GPU.
pub(super) struct Device {
    driver: Driver,
    context: *mut c_void,
    pub stream: Stream,
    /// End of the work that was started on the GPU up to some point.
    started: Event,
    buffer: Address,
    capacity: usize,
}

impl Device {
    /// Opens a GPU by its number, in the context that everything in this process uses.
    pub fn open(ordinal: usize) -> Result<Self, CollectiveError> {
        let mut device = Self {
            driver: Driver::load()?,
            context: ptr::null_mut(),
            stream: ptr::null_mut(),
            started: ptr::null_mut(),
            buffer: 0,
            capacity: 0,
        };
        let Self { driver, context, stream, started, .. } = &mut device;
        let mut number = 0;
        // SAFETY: the pointers are to values that outlive the calls.
        let calls = unsafe {
            [
                ("cuInit", (driver.init)(0)),
                ("cuDeviceGet", (driver.device)(&raw mut number, ordinal as c_int)),
                ("cuDevicePrimaryCtxRetain", (driver.retain_primary)(context, number)),
                ("cuCtxSetCurrent", (driver.set_current)(*context)),
                ("cuStreamCreate", (driver.stream_create)(stream, NON_BLOCKING)),
                ("cuEventCreate", (driver.event_create)(started, WITHOUT_TIME)),
            ]
        };
        for (name, code) in calls {
            if code != SUCCESS {
                let message = format!("GPU {ordinal}: {name}: {}", device.driver.words(code));
                return Err(CollectiveError::Start { library: "NCCL", message });
            }
        }
        Ok(device)
    }

    fn check(&self, name: &'static str, code: c_int) -> Result<(), CollectiveError> {
        match code {
            SUCCESS => Ok(()),
            code => Err(CollectiveError::Failed { operation: name, message: self.driver.words(code) }),
        }
    }

    /// Makes this GPU that of the thread.
    pub fn enter(&self) -> Result<(), CollectiveError> {
        // SAFETY: the context lives as long as the process.
        self.check("cuCtxSetCurrent", unsafe { (self.driver.set_current)(self.context) })
    }

    /// Has the stream wait for all that was started on the GPU so far, and for nothing that comes later.
    pub fn follow(&self) -> Result<(), CollectiveError> {
        // SAFETY: the event and the streams are of the current context.
        self.check("cuEventRecord", unsafe { (self.driver.event_record)(self.started, COMPUTING) })?;
        // SAFETY: as above.
        self.check("cuStreamWaitEvent", unsafe { (self.driver.stream_wait)(self.stream, self.started, 0) })
    }

    /// True once the stream has nothing left to do.
    pub fn is_done(&self) -> Result<bool, CollectiveError> {
        // SAFETY: the stream is this device's.
        match unsafe { (self.driver.stream_query)(self.stream) } {
            NOT_READY => Ok(false),
            code => self.check("cuStreamQuery", code).map(|()| true),
        }
    }

    /// Memory for so many bytes, with what it held undefined.
    pub fn reserve(&mut self, bytes: usize) -> Result<Address, CollectiveError> {
        if self.capacity < bytes {
            // SAFETY: the old memory is this device's, and nothing runs that uses it.
            unsafe { (self.driver.free)(self.buffer) };
            (self.buffer, self.capacity) = (0, 0);
            let mut buffer = 0;
            // SAFETY: the pointer is to a value that outlives the call.
            self.check("cuMemAlloc", unsafe { (self.driver.allocate)(&raw mut buffer, bytes) })?;
            (self.buffer, self.capacity) = (buffer, bytes);
        }
        Ok(self.buffer)
    }

    /// Copies bytes into reserved memory, from a place on.
    pub fn upload(&self, place: usize, bytes: &[u8]) -> Result<(), CollectiveError> {
        if bytes.is_empty() {
            return Ok(());
        }
        assert!(place + bytes.len() <= self.capacity, "beyond the reserved memory");
        // SAFETY: both sides have so many bytes.
        let code = unsafe { (self.driver.upload)(self.buffer + place as u64, bytes.as_ptr().cast(), bytes.len()) };
        self.check("cuMemcpyHtoD", code)
    }

    /// Copies bytes out of reserved memory, from a place on.
    pub fn download(&self, place: usize, bytes: &mut [u8]) -> Result<(), CollectiveError> {
        if bytes.is_empty() {
            return Ok(());
        }
        assert!(place + bytes.len() <= self.capacity, "beyond the reserved memory");
        // SAFETY: both sides have so many bytes.
        let code =
            unsafe { (self.driver.download)(bytes.as_mut_ptr().cast(), self.buffer + place as u64, bytes.len()) };
        self.check("cuMemcpyDtoH", code)
    }
}
