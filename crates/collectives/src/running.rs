use std::fmt::Debug;

use crate::CollectiveError;

/// A sum that runs while the rank does something else. Of several, one is moved on only when those before it are done, in the
/// order in which they were started: so all ranks do it in one order.
pub trait Running: Debug + Send {
    /// Moves it on; true once it is done.
    ///
    /// # Errors
    /// When it fails.
    fn is_done(&mut self) -> Result<bool, CollectiveError>;

    /// Waits until it is done; the values with the sums in their place.
    ///
    /// # Errors
    /// When it fails.
    fn finish(self: Box<Self>) -> Result<Vec<f32>, CollectiveError>;
}

/// A sum that is done.
#[derive(Debug)]
pub struct Finished(pub Vec<f32>);

impl Running for Finished {
    fn is_done(&mut self) -> Result<bool, CollectiveError> {
        Ok(true)
    }

    fn finish(self: Box<Self>) -> Result<Vec<f32>, CollectiveError> {
        Ok(self.0)
    }
}
