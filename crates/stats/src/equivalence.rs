//! Equivalence by two one-sided tests (Schuirmann 1987, J Pharmacokinet Biopharm 15:657): a difference is shown to be
//! within a margin when it is shown to be above −margin and below +margin, each at alpha. No correction is needed
//! (Berger & Hsu 1996, Stat Sci 11:283), and the result is that of a two-sided interval at 1 − 2·alpha.

use crate::binary::tango_z;
use crate::distribution::{normal_cdf, student_cdf};

/// p values of the two one-sided tests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tost {
    /// Of "the difference is at most −margin".
    pub lower: f64,
    /// Of "the difference is at least +margin".
    pub upper: f64,
}

impl Tost {
    /// p value of equivalence: the larger of the two.
    pub fn p(self) -> f64 {
        self.lower.max(self.upper)
    }
}

/// Student's tests on an estimate with its standard error.
pub fn student(estimate: f64, standard_error: f64, df: f64, margin: f64) -> Tost {
    // P(no more than seen | the difference lies on the end), towards the inside
    let tail = |distance: f64| match standard_error > 0.0 {
        true => student_cdf(-distance / standard_error, df),
        false => f64::from(u8::from(distance <= 0.0)),
    };
    Tost { lower: tail(estimate + margin), upper: tail(margin - estimate) }
}

/// Tango's score tests for paired shares; counts may be fractional as in [`crate::binary::tango`].
pub fn tango(only_first: f64, only_second: f64, n: f64, margin: f64) -> Tost {
    Tost {
        lower: normal_cdf(-tango_z(only_first, only_second, n, -margin)),
        upper: normal_cdf(tango_z(only_first, only_second, n, margin)),
    }
}
