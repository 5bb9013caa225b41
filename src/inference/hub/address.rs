//! Which addresses are spoken to: the hub's own, and where it may send us on.

use std::net::IpAddr;

use reqwest::Url;
use reqwest::redirect::Attempt;

use super::HubError;

/// Accepts https, and plain http on this machine, where nobody else listens.
pub(super) fn check_endpoint(endpoint: &str) -> Result<Url, HubError> {
    let refuse = |fact: &str| HubError::Endpoint { endpoint: endpoint.into(), fact: fact.into() };
    let url = Url::parse(endpoint).map_err(|e| refuse(&e.to_string()))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_this_machine(&url) => Ok(url),
        "http" => Err(refuse("plain http is accepted on this machine only")),
        _ => Err(refuse("it is not an https address")),
    }
}

pub(super) fn follow(endpoint: Option<&Url>, attempt: Attempt<'_>) -> reqwest::redirect::Action {
    const MOST: usize = 10;
    match redirect_refusal(endpoint, attempt.url()) {
        Some(why) => attempt.error(why),
        None if attempt.previous().len() > MOST => attempt.error("too many redirects"),
        None => attempt.follow(),
    }
}

/// Returns why a redirect is not followed. File servers change their names too often for a list of them, so the rule
/// is: within the hub's own address, or to a named host over https. An address in numbers or a local name would let
/// an answer from outside reach into the network this program runs in.
fn redirect_refusal(endpoint: Option<&Url>, to: &Url) -> Option<String> {
    if endpoint.is_some_and(|e| e.origin() == to.origin()) {
        return None;
    }
    let host = to.host_str().unwrap_or_default();
    let is_local = host.ends_with(".local") || host.ends_with(".internal") || !host.contains('.');
    if to.scheme() != "https" {
        Some(format!("it redirects to {}://{host}, which is not https", to.scheme()))
    } else if is_this_machine(to) || is_local || host_ip(to).is_some() {
        Some(format!("it redirects to {host}, which is not a public name"))
    } else {
        None
    }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.ends_with(".localhost") || host_ip(url).is_some_and(|ip| ip.is_loopback())
}

fn host_ip(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_endpoint_is(endpoint: &str, accepted: bool) {
        assert_eq!(check_endpoint(endpoint).is_ok(), accepted, "{endpoint}");
    }

    #[test]
    fn only_https_or_this_machine_may_be_the_hub() {
        for good in ["https://huggingface.co", "http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:9"] {
            check_endpoint_is(good, true);
        }
        for bad in ["http://huggingface.co", "http://127.0.0.1.example.org", "ftp://x", "file:///etc", "x", ""] {
            check_endpoint_is(bad, false);
        }
    }

    #[test]
    fn redirects_stay_on_the_hub_or_go_to_a_named_host_over_https() {
        let refused = |endpoint: &str, to: &str| {
            redirect_refusal(Some(&Url::parse(endpoint).unwrap()), &Url::parse(to).unwrap()).is_some()
        };
        let hub = "https://huggingface.co";
        assert!(!refused(hub, "https://huggingface.co/api/resolve-cache/x"));
        assert!(!refused(hub, "https://cas-bridge.xethub.hf.co/x?sig=1"));
        for bad in [
            "http://cdn.example.org/x",
            "file:///etc/passwd",
            "https://127.0.0.1/x",
            "https://169.254.169.254/latest",
            "https://10.0.0.1/x",
            "https://[fe80::1]/x",
            "https://localhost/x",
            "https://intranet/x",
            "https://vault.internal/x",
            "http://127.0.0.1:8080/x",
        ] {
            assert!(refused(hub, bad), "{bad}");
        }
        assert!(!refused("http://127.0.0.1:8080", "http://127.0.0.1:8080/y"));
        assert!(refused("http://127.0.0.1:8080", "http://127.0.0.1:8081/y"));
    }
}
