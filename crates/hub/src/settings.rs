//! Settings of the Hub, by the variables of `huggingface_hub`.

use std::path::PathBuf;

/// Address, cache and token.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address of the Hub.
    pub endpoint: String,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Access token.
    pub token: Option<String>,
    /// True: nothing is asked for.
    pub offline: bool,
}

impl Settings {
    /// The settings of the environment.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let cache_home = get("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
            let home = get("HOME").or_else(|| get("USERPROFILE"))?;
            Some(PathBuf::from(home).join(".cache"))
        });
        let home = get("HF_HOME").map_or_else(|| cache_home.unwrap_or_default().join("huggingface"), PathBuf::from);
        let cache = get("HF_HUB_CACHE").or_else(|| get("HUGGINGFACE_HUB_CACHE"));
        let token_file = get("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let stored = || std::fs::read_to_string(token_file).ok();
        let token = get("HF_TOKEN").or_else(stored).map(|token| token.trim().to_string());
        let offline = get("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str()));
        Self {
            endpoint: get("HF_ENDPOINT").map_or_else(
                || "https://huggingface.co".to_string(),
                |endpoint| endpoint.trim_end_matches('/').to_string(),
            ),
            cache: cache.map_or_else(|| home.join("hub"), PathBuf::from),
            token: token.filter(|token| !token.is_empty()),
            offline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use std::path::Path;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string())
        })
    }

    #[test]
    fn variables_are_those_of_huggingface_hub() {
        let plain = settings(&[("HOME", "/h")]);
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert_eq!((plain.cache.as_path(), plain.offline), (Path::new("/h/.cache/huggingface/hub"), false));
        let home = settings(&[("HF_HOME", "/x"), ("HF_HUB_OFFLINE", "true"), ("HF_TOKEN", " t\n")]);
        assert_eq!((home.cache.as_path(), home.offline), (Path::new("/x/hub"), true));
        assert_eq!(home.token.as_deref(), Some("t"));
        let cache = settings(&[("HF_HOME", "/x"), ("HF_HUB_CACHE", "/y"), ("HF_ENDPOINT", "http://a/")]);
        assert_eq!((cache.cache.as_path(), cache.endpoint.as_str()), (Path::new("/y"), "http://a"));
    }
}
