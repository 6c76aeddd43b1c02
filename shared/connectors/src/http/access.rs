//! Which hosts a connection may call (protection against server-side request forgery).
//!
//! A URL can come from data, for instance a link to an attachment or to the next page. Only
//! hosts named in the connection's settings or in the connector's files are called. A host of
//! the settings may be private (a system in the same network); every other must resolve to
//! public addresses. Addresses are checked at the moment of connecting, so that a name cannot
//! change its meaning between check and use.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use serde_json::Value;
use sluice_core::{Error, Result, secret::SecretConfig};
use url::Host;

/// Setting keys whose value, or list of values, is a host name without a scheme.
const HOST_KEYS: [&str; 4] = ["host", "hostname", "domain", "allowed_hosts"];

/// The hosts a connection may call.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    configured: Arc<BTreeSet<String>>,
    public: Arc<BTreeSet<String>>,
}

impl Hosts {
    /// The hosts of all URLs in the settings, and of the keys `host`, `hostname`, `domain` and
    /// `allowed_hosts`.
    pub fn of_config(config: &SecretConfig) -> Self {
        let mut configured = BTreeSet::new();
        collect(config.expose(), false, &mut configured);
        Self {
            configured: Arc::new(configured),
            public: Arc::default(),
        }
    }

    /// Also the hosts of these URLs, as long as they are public.
    pub fn add_public<'a>(&mut self, urls: impl IntoIterator<Item = &'a Url>) {
        let hosts = urls.into_iter().filter_map(|url| url.host_str());
        Arc::make_mut(&mut self.public).extend(hosts.map(str::to_lowercase));
    }

    /// Whether the URL may be called.
    ///
    /// # Errors
    /// `host_not_allowed`, which names the host and says where to allow it.
    pub fn check(&self, url: &Url) -> Result<()> {
        let host = url.host_str().unwrap_or_default().to_lowercase();
        let refused = |why: &str| {
            Error::config(
                "host_not_allowed",
                format!("\"{host}\" may not be called: {why}"),
            )
            .hint("add it to `allowed_hosts` of the connection if it is right")
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("only http and https are"));
        }
        if self.configured.contains(&host) {
            return Ok(());
        }
        if !self.public.contains(&host) {
            return Err(refused(
                "neither the connection nor its connector names this host",
            ));
        }
        if url.scheme() != "https" {
            return Err(refused("hosts outside the settings need https"));
        }
        match url.host() {
            Some(Host::Ipv4(address)) if !is_public(address.into()) => {
                Err(refused("the address is not public"))
            }
            Some(Host::Ipv6(address)) if !is_public(address.into()) => {
                Err(refused("the address is not public"))
            }
            _ => Ok(()),
        }
    }
}

fn collect(value: &Value, is_host: bool, hosts: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let url = if is_host && !text.contains("://") {
                Url::parse(&format!("https://{text}"))
            } else {
                Url::parse(text)
            };
            if let Ok(url) = url
                && matches!(url.scheme(), "http" | "https")
                && let Some(host) = url.host_str()
            {
                hosts.insert(host.to_lowercase());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, is_host, hosts)),
        Value::Object(fields) => {
            for (key, item) in fields {
                collect(item, HOST_KEYS.contains(&key.as_str()), hosts);
            }
        }
        _ => {}
    }
}

/// Resolves names and drops addresses that may not be called.
pub(super) struct Resolver(Hosts);

impl Resolver {
    pub(super) fn new(hosts: Hosts) -> Arc<Self> {
        Arc::new(Self(hosts))
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_lowercase();
        let trusted = self.0.configured.contains(&host);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0))
                .await?
                .filter(|address| {
                    if trusted {
                        !is_link_local(address.ip())
                    } else {
                        is_public(address.ip())
                    }
                })
                .collect();
            if found.is_empty() {
                return Err("the name has no address that may be called".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The IPv4 address inside an IPv6 one: mapped, or translated (NAT64, RFC 6052; 6to4, RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, _, _, _, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        (0x64, 0xff9b) => Some(join(g, h)),
        (0x2002, _) => Some(join(b, c)),
        _ => address.to_ipv4(),
    }
}

/// Link-local addresses reach the machine's own metadata service on the common clouds; no name
/// may lead there.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => {
            v6.segments()[0] & 0xffc0 == 0xfe80 || embedded(v6).is_some_and(|v4| v4.is_link_local())
        }
    }
}

/// Whether the address belongs to the public internet. The ranges are those of the IANA
/// special-purpose registries (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_public_v4(v4),
            // Global unicast without documentation addresses.
            None => v6.segments()[0] & 0xe000 == 0x2000 && v6.segments()[..2] != [0x2001, 0x0db8],
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hosts() -> Hosts {
        let mut hosts = Hosts::of_config(&SecretConfig::new(json!({
            "base_url": "http://127.0.0.1:8080/api?x=1",
            "nested": {"endpoints": ["https://Api.Example.test/v2"]},
            "allowed_hosts": ["files.example.test", "10.1.2.3:9000"],
            "note": "files.elsewhere.test",
        })));
        hosts.add_public([
            &Url::parse("https://fixed.example.test").unwrap(),
            &Url::parse("https://169.254.169.254/").unwrap(),
        ]);
        hosts
    }

    #[test]
    fn only_named_hosts_are_called() {
        let hosts = hosts();
        for (url, allowed) in [
            ("http://127.0.0.1:9/", true),
            ("https://api.example.test/x", true),
            ("https://files.example.test/", true),
            ("http://10.1.2.3/", true),
            ("https://fixed.example.test/", true),
            ("http://fixed.example.test/", false),
            ("https://169.254.169.254/latest", false),
            ("https://files.elsewhere.test/", false),
            ("http://localhost:8080/", false),
            ("http://0x7f.1/", true),
            ("ftp://127.0.0.1/", false),
            ("https://api.example.test.evil.test/", false),
            ("https://api.example.test@evil.test/", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(hosts.check(&url).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn special_addresses_are_not_public() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.31.0.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("2002:0a00:0001::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("2001:db8::1", false),
            ("2606:4700::1111", true),
        ] {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(is_public(ip), public, "{address}");
        }
        assert!(is_link_local("::ffff:169.254.169.254".parse().unwrap()));
    }

    #[tokio::test]
    async fn names_that_lead_inside_are_refused_unless_configured() {
        let resolver = Resolver(hosts());
        assert!(
            resolver
                .resolve("localhost".parse().unwrap())
                .await
                .is_err()
        );
        let config = SecretConfig::new(json!({"base_url": "http://localhost:1"}));
        let resolver = Resolver(Hosts::of_config(&config));
        assert!(resolver.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
