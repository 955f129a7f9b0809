//! Python's slices with a step.

use minijinja::Error;
use minijinja::value::Value;

use crate::python::arguments::Arguments;

/// The items of `[start:stop:step]`, whose parts are the arguments.
pub(crate) fn items<T: Clone>(items: &[T], args: &[Value]) -> Result<Vec<T>, Error> {
    let args = Arguments::bind("slice", ["", "", ""], args)?;
    let step = args.optional_whole(2)?.unwrap_or(1);
    let width = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    if width == 0 {
        return Err(args.refuse("expected a step other than 0"));
    }
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    // Backwards, a place stands one before the first item.
    let (least, most) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |given: Option<i64>, default: i64| {
        given.map_or(default, |at| if at < 0 { at.saturating_add(length) } else { at }.clamp(least, most))
    };
    let (first, last) = if step > 0 { (least, most) } else { (most, least) };
    let (start, stop) = (place(args.optional_whole(0)?, first), place(args.optional_whole(1)?, last));
    let at = |place: i64| usize::try_from(place).unwrap_or(0);
    Ok(if step > 0 {
        let range = at(start)..at(stop).max(at(start));
        items[range].iter().step_by(width).cloned().collect()
    } else {
        let range = at(stop + 1)..at(start + 1).max(at(stop + 1));
        items[range].iter().rev().step_by(width).cloned().collect()
    })
}
