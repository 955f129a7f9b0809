//! The time in a `strftime` format, as `datetime.now()` without a time zone writes it.

use std::fmt::{Display, Write};

use chrono::{DateTime, TimeZone};
use minijinja::{Error, ErrorKind};

/// Directives that C's `strftime` and chrono write alike.
const SHARED: &str = "%aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY";
/// Directives of numbers, which a flag pads otherwise.
const PADDED: &str = "deHIjklmMSUVWy";

/// The time in a format; a directive that is not known to be written alike is refused.
pub(crate) fn strftime<Z: TimeZone>(time: &DateTime<Z>, format: &str) -> Result<String, Error>
where
    Z::Offset: Display,
{
    let unusable =
        || Error::new(ErrorKind::InvalidOperation, format!("strftime_now: cannot use the format {format:?}"));
    let (mut read, mut rest) = (String::new(), format.chars());
    while let Some(c) = rest.next() {
        if c != '%' {
            read.push(c);
            continue;
        }
        match (rest.next().ok_or_else(unusable)?, rest.clone().next()) {
            // A time without a zone has no text of one.
            ('z' | 'Z', _) => {}
            ('f', _) => read.push_str("%6f"),
            (flag @ ('-' | '_' | '0'), Some(directive)) if PADDED.contains(directive) => {
                read.extend(['%', flag]);
            }
            (directive, _) if SHARED.contains(directive) => read.extend(['%', directive]),
            _ => return Err(unusable()),
        }
    }
    let mut text = String::new();
    // chrono reports what it cannot write as a formatting error, where `to_string` would panic
    write!(text, "{}", time.format(&read)).map_err(|_| unusable())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::strftime;
    use chrono::{DateTime, Utc};

    /// Expected as Python 3.11 writes `datetime(2024, 3, 5, 7, 8, 9, 12345)`.
    #[test]
    fn times_read_as_in_python() {
        let time: DateTime<Utc> = "2024-03-05T07:08:09.012345678Z".parse().unwrap();
        for (format, expected) in [
            ("%d %b %Y", "05 Mar 2024"),
            ("[%z|%Z|%%z]", "[||%z]"),
            ("%H:%M:%S.%f", "07:08:09.012345"),
            ("%-d/%-m %_d|%_H|%0e|%-I%p%P|%-y|%-j", "5/3  5| 7|05|7AMam|24|65"),
            (
                "%A %B %a %h %e %k %l %y %C %j %U %W %V %G %g %u %w",
                "Tuesday March Tue Mar  5  7  7 24 20 065 09 10 10 2024 24 2 2",
            ),
            (
                "%c|%x|%X|%D|%F|%T|%R|%r",
                "Tue Mar  5 07:08:09 2024|03/05/24|07:08:09|03/05/24|2024-03-05|07:08:09|07:08|07:08:09 AM",
            ),
            ("%Y年%m月%n%t", "2024年03月\n\t"),
        ] {
            assert_eq!(strftime(&time, format).unwrap(), expected, "{format}");
        }
        for refused in ["%", "%q", "%v", "%+", "%:z", "%.f", "%3f", "%-f", "%-z", "%^a", "%-A", "%Ey", "%é"] {
            assert!(strftime(&time, refused).is_err(), "{refused}");
        }
    }
}
