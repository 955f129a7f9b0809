//! The API key, further headers and what a URL holds of the kind: read once, sent, and in no message.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::config::HttpConfig;

/// Headers with their secret values, which are left out of its own `Debug`.
#[derive(Clone)]
pub(super) struct Secrets {
    headers: HeaderMap,
    values: Vec<String>,
    key: bool,
}

impl Secrets {
    /// The key of [`HttpConfig::api_key_env`], if that is set, [`HttpConfig::headers`], and user, password and query of `url`.
    ///
    /// # Errors
    /// `(field, expected)` of a value that no header may hold.
    pub fn read(config: &HttpConfig, url: &Url) -> Result<Self, (String, &'static str)> {
        let mut secrets = Secrets { headers: HeaderMap::new(), values: Vec::new(), key: false };
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        let [plain_user, plain_password] =
            [user, password].map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
        // as they are sent, too: servers quote their headers
        secrets.hide(&STANDARD.encode(format!("{plain_user}:{plain_password}")));
        [user, password, &plain_user, &plain_password].iter().for_each(|text| secrets.hide(text));
        for (name, value) in url.query_pairs().filter(|(name, _)| name != VERSION) {
            secrets.hide(&value);
            secrets.hide(url.query().and_then(|query| raw(query, &name)).unwrap_or_default());
        }
        let key =
            std::env::var(&config.api_key_env).ok().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        if let Some(key) = key {
            let problem = || (config.api_key_env.clone(), "a key of visible ASCII characters");
            let value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| problem())?;
            secrets.add(AUTHORIZATION, value, key);
            secrets.key = true;
        }
        for header in &config.headers {
            let problem = || ("a header".to_owned(), "`name: value` in visible ASCII characters");
            let (name, text) = header.split_once(':').ok_or_else(problem)?;
            let name = HeaderName::try_from(name.trim()).map_err(|_| problem())?;
            let text = text.trim();
            let value = HeaderValue::from_str(text).map_err(|_| problem())?;
            secrets.add(name, value, text.to_owned());
        }
        Ok(secrets)
    }

    fn add(&mut self, name: HeaderName, mut value: HeaderValue, text: String) {
        value.set_sensitive(true);
        self.headers.insert(name, value);
        self.hide(&text);
    }

    /// Short values, a version for example, are no secrets, and replacing them would garble messages.
    fn hide(&mut self, text: &str) {
        self.values.extend(Some(text.to_owned()).filter(|text| text.len() >= 6));
    }

    /// The headers of every request.
    pub fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    /// True if nothing says who asks.
    pub fn is_anonymous(&self) -> bool {
        self.headers.is_empty()
    }

    /// `text` without the values: servers quote them in their errors.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            text = text.replace(value, "[key]");
            // "Bearer …", "Basic …"
            if let Some((_, token)) = value.split_once(' ').filter(|(_, token)| token.len() >= 6) {
                text = text.replace(token, "[key]");
            }
        }
        text
    }
}

/// The parameter of a query that says a version, which is no secret.
const VERSION: &str = "api-version";

/// A parameter as a query spells it.
fn raw<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(found, _)| *found == name)).map(|(_, value)| value)
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.key { "[key]" } else { "[hidden]" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_hidden_as_they_are_spelt_and_sent() {
        let url = Url::parse("http://user:p%40ssw0rd!x@host/v1").unwrap();
        let secrets =
            Secrets::read(&HttpConfig { api_key_env: "NO_SUCH_VARIABLE".into(), ..HttpConfig::default() }, &url)
                .unwrap();
        let text = "Basic dXNlcjpwQHNzdzByZCF4, p@ssw0rd!x, p%40ssw0rd!x";
        assert_eq!(secrets.redact(text), "Basic [key], [key], [key]");
    }
}
