//! Thinning of curves for a page.

use smpo_results::CurvePoint;

/// `[tokens, share]`, rounded to visible digits.
pub(crate) type Point = [f64; 2];

/// At most `limit` points, the first and the last among them, evenly spread by index. Points that are no numbers are
/// left out.
pub(crate) fn thin(points: &[CurvePoint], limit: usize) -> Vec<Point> {
    let points: Vec<Point> =
        points.iter().filter(|p| p.t.is_finite() && p.y.is_finite()).map(|p| [round(p.t, 5), round(p.y, 4)]).collect();
    let limit = limit.max(2);
    if points.len() <= limit {
        return points;
    }
    (0..limit).map(|index| points[index * (points.len() - 1) / (limit - 1)]).collect()
}

/// Rounds to a number of significant digits.
pub(crate) fn round(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits - 1).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_both_ends() {
        let points: Vec<CurvePoint> = (0..1000).map(|t| CurvePoint { t: f64::from(t), y: 1.0 / 3.0 }).collect();
        let thinned = thin(&points, 50);
        assert_eq!(thinned.len(), 50);
        assert_eq!(thinned[0], [0.0, 0.3333]);
        assert_eq!(thinned[49], [999.0, 0.3333]);
        assert!(thin(&[CurvePoint { t: f64::NAN, y: 1.0 }], 50).is_empty());
    }
}
