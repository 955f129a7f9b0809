//! NCCL and the CUDA driver: the functions that are called, found in the libraries of the machine that runs, so that none is
//! needed where the program is built. Signatures are those of `nccl.h` (2.14 and later) and `cuda.h`.

use std::error::Error;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use libloading::Library;

use crate::CollectiveError;

/// `ncclComm_t`.
pub(super) type Communicator = *mut c_void;
/// `cudaStream_t` and `CUstream`.
pub(super) type Stream = *mut c_void;
/// `CUevent`.
pub(super) type Event = *mut c_void;
/// An address in the memory of a GPU.
pub(super) type Address = u64;

/// `ncclSuccess` and `CUDA_SUCCESS`.
pub(super) const SUCCESS: c_int = 0;
/// `ncclInProgress`.
pub(super) const IN_PROGRESS: c_int = 7;
/// `CUDA_ERROR_NOT_READY`.
pub(super) const NOT_READY: c_int = 600;
/// `ncclSum`.
pub(super) const SUM: c_int = 0;

/// `ncclDataType_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Datatype {
    Bytes = 1,
    Float16 = 6,
    Float32 = 7,
    Bfloat16 = 9,
}

/// `ncclUniqueId`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct UniqueId(pub [c_char; 128]);

/// `ncclConfig_t` as of 2.14: later libraries take what it lacks from their defaults, by its version.
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
}

impl Config {
    /// No call waits for other ranks: what it does is asked for, and may take only so long.
    pub const NON_BLOCKING: Self = Self { size: size_of::<Self>(), magic: 0xcafe_beef, version: 21_400, blocking: 0 };
}

/// A struct of functions, and its reader from a library.
macro_rules! functions {
    ($(#[$doc:meta])* $name:ident { $($field:ident = $symbol:literal ( $($argument:ty),* ) -> $result:ty;)* }) => {
        $(#[$doc])*
        #[allow(clippy::type_complexity)]
        pub(super) struct $name {
            $(pub $field: unsafe extern "C" fn($($argument),*) -> $result,)*
            /// Holds the functions in memory.
            _library: Library,
        }

        impl $name {
            fn of(library: Library) -> Result<Self, libloading::Error> {
                // SAFETY: the signatures are those of the library's header.
                unsafe {
                    Ok(Self {
                        $($field: *library.get::<unsafe extern "C" fn($($argument),*) -> $result>($symbol)?,)*
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    /// NCCL.
    Nccl {
        error_string = b"ncclGetErrorString\0"(c_int) -> *const c_char;
        unique_id = b"ncclGetUniqueId\0"(*mut UniqueId) -> c_int;
        init = b"ncclCommInitRankConfig\0"(*mut Communicator, c_int, UniqueId, c_int, *mut Config) -> c_int;
        async_error = b"ncclCommGetAsyncError\0"(Communicator, *mut c_int) -> c_int;
        abort = b"ncclCommAbort\0"(Communicator) -> c_int;
        finalize = b"ncclCommFinalize\0"(Communicator) -> c_int;
        destroy = b"ncclCommDestroy\0"(Communicator) -> c_int;
        group_start = b"ncclGroupStart\0"() -> c_int;
        group_end = b"ncclGroupEnd\0"() -> c_int;
        all_reduce = b"ncclAllReduce\0"(Address, Address, usize, Datatype, c_int, Communicator, Stream) -> c_int;
        reduce = b"ncclReduce\0"(Address, Address, usize, Datatype, c_int, c_int, Communicator, Stream) -> c_int;
        broadcast = b"ncclBroadcast\0"(Address, Address, usize, Datatype, c_int, Communicator, Stream) -> c_int;
        all_gather = b"ncclAllGather\0"(Address, Address, usize, Datatype, Communicator, Stream) -> c_int;
    }
}

functions! {
    /// The CUDA driver.
    Driver {
        init = b"cuInit\0"(c_uint) -> c_int;
        error_name = b"cuGetErrorName\0"(c_int, *mut *const c_char) -> c_int;
        device = b"cuDeviceGet\0"(*mut c_int, c_int) -> c_int;
        retain_primary = b"cuDevicePrimaryCtxRetain\0"(*mut *mut c_void, c_int) -> c_int;
        set_current = b"cuCtxSetCurrent\0"(*mut c_void) -> c_int;
        stream_create = b"cuStreamCreate\0"(*mut Stream, c_uint) -> c_int;
        stream_query = b"cuStreamQuery\0"(Stream) -> c_int;
        stream_wait = b"cuStreamWaitEvent\0"(Stream, Event, c_uint) -> c_int;
        event_create = b"cuEventCreate\0"(*mut Event, c_uint) -> c_int;
        event_record = b"cuEventRecord\0"(Event, Stream) -> c_int;
        allocate = b"cuMemAlloc_v2\0"(*mut Address, usize) -> c_int;
        free = b"cuMemFree_v2\0"(Address) -> c_int;
        upload = b"cuMemcpyHtoD_v2\0"(Address, *const c_void, usize) -> c_int;
        download = b"cuMemcpyDtoH_v2\0"(*mut c_void, Address, usize) -> c_int;
    }
}

/// Names of the libraries, the one with its version first: packages without headers have no other.
const NCCL: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
const DRIVER: [&str; 2] = ["libcuda.so.1", "libcuda.so"];

fn open(names: [&str; 2], remedy: &str) -> Result<Library, CollectiveError> {
    let mut first = None;
    for name in names {
        // SAFETY: the libraries' own initialisation; nothing of this program depends on it.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok(library),
            Err(error) => first = first.or(Some(error)),
        }
    }
    // The loader's own words, with the library's name, are in the source.
    let reason = first.map_or_else(String::new, |error| error.source().map_or(error.to_string(), ToString::to_string));
    Err(CollectiveError::Start { library: "NCCL", message: format!("{reason}; {remedy}") })
}

fn incomplete(error: libloading::Error) -> CollectiveError {
    CollectiveError::Start { library: "NCCL", message: format!("{error}; expected NCCL 2.14 or later") }
}

impl Nccl {
    pub fn load() -> Result<Self, CollectiveError> {
        let remedy = "install it (Debian and Ubuntu: libnccl2, PyPI: nvidia-nccl-cu13) and let LD_LIBRARY_PATH name its directory";
        Self::of(open(NCCL, remedy)?).map_err(incomplete)
    }

    /// The words for an error.
    pub fn words(&self, code: c_int) -> String {
        // SAFETY: NCCL gives a text of its own for every number.
        let text = unsafe { (self.error_string)(code) };
        if text.is_null() {
            return format!("error {code}");
        }
        // SAFETY: as above; it ends with a zero.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

impl Driver {
    pub fn load() -> Result<Self, CollectiveError> {
        Self::of(open(DRIVER, "ranks on GPUs need NVIDIA's driver")?).map_err(incomplete)
    }

    /// The name of an error.
    pub fn words(&self, code: c_int) -> String {
        let mut text = std::ptr::null();
        // SAFETY: the driver points to a text of its own, or to none.
        unsafe { (self.error_name)(code, &raw mut text) };
        if text.is_null() {
            return format!("error {code}");
        }
        // SAFETY: as above; it ends with a zero.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}
