//! Where packages come from: the node's settings of uv, and those of pip where uv has none.
//!
//! A node behind a mirror is usually set up for pip, by `PIP_*` variables or a `pip.conf`; uv reads neither. What they
//! say of indexes, links, certificates, trusted hosts and the proxy is passed on, unless a `UV_*` variable or a
//! `uv.toml` of the node speaks of the same. Two indexes are not treated as pip would: uv takes a package from the
//! first index that has it, which is what keeps an outsider from slipping in a package of an internal name;
//! `UV_INDEX_STRATEGY=unsafe-best-match` in the node's environment brings pip's way back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::EnvironmentsConfig;
use crate::redact::{Redactor, strip_user_info};

/// What the node says.
#[derive(Debug, Default)]
pub(crate) struct IndexSettings {
    /// Variables for uv, beside those that the node has set itself.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// No index is to be asked, only links. uv has no variable for that.
    pub(crate) no_index: bool,
    /// What changes the result, for the key; without credentials.
    pub(crate) canonical: String,
}

/// Variables of uv that change how it works but not what it installs; any other is part of the key, so that one that
/// is not known here costs a build and not a wrong environment.
const NEUTRAL: [&str; 24] = [
    "UV_CACHE_DIR",
    "UV_COMPILE_BYTECODE",
    "UV_CONCURRENT",
    "UV_CREDENTIALS_DIR",
    "UV_ENV_FILE",
    "UV_HTTP",
    "UV_INSECURE_HOST",
    "UV_INSTALL",
    "UV_KEYRING",
    "UV_LINK_MODE",
    "UV_LOCK_TIMEOUT",
    "UV_LOG",
    "UV_NATIVE_TLS",
    "UV_NO_CACHE",
    "UV_NO_PROGRESS",
    "UV_OFFLINE",
    "UV_PROJECT",
    "UV_PUBLISH",
    "UV_PYTHON",
    "UV_REQUEST_TIMEOUT",
    "UV_SHOW",
    "UV_SYSTEM_CERTS",
    "UV_TOOL",
    "UV_UPLOAD",
];
const SECRET: [&str; 3] = ["USERNAME", "PASSWORD", "TOKEN"];

/// Reads what the node says. `prefix` is the interpreter's, below which pip looks too.
pub(crate) fn read(config: &EnvironmentsConfig, prefix: &Path, redactor: &mut Redactor) -> IndexSettings {
    let mut settings = IndexSettings::default();
    let mut seen = BTreeMap::new();
    let mut uv_files = String::new();
    for path in uv_config_files(config) {
        if let Ok(text) = fs::read_to_string(&path) {
            redactor.learn(&text);
            uv_files.push_str(&strip_user_info(&text));
        }
    }
    let in_uv_files = |word: &str| {
        uv_files
            .lines()
            .any(|line| line.trim_start().trim_start_matches('[').starts_with(word))
    };
    for (name, value) in &config.node_env {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
            continue;
        };
        if name.starts_with("UV_") && SECRET.iter().any(|part| name.contains(part)) {
            redactor.learn(&format!("x://{value}@"));
        } else if name.starts_with("UV_") && !value.is_empty() {
            redactor.learn(value);
            if !NEUTRAL.iter().any(|prefix| name.starts_with(prefix)) {
                seen.insert(name.to_owned(), strip_user_info(value).into_owned());
            }
        }
    }
    let pip = PipSettings::read(config, prefix);
    for rule in &RULES {
        let Some(value) = pip.get(rule.pip) else { continue };
        redactor.learn(&value);
        let uv_says = rule.unless.iter().any(|name| config.var(name).is_some());
        if uv_says || rule.in_file.is_some_and(in_uv_files) {
            continue;
        }
        let Some(value) = (rule.convert)(&value) else {
            continue;
        };
        if rule.in_key {
            seen.insert(rule.uv.to_owned(), strip_user_info(&value).into_owned());
        }
        settings.env.push((rule.uv.into(), value.into()));
    }
    let no_index = pip.get("no-index").is_some_and(|value| is_yes(&value));
    if no_index && !in_uv_files("no-index") {
        settings.no_index = true;
        seen.insert("no-index".to_owned(), "1".to_owned());
    }
    settings.canonical = seen
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect::<String>()
        + &uv_files;
    settings
}

struct Rule {
    pip: &'static str,
    uv: &'static str,
    /// Variables that say it already.
    unless: &'static [&'static str],
    /// How a line of a `uv.toml` starts that says it already.
    in_file: Option<&'static str>,
    in_key: bool,
    convert: fn(&str) -> Option<String>,
}

const RULES: [Rule; 7] = [
    Rule {
        pip: "index-url",
        uv: "UV_DEFAULT_INDEX",
        unless: &["UV_DEFAULT_INDEX", "UV_INDEX_URL"],
        in_file: Some("index"),
        in_key: true,
        convert: one,
    },
    Rule {
        pip: "extra-index-url",
        uv: "UV_INDEX",
        unless: &["UV_INDEX", "UV_EXTRA_INDEX_URL"],
        in_file: Some("index"),
        in_key: true,
        convert: words,
    },
    Rule {
        pip: "find-links",
        uv: "UV_FIND_LINKS",
        unless: &["UV_FIND_LINKS"],
        in_file: Some("find-links"),
        in_key: true,
        convert: links,
    },
    Rule {
        pip: "cert",
        uv: "SSL_CERT_FILE",
        unless: &["SSL_CERT_FILE", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"],
        in_file: Some("native-tls"),
        in_key: false,
        convert: one,
    },
    Rule {
        pip: "trusted-host",
        uv: "UV_INSECURE_HOST",
        unless: &["UV_INSECURE_HOST"],
        in_file: Some("allow-insecure-host"),
        in_key: false,
        convert: words,
    },
    Rule {
        pip: "proxy",
        uv: "ALL_PROXY",
        unless: &["ALL_PROXY", "HTTPS_PROXY", "https_proxy", "all_proxy"],
        in_file: None,
        in_key: false,
        convert: one,
    },
    Rule {
        pip: "default-timeout",
        uv: "UV_HTTP_TIMEOUT",
        unless: &["UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT"],
        in_file: None,
        in_key: false,
        convert: |value| {
            value
                .trim()
                .parse::<u32>()
                .ok()
                .map(|seconds| seconds.to_string())
        },
    },
];

fn one(value: &str) -> Option<String> {
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

fn words(value: &str) -> Option<String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    one(&words.join(" "))
}

/// uv separates links by commas, and fails on a directory that is missing, where pip only warns.
fn links(value: &str) -> Option<String> {
    let links: Vec<&str> = value
        .split_whitespace()
        .filter(|link| link.contains("://") || Path::new(link).exists())
        .collect();
    one(&links.join(","))
}

fn is_yes(value: &str) -> bool {
    let yes = ["1", "true", "yes", "on", "y", "t"];
    yes.contains(&value.trim().to_ascii_lowercase().as_str())
}

fn uv_config_files(config: &EnvironmentsConfig) -> Vec<PathBuf> {
    if config.var("UV_NO_CONFIG").is_some() {
        return Vec::new();
    }
    if let Some(file) = config.var("UV_CONFIG_FILE") {
        return vec![file.into()];
    }
    user_config(config)
        .into_iter()
        .map(|dir| dir.join("uv/uv.toml"))
        .chain([PathBuf::from("/etc/uv/uv.toml")])
        .collect()
}

fn user_config(config: &EnvironmentsConfig) -> Option<PathBuf> {
    match config.var("XDG_CONFIG_HOME") {
        Some(dir) => Some(dir.into()),
        None => Some(Path::new(config.var("HOME")?).join(".config")),
    }
}

/// pip's settings: its variables, and its files from the one that wins to the one that loses.
struct PipSettings<'c> {
    config: &'c EnvironmentsConfig,
    /// `[install]` of every file, then `[global]` of every file, which is the order in which pip heeds them.
    sections: Vec<BTreeMap<String, String>>,
}

impl<'c> PipSettings<'c> {
    fn read(config: &'c EnvironmentsConfig, prefix: &Path) -> Self {
        let named = config.var("PIP_CONFIG_FILE").map(PathBuf::from);
        let mut files = Vec::new();
        if named.as_deref() != Some(Path::new("/dev/null")) {
            files.extend(named);
            files.push(prefix.join("pip.conf"));
            files.extend(user_config(config).map(|dir| dir.join("pip/pip.conf")));
            files.extend(
                config
                    .var("HOME")
                    .map(|home| Path::new(home).join(".pip/pip.conf")),
            );
            files.extend(config.pip_config_files.iter().cloned());
        }
        let texts: Vec<String> = files
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .collect();
        let sections = ["install", "global"]
            .iter()
            .flat_map(|section| texts.iter().map(move |text| read_section(text, section)))
            .collect();
        Self { config, sections }
    }

    fn get(&self, name: &str) -> Option<String> {
        let var = format!("PIP_{}", name.to_ascii_uppercase().replace('-', "_"));
        if let Some(value) = self.config.text_var(&var) {
            return Some(value.to_owned());
        }
        self.sections
            .iter()
            .find_map(|section| section.get(name))
            .cloned()
    }
}

/// One section of an INI file as Python's configparser reads it: `key = value` or `key: value`, indented lines go on.
fn read_section(text: &str, section: &str) -> BTreeMap<String, String> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut inside = false;
    let mut last: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with(char::is_whitespace) {
            if let Some(value) = last.as_ref().and_then(|key| values.get_mut(key)) {
                value.push('\n');
                value.push_str(trimmed);
            }
            continue;
        }
        last = None;
        if let Some(name) = trimmed.strip_prefix('[') {
            inside = name.strip_suffix(']') == Some(section);
        } else if let Some((key, value)) = trimmed.split_once(['=', ':'])
            && inside
        {
            let key = key.trim().to_ascii_lowercase().replace('_', "-");
            values.insert(key.clone(), value.trim().to_owned());
            last = Some(key);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)], home: &Path) -> IndexSettings {
        let mut env: Vec<(OsString, OsString)> = vars.iter().map(|(k, v)| (k.into(), v.into())).collect();
        env.push(("HOME".into(), home.into()));
        let mut config = EnvironmentsConfig::new(home.join("cache"), env);
        config.pip_config_files = Vec::new();
        read(&config, home, &mut Redactor::default())
    }

    fn value<'s>(settings: &'s IndexSettings, name: &str) -> Option<&'s str> {
        settings
            .env
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.to_str())
    }

    #[test]
    fn pips_settings_are_passed_on_and_uvs_own_win() {
        let home = tempfile::tempdir().unwrap();
        let conf = home.path().join(".config/pip/pip.conf");
        fs::create_dir_all(conf.parent().unwrap()).unwrap();
        let text = "[global]\nindex-url = https://u:hunter22@a.test/simple\nextra-index-url =\n    https://b.test\n    https://c.test\n\
                    [install]\nfind_links: /nowhere https://d.test/links\ntrusted-host = a.test\n";
        fs::write(&conf, text).unwrap();
        let found = settings(&[], home.path());
        assert_eq!(
            value(&found, "UV_DEFAULT_INDEX"),
            Some("https://u:hunter22@a.test/simple")
        );
        assert_eq!(value(&found, "UV_INDEX"), Some("https://b.test https://c.test"));
        assert_eq!(value(&found, "UV_FIND_LINKS"), Some("https://d.test/links"));
        assert_eq!(value(&found, "UV_INSECURE_HOST"), Some("a.test"));
        assert!(!found.canonical.contains("hunter22"), "{}", found.canonical);
        assert!(
            !found.canonical.contains("INSECURE"),
            "a trusted host changes no result"
        );

        assert!(!found.no_index);

        let none = settings(&[("PIP_NO_INDEX", "1")], home.path());
        assert!(none.no_index);
        assert_ne!(none.canonical, found.canonical);
        let found = settings(&[("PIP_INDEX_URL", "https://e.test")], home.path());
        assert_eq!(value(&found, "UV_DEFAULT_INDEX"), Some("https://e.test"));
        let found = settings(&[("UV_INDEX_URL", "https://f.test")], home.path());
        assert_eq!(value(&found, "UV_DEFAULT_INDEX"), None);
        assert!(found.canonical.contains("UV_INDEX_URL=https://f.test"));
    }

    #[test]
    fn a_token_that_changes_builds_nothing_and_an_index_that_changes_does() {
        let home = tempfile::tempdir().unwrap();
        let key = |url: &str| settings(&[("UV_INDEX_URL", url)], home.path()).canonical;
        assert_eq!(key("https://u:one@a.test/"), key("https://u:two@a.test/"));
        assert_ne!(key("https://a.test/"), key("https://b.test/"));
        let cache = settings(
            &[("UV_CACHE_DIR", "/x"), ("UV_INDEX_A_PASSWORD", "hunter22")],
            home.path(),
        );
        assert_eq!(cache.canonical, "");
    }
}
