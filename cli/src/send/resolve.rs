//! Addresses given by hand, as with curl's option of that name.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use url::Url;

/// Where to find a host and port, whatever DNS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolve {
    /// `*` for any.
    host: String,
    port: u16,
    addresses: Vec<IpAddr>,
}

impl FromStr for Resolve {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const FORM: &str = "expected HOST:PORT:ADDRESS[,ADDRESS]...";
        // curl lets an entry with a plus expire: within one run, that is no difference.
        let (host, rest) = text.strip_prefix('+').unwrap_or(text).split_once(':').context(FORM)?;
        let (port, addresses) = rest.split_once(':').context(FORM)?;
        if host.is_empty() {
            bail!(FORM);
        }
        let port = port.parse().context("the port is a number below 65536")?;
        let address = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            bare.parse().with_context(|| format!("{text:?} is no IP address"))
        };
        let addresses = addresses.split(',').map(address).collect::<Result<_>>()?;
        Ok(Self { host: host.to_owned(), port, addresses })
    }
}

impl Resolve {
    /// The addresses for a URL, if it is this host and port that the URL names.
    pub(super) fn addresses(&self, url: &Url) -> Option<Vec<SocketAddr>> {
        let port = url.port_or_known_default().filter(|port| *port == self.port)?;
        let host = url.domain()?;
        let fits = self.host == "*" || self.host.eq_ignore_ascii_case(host);
        fits.then(|| self.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn addresses(entry: &str, url: &str) -> Option<Vec<String>> {
        let found = entry.parse::<Resolve>().unwrap().addresses(&Url::parse(url).unwrap());
        found.map(|found| found.iter().map(SocketAddr::to_string).collect())
    }

    #[test]
    fn an_entry_is_for_one_host_and_port() {
        let one = Some(vec!["192.0.2.1:443".to_owned()]);
        for (entry, url, expected) in [
            ("lock.example:443:192.0.2.1", "https://lock.example/x", one.clone()),
            ("+LOCK.example:443:192.0.2.1", "https://lock.EXAMPLE/x", one.clone()),
            ("*:443:192.0.2.1", "https://lock.example/x", one),
            ("lock.example:80:192.0.2.1", "https://lock.example/x", None),
            ("lock.example:443:192.0.2.1", "https://lock.example:8443/x", None),
            ("lock.example:443:192.0.2.1", "https://other.example/x", None),
            ("*:443:192.0.2.1", "https://192.0.2.2/x", None),
        ] {
            assert_eq!(addresses(entry, url), expected, "{entry} {url}");
        }
        let several = addresses("a:80:192.0.2.1,[2001:db8::1],2001:db8::2", "http://a/").unwrap();
        assert_eq!(several, ["192.0.2.1:80", "[2001:db8::1]:80", "[2001:db8::2]:80"]);
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for entry in ["", "a", "a:80", "a:80:", "a:80:b", "a:b:192.0.2.1", ":80:192.0.2.1", "a:80:192.0.2.1,", "-a:80"]
        {
            assert!(entry.parse::<Resolve>().is_err(), "{entry}");
        }
    }
}
