//! A check as one word of a command line.

use std::str::FromStr;

use super::kind::{Check, CheckError, HttpCheck, ScriptCheck, TlsCheck, UdpCheck};
use super::payload;

impl FromStr for Check {
    type Err = CheckError;

    /// `tcp`, `http:/PATH`, `http://HOST/PATH`, both with `https`, `udp:TEXT`, `script:/PATH`.
    fn from_str(text: &str) -> Result<Self, CheckError> {
        let unknown = || CheckError::Kind(text.to_owned());
        let check = match text.split_once(':') {
            None if text == "tcp" => Self::Tcp,
            Some(("http", rest)) => Self::Http(http(rest, None).ok_or_else(unknown)?),
            Some(("https", rest)) => Self::Http(http(rest, Some(TlsCheck::default())).ok_or_else(unknown)?),
            Some(("udp", text)) => Self::Udp(UdpCheck { payload: payload::parse(text)?, answer: None }),
            Some(("script", path)) if path.starts_with('/') => {
                Self::Script(ScriptCheck { command: vec![path.to_owned()] })
            }
            _ => return Err(unknown()),
        };
        check.validate()?;
        Ok(check)
    }
}

/// `/PATH` or `//HOST/PATH`, as in a URL, whose path may be left out.
fn http(text: &str, tls: Option<TlsCheck>) -> Option<HttpCheck> {
    let (host, path) = match text.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(rest[..end].to_owned()), &rest[end..])
        }
        None => (None, text),
    };
    let path = match path.chars().next() {
        Some('/') => path.to_owned(),
        Some('?') if host.is_some() => format!("/{path}"),
        None if host.is_some() => "/".to_owned(),
        _ => return None,
    };
    Some(HttpCheck { tls, path, host, ..HttpCheck::default() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(host: Option<&str>, path: &str) -> Check {
        Check::Http(HttpCheck {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            ..HttpCheck::default()
        })
    }

    #[test]
    fn each_kind_has_its_word() {
        let tls = |host: Option<&str>, path| {
            let Check::Http(http) = plain(host, path) else { unreachable!() };
            Check::Http(HttpCheck { tls: Some(TlsCheck::default()), ..http })
        };
        let udp = |payload: &[u8]| Check::Udp(UdpCheck { payload: payload.to_vec(), answer: None });
        for (text, check) in [
            ("tcp", Check::Tcp),
            ("http:/health", plain(None, "/health")),
            ("http:/a?b=c:d", plain(None, "/a?b=c:d")),
            ("http://shop.example/health", plain(Some("shop.example"), "/health")),
            ("http://shop.example", plain(Some("shop.example"), "/")),
            ("http://[fd77::1]:8080?deep", plain(Some("[fd77::1]:8080"), "/?deep")),
            ("https:/", tls(None, "/")),
            ("https://shop.example:8443/x", tls(Some("shop.example:8443"), "/x")),
            (r"udp:\x00ping: 1\n", udp(b"\x00ping: 1\n")),
            ("udp:", udp(b"")),
            ("script:/opt/check", Check::Script(ScriptCheck { command: vec!["/opt/check".to_owned()] })),
        ] {
            assert_eq!(text.parse(), Ok(check), "{text}");
        }
    }

    #[test]
    fn what_is_none_of_them_is_told_what_there_is() {
        let said = |text: &str| text.parse::<Check>().unwrap_err().to_string();
        for bad in
            ["", "udp", "http", "http:", "http:health", "TCP", "tcp:", "tcp:80", "ftp:/x", "script:check"]
        {
            assert!(said(bad).starts_with(&format!("`{bad}` is no check: use `tcp`, `http:/PATH`")), "{bad}");
        }
        assert!(said("http:/a b").contains("no path of HTTP"));
        assert!(said("http:///x").contains("no host of HTTP"));
        assert!(said("https://me@shop/").contains("no host of HTTP"));
        assert!(said(r"udp:\q").contains("no escape"));
        assert!(said(&format!("udp:{}", "x".repeat(65_508))).contains("at most 65507"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_what_it_yields_can_be_made(text in "(tcp|https?:|udp:|script:)?\\PC{0,30}") {
            if let Ok(check) = text.parse::<Check>() {
                prop_assert_eq!(check.validate(), Ok(()));
                let json = serde_json::to_string(&check).unwrap();
                prop_assert_eq!(serde_json::from_str::<Check>(&json).unwrap(), check);
            }
        }

        #[test]
        fn any_path_of_a_url_is_taken_as_it_stands(path in "/[a-zA-Z0-9._~%!$&'()*+,;=:@/-]{0,40}") {
            prop_assume!(!path.starts_with("//"));
            prop_assert_eq!(format!("http:{path}").parse::<Check>(), Ok(plain(None, &path)));
        }
    }
}
