//! The decision in a judge's reply.

use super::Mode;

/// A grade from 1 to 10, or 1, ½ or 0 for the first of two completions; `None` where the reply has no decision.
///
/// The last `[[…]]` of the reply decides, since a judge may quote the form before it uses it. Without any, the reply must
/// be nothing but the decision.
pub(super) fn of_reply(mode: Mode, reply: &str) -> Option<f64> {
    let answer = match reply.rsplit_once("</think>") {
        Some((_, answer)) => answer,
        // it never came to an answer
        None if reply.trim_start().starts_with("<think>") => return None,
        None => reply,
    };
    let decision = match answer.rsplit_once("[[") {
        Some((_, rest)) => rest.split_once("]]")?.0,
        None => answer,
    };
    let decision = decision.trim();
    match mode {
        Mode::Grade => decision.parse::<f64>().ok().filter(|grade| (1.0..=10.0).contains(grade)),
        Mode::Compare => match decision {
            "A" | "a" => Some(1.0),
            "B" | "b" => Some(0.0),
            "C" | "c" | "tie" | "Tie" => Some(0.5),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bracket_decides() {
        let grade = |reply| of_reply(Mode::Grade, reply);
        assert_eq!(grade("It repeats. [[3]]"), Some(3.0));
        assert_eq!(grade("A form like [[9]] is asked for; mine is [[ 7.5 ]]\n"), Some(7.5));
        assert_eq!(grade("8"), Some(8.0));
        assert_eq!(grade("<think>[[2]] perhaps</think>[[6]]"), Some(6.0));
        for nonsense in
            ["", "eight", "[[11]]", "[[0]]", "[[NaN]]", "[[8", "I give 8 of 10", "[[8]] but [[?]]", "<think>[[2]], or"]
        {
            assert_eq!(grade(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn comparisons_are_of_the_first() {
        let compare = |reply| of_reply(Mode::Compare, reply);
        assert_eq!([compare("[[A]]"), compare("x [[B]]"), compare("[[C]]")], [Some(1.0), Some(0.0), Some(0.5)]);
        assert_eq!([compare("[[AB]]"), compare("A is better"), compare("[[1]]")], [None; 3]);
    }
}
