//! Servers of one run that say different things of themselves.

use smpo_inference::Served;

/// Names of one kind that several servers give, where they are not all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The kind of names: models or versions.
    pub names: &'static str,
    /// Each server with its names.
    pub servers: Vec<(String, Vec<String>)>,
}

/// Names of one kind that a server gives itself.
type NamesOf = fn(&Served) -> Vec<String>;

/// Compares what servers say of themselves; one that says nothing of a kind disagrees with nobody.
pub fn disagreements(servers: &[(String, Served)]) -> Vec<Disagreement> {
    let kinds: [(_, NamesOf); 2] = [
        ("models", |served| served.models.iter().cloned().collect()),
        ("versions", |served| served.fingerprints.iter().cloned().collect()),
    ];
    let compared = kinds.into_iter().map(|(names, of)| {
        let named = servers.iter().map(|(server, served)| (server.clone(), of(served)));
        Disagreement { names, servers: named.filter(|(_, names)| !names.is_empty()).collect() }
    });
    compared.filter(|one| one.servers.windows(2).any(|two| two[0].1 != two[1].1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(models: &[&str], versions: &[&str]) -> Served {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Served { models: set(models), fingerprints: set(versions), ..Served::default() }
    }

    #[test]
    fn only_servers_that_give_names_disagree() {
        let all = |servers: &[Served]| {
            let named = servers.iter().enumerate().map(|(index, served)| (format!("s{index}"), served.clone()));
            disagreements(&named.collect::<Vec<_>>())
        };
        assert!(all(&[served(&["m"], &["1"]), served(&[], &[]), served(&["m"], &["1"])]).is_empty());
        let found = all(&[served(&["m"], &["1"]), served(&[], &["1"]), served(&["other"], &[])]);
        let [Disagreement { names: "models", servers }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(*servers, [("s0".to_owned(), vec!["m".to_owned()]), ("s2".to_owned(), vec!["other".to_owned()])]);
        let kinds: Vec<&str> =
            all(&[served(&["m"], &["1"]), served(&["n"], &["2"])]).iter().map(|one| one.names).collect();
        assert_eq!(kinds, ["models", "versions"]);
    }
}
