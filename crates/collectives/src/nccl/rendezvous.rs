//! The place where ranks meet: NCCL's own rendezvous, at an address that all know from their launcher.

use crate::{CollectiveError, Launched};

/// NCCL's variable of the address, `HOST:PORT`.
pub(super) const VARIABLE: &str = "NCCL_COMM_ID";

/// The address that the first rank listens at: `NCCL_COMM_ID` as given, or the port after `MASTER_PORT` of `MASTER_ADDR`:
/// torchrun's own store listens at that.
pub(super) fn address(
    launched: &Launched,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<String, CollectiveError> {
    if let Some(given) = variable(VARIABLE) {
        return Ok(given);
    }
    let launcher = launched.launcher.command();
    let (Some(host), Some(port)) = (variable("MASTER_ADDR"), variable("MASTER_PORT")) else {
        let message = format!(
            "expected MASTER_ADDR and MASTER_PORT, or NCCL_COMM_ID=HOST:PORT, the same on all ranks, got neither; {launcher} does \
             not set them: set them to the first rank's machine and a free port there (docs/distributed.md)"
        );
        return Err(CollectiveError::Start { library: "NCCL", message });
    };
    let next = port.trim().parse::<u16>().ok().filter(|port| *port > 0).and_then(|port| port.checked_add(1));
    let Some(next) = next else {
        let expected = "a port from 1 to 65534".to_owned();
        return Err(CollectiveError::Variable { name: "MASTER_PORT".to_owned(), expected, got: port, launcher });
    };
    let host = host.trim();
    // IPv6 addresses have colons of their own.
    Ok(if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{next}") } else { format!("{host}:{next}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Launcher;

    fn found(variables: &[(&str, &str)]) -> Result<String, String> {
        let launched = Launched { launcher: Launcher::OpenMpi, rank: 1, world: 2, local_rank: 1 };
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        address(&launched, find).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_the_port_after_the_launchers() {
        assert_eq!(found(&[("MASTER_ADDR", "node-0"), ("MASTER_PORT", "29500")]), Ok("node-0:29501".into()));
        assert_eq!(found(&[("MASTER_ADDR", "fe80::1"), ("MASTER_PORT", "1")]), Ok("[fe80::1]:2".into()));
        let given = [("NCCL_COMM_ID", "10.0.0.1:7"), ("MASTER_ADDR", "node-0"), ("MASTER_PORT", "29500")];
        assert_eq!(found(&given), Ok("10.0.0.1:7".into()));
    }

    #[test]
    fn what_is_missing_or_senseless_is_named() {
        let error = found(&[("MASTER_ADDR", "node-0")]).unwrap_err();
        assert!(error.contains("mpirun does not set them"), "{error}");
        for port in ["65535", "0", "port", ""] {
            let error = found(&[("MASTER_ADDR", "node-0"), ("MASTER_PORT", port)]).unwrap_err();
            assert!(
                error.contains("MASTER_PORT: expected a port") && error.contains(&format!("got `{port}`")),
                "{error}"
            );
        }
    }
}
