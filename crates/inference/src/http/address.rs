//! The address of a server, and the way to it.

use reqwest::Url;

/// The address that requests go to.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub endpoint: Url,
    /// The base URL without user, password and query: the server's name.
    pub server: String,
    /// The endpoint without user, password and query, for messages.
    pub shown: String,
    /// The proxy of the environment, if one is in the way.
    pub proxy: Option<String>,
}

impl Address {
    /// `path` below a base URL; a base that names an endpoint already (`…/v1/chat/completions`) is taken for its base.
    /// `None` for a text that is no http or https URL.
    pub fn new(base: &str, path: &str) -> Option<Self> {
        let base = Url::parse(base).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
        let trimmed = base.path().trim_end_matches('/');
        let root = trimmed
            .strip_suffix("/chat/completions")
            .or_else(|| trimmed.strip_suffix("/completions"))
            .or_else(|| trimmed.strip_suffix("/embeddings"))
            .unwrap_or(trimmed)
            .trim_end_matches('/');
        let with_path = |path: &str| {
            let mut url = base.clone();
            url.set_path(path);
            url
        };
        let endpoint = with_path(&format!("{root}/{path}"));
        let proxy = proxy(&endpoint);
        let server = shown(with_path(root)).trim_end_matches('/').to_owned();
        Some(Address { server, shown: shown(endpoint.clone()), endpoint, proxy })
    }

    /// The address of a page beside the API: `http://h/v1/chat/completions` is beside `http://h/version`.
    pub fn beside(&self, page: &str) -> Url {
        let path = self.endpoint.path();
        let root = ["/chat/completions", "/completions", "/embeddings"].iter().find_map(|end| path.strip_suffix(end));
        let root = root.unwrap_or(path);
        let root = match root.rsplit_once('/') {
            Some((above, last)) if is_version(last) => above,
            _ => root,
        };
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{root}/{page}"));
        url
    }

    /// An aside on the proxy, for a server that cannot be reached; empty without one.
    pub fn via_proxy(&self) -> String {
        let Some(proxy) = &self.proxy else { return String::new() };
        let host = self.endpoint.host_str().unwrap_or_default();
        format!(", through the proxy {proxy} of the environment (NO_PROXY={host} goes without)")
    }

    /// A hint for an address that does not exist; empty where its path looks like an API's.
    pub fn missing_version(&self) -> String {
        if self.endpoint.path().split('/').any(is_version) {
            String::new()
        } else {
            format!("; most servers' addresses end in a version: {}/v1", self.server)
        }
    }
}

/// True for `v1`, `v1beta`, `v3`.
fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
}

fn shown(mut url: Url) -> String {
    // These fail on URLs that cannot have a user, and http and https can.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// The proxy that the client takes to `url`, by the environment's rules.
fn proxy(url: &Url) -> Option<String> {
    let matcher = hyper_util::client::proxy::matcher::Matcher::from_env();
    let intercept = matcher.intercept(&url.as_str().parse().ok()?)?;
    let proxy = intercept.uri().to_string();
    Some(Url::parse(&proxy).map_or(proxy, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_may_be_written_in_many_ways() {
        for base in [
            "http://localhost:9/v1",
            "http://localhost:9/v1/",
            "http://localhost:9/v1//",
            "http://localhost:9/v1/chat/completions",
            "http://localhost:9/v1/completions/",
            "http://user:secret@localhost:9/v1?token=secret",
        ] {
            let address = Address::new(base, "chat/completions").expect(base);
            assert_eq!(address.server, "http://localhost:9/v1", "{base}");
            assert_eq!(address.shown, "http://localhost:9/v1/chat/completions", "{base}");
        }
        let query = Address::new("https://h/openai?api-version=2026-01-01", "completions").expect("valid");
        assert_eq!(query.endpoint.as_str(), "https://h/openai/completions?api-version=2026-01-01");
        for no_address in ["localhost:9", "ftp://localhost", "", "http://"] {
            assert!(Address::new(no_address, "completions").is_none(), "{no_address}");
        }
    }

    #[test]
    fn pages_are_beside_the_api() {
        for (base, page) in [
            ("http://h:9/v1", "http://h:9/version"),
            ("http://h:9", "http://h:9/version"),
            ("https://h/a/v1/?key=x", "https://h/a/version?key=x"),
        ] {
            assert_eq!(Address::new(base, "completions").expect(base).beside("version").as_str(), page);
        }
    }

    #[test]
    fn a_path_without_a_version_is_suspicious() {
        let hint = |base| Address::new(base, "chat/completions").expect("valid").missing_version();
        assert!(hint("http://localhost:9").ends_with("http://localhost:9/v1"));
        assert_eq!(hint("http://localhost:9/api/v3"), "");
    }
}
