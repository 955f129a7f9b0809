//! Work spread over the current rayon pool, in pieces that do not depend on the number of threads.
//!
//! A caller limits the threads by running inside `ThreadPool::install`. Small work stays on the
//! calling thread: waking another costs some microseconds.

use rayon::prelude::*;

/// Element operations below which a second thread costs more than it saves; few under Miri, which is to see threads share memory.
const INLINE_WORK: usize = if cfg!(miri) { 1 << 8 } else { 1 << 15 };

fn inline(work: usize) -> bool {
    work < INLINE_WORK || rayon::current_num_threads() == 1
}

/// Runs `task(0)` to `task(count - 1)`, about `work` element operations together.
pub(crate) fn tasks(count: usize, work: usize, task: impl Fn(usize) + Send + Sync) {
    if count < 2 || inline(work) {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// The number of rows of `width` elements that make one piece of work.
pub(crate) fn rows_per_piece(width: usize) -> usize {
    (INLINE_WORK / 2).div_ceil(width.max(1)).max(1)
}

/// Writable memory shared by tasks that touch disjoint parts of it.
pub(crate) struct Shared<T = f32> {
    start: *mut T,
    len: usize,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: the pointer comes from a mutable slice of plain numbers; callers of `slice` promise
// disjointness.
unsafe impl<T: Send> Send for Shared<T> {}
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(values: &mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len() }
    }

    /// The elements `start..start + len`.
    ///
    /// # Safety
    ///
    /// The slice given to [`Shared::new`] is still borrowed, and no other live slice, from here or
    /// elsewhere, overlaps this one.
    pub(crate) unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// A pointer to element `start`, for a strided write.
    ///
    /// # Safety
    ///
    /// As for [`Shared::slice`], for every element the caller reaches through the pointer.
    pub(crate) unsafe fn pointer(self, start: usize) -> *mut T {
        assert!(start <= self.len);
        // SAFETY: in bounds or one past the end by the assertion.
        unsafe { self.start.add(start) }
    }
}
